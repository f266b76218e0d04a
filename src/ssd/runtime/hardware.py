"""The values that `auto` and null in `hardware` become on this machine."""

import os
from dataclasses import replace

from ssd.config.choices import Accelerator, Recompute
from ssd.config.settings import HardwareConfig
from ssd.errors import HardwareError
from ssd.runtime.gpus import visible_gpus

CPU_SEQUENCES = 64
"""Sequences that the engine decodes at once on a CPU; more would only wait for each other."""


def assume(hardware: HardwareConfig) -> HardwareConfig:
    """Replace `auto` and null by this machine's values and take everything else from the
    configuration. On a CPU recomputing and compiling cost more than they save. Values that depend
    on GPU memory are left to `ssd.plan.choice`."""
    gpus = 0 if hardware.accelerator is Accelerator.cpu else len(visible_gpus())
    on_gpu = gpus > 0 or hardware.accelerator is Accelerator.gpu
    compiles = hardware.compile_training
    hardware = replace(
        hardware,
        accelerator=Accelerator.gpu if on_gpu else Accelerator.cpu,
        devices=hardware.devices or max(gpus, 1),
        compile_training=on_gpu if compiles is None else compiles,
    )
    if on_gpu:
        return hardware
    recompute = hardware.activation_checkpointing
    if recompute is Recompute.auto:
        recomputes = hardware.recompute_layers or hardware.offload_activations
        recompute = Recompute.full if recomputes else Recompute.none
    return replace(
        hardware,
        activation_checkpointing=recompute,
        max_num_seqs=hardware.max_num_seqs or CPU_SEQUENCES,
        compile_engine=bool(hardware.compile_engine),
    )


def resolve(hardware: HardwareConfig) -> HardwareConfig:
    """`assume`, for a run on this very machine.

    Raises:
        HardwareError: a GPU was asked for and there are fewer.
    """
    gpus = 0 if hardware.accelerator is Accelerator.cpu else len(visible_gpus())
    if hardware.accelerator is Accelerator.gpu and gpus < (hardware.devices or 1):
        raise HardwareError(
            f"hardware.accelerator=gpu asks for {hardware.devices or 1} GPU(s), "
            f"this machine shows {gpus}: "
            "use hardware=cpu, or check nvidia-smi and CUDA_VISIBLE_DEVICES"
        )
    if gpus and hardware.tensor_parallel_size > gpus:
        raise HardwareError(
            f"hardware.tensor_parallel_size={hardware.tensor_parallel_size} exceeds "
            f"the {gpus} GPU(s) of this machine"
        )
    return assume(hardware)


def available_memory() -> int:
    """Bytes of main memory that new processes can use."""
    return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
