"""The devices a plan is for: those of the configuration, whether or not they are in this machine.

Imports no torch: the driver asks it before any stage.
"""

import os
import subprocess
from dataclasses import replace

from ssd.config import Accelerator, HardwareConfig
from ssd.hardware import count_gpus

GIB = 2**30
ASSUMED_GIB = 80.0
"""Memory of a GPU that is not in this machine: an H100's."""


def assume(hardware: HardwareConfig) -> HardwareConfig:
    """Replace `auto` and null by what is here, and believe the configuration in everything else."""
    gpus = 0 if hardware.accelerator is Accelerator.cpu else count_gpus()
    on_gpu = gpus > 0 or hardware.accelerator is Accelerator.gpu
    return replace(
        hardware,
        accelerator=Accelerator.gpu if on_gpu else Accelerator.cpu,
        devices=hardware.devices or max(gpus, 1),
    )


def device_memory(hardware: HardwareConfig, given_gib: float | None) -> tuple[float, str]:
    """Bytes of one training process's memory, and how they are known."""
    devices = hardware.devices or 1
    if given_gib is not None:
        return given_gib * GIB, "plan.device_memory_gib"
    if hardware.accelerator is Accelerator.cpu:
        total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        shared = "" if devices == 1 else f" among {devices} processes"
        return total / devices, f"this machine's main memory{shared}"
    if count_gpus() >= devices:
        query = ["nvidia-smi", "--query-gpu=memory.total", "--format=csv,noheader,nounits"]
        listed = subprocess.run(query, capture_output=True, text=True, check=False).stdout.split()
        if listed and all(word.isdigit() for word in listed):
            return min(int(word) for word in listed) * 2.0**20, "this machine's GPUs"
    return ASSUMED_GIB * GIB, "assumed; set plan.device_memory_gib"
