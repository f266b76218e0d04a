"""The devices that a plan assumes: the configured ones, whether or not this machine has them.

Imports no torch: the driver asks it before any stage.
"""

import functools
import os
import time
from dataclasses import dataclass

import numpy as np

from ssd.config.choices import Accelerator
from ssd.config.settings import HardwareConfig
from ssd.runtime.gpus import visible_gpus

GIB = 2**30
ASSUMED_GIB = 80.0
"""Memory of a GPU where this machine has none: an H100's."""
UTILIZATION = 0.9
"""Share of GPU memory that the engine claims where `hardware.memory_utilization` is null."""
UNKNOWN = "assumed; set plan.device_memory_gib"


@dataclass(frozen=True, slots=True)
class Card:
    """How fast a GPU is by its data sheet."""

    name: str
    """Part of its name in nvidia-smi."""
    tflops: float
    """Dense bf16 products added up in fp32, 1e12 operations per second."""
    bandwidth: float
    """Memory bandwidth, 1e12 bytes per second."""


ASSUMED = Card("H100", 989, 3.35)
CARDS = (
    Card("GH200", 989, 4.0), Card("H200", 989, 4.8), Card("H100 PCIe", 756, 2.0),
    Card("H100 NVL", 835, 3.9), ASSUMED, Card("A100-SXM4-80GB", 312, 2.04),
    Card("A100", 312, 1.55), Card("A10G", 70, 0.6), Card("A10", 125, 0.6), Card("L40S", 362, 0.86),
    Card("L40", 181, 0.86), Card("L4", 121, 0.3), Card("RTX 4090", 165, 1.01),
    Card("RTX 4080 SUPER", 104, 0.74), Card("RTX 4080", 97, 0.72), Card("RTX 4060 Ti", 44, 0.29),
    Card("RTX 3090", 71, 0.94),
)  # fmt: skip
"""NVIDIA's figures; the first that is part of the name counts. GeForce cards add up in fp32 at half
their advertised rate."""


def gib(num_bytes: float) -> str:
    """`80.0 GiB`; `0.001 GiB`."""
    size = num_bytes / GIB
    return f"{size:.1f} GiB" if size >= 0.1 else f"{size:.3f} GiB"


def device_memory(hardware: HardwareConfig, given_gib: float | None) -> tuple[float, str]:
    """Bytes of one training process's memory, and their source in words."""
    devices = hardware.devices or 1
    if given_gib is not None:
        return given_gib * GIB, "plan.device_memory_gib"
    if hardware.accelerator is Accelerator.cpu:
        total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        shared = "" if devices == 1 else f" among {devices} processes"
        return total / devices, f"this machine's main memory{shared}"
    here = visible_gpus()[:devices]
    if not here or any(gpu.memory is None for gpu in here):
        return ASSUMED_GIB * GIB, UNKNOWN
    least = min(here, key=lambda gpu: gpu.free)
    source = "this machine's GPUs" if len(here) == devices else "GPUs like this machine's"
    held = f", less {gib(least.held)} that other programs hold" if least.held else ""
    return least.free, source + held


def peak_tflops(hardware: HardwareConfig) -> tuple[float, str]:
    """1e12 floating-point operations per second of one process's matrix products, and whose: a
    GPU's by its data sheet, an H100's where that is unknown, or its share of what this machine's
    cores reach now."""
    if hardware.accelerator is Accelerator.cpu:
        return cpu_tflops() / (hardware.devices or 1), "this machine's "
    card = find_card(hardware)
    return (ASSUMED.tflops, f"an {ASSUMED.name}'s ") if card is None else (card.tflops, "")


@functools.cache
def cpu_tflops(size: int = 1024) -> float:
    """1e12 floating-point operations per second of this machine's products of fp32 matrices, of the
    fastest of twenty: a fifth of a second."""
    matrix = np.ones((size, size), dtype=np.float32)
    seconds = []
    for _ in range(20):
        started = time.perf_counter()
        matrix @ matrix
        seconds.append(time.perf_counter() - started)
    return 2 * size**3 / min(seconds) / 1e12


def find_card(hardware: HardwareConfig) -> Card | None:
    """The slowest of this machine's GPUs that `hardware` takes, as far as their data sheets are
    known; None where none is."""
    names = [gpu.name for gpu in visible_gpus()[: hardware.devices or 1]]
    cards = [next((card for card in CARDS if card.name in name), None) for name in names]
    return min(filter(None, cards), key=lambda card: card.tflops, default=None)
