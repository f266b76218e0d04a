"""The values that `auto` and null in `hardware` become on this machine."""

from dataclasses import replace
from pathlib import Path

from ssd.config.choices import Accelerator, Recompute
from ssd.config.settings import HardwareConfig
from ssd.errors import HardwareError
from ssd.runtime.gpus import visible_gpus
from ssd.runtime.threads import allowed_cores

MEMORY = Path("/proc/meminfo")
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
        tensor_parallel_size=hardware.engine_devices,
        replicas=hardware.replicas if hardware.pool.is_elsewhere else hardware.num_replicas,
        compile_engine=bool(hardware.compile_engine),
    )


def resolve(hardware: HardwareConfig) -> HardwareConfig:
    """`assume`, for a run on this very machine.

    Raises:
        HardwareError: more GPUs or cores are asked for than there are.
    """
    gpus = 0 if hardware.accelerator is Accelerator.cpu else len(visible_gpus())
    if hardware.accelerator is Accelerator.gpu and gpus < (hardware.devices or 1):
        raise HardwareError(
            f"hardware.accelerator=gpu asks for {hardware.devices or 1} GPU(s), "
            f"this machine shows {gpus}: "
            "use hardware=cpu, or check nvidia-smi and CUDA_VISIBLE_DEVICES"
        )
    _require_engines_fit(hardware, gpus)
    return assume(hardware)


def _require_engines_fit(hardware: HardwareConfig, gpus: int) -> None:
    """Raise `HardwareError` where this machine's GPUs, or the cores without any, are too few."""
    if hardware.pool.is_elsewhere:
        return
    spread, replicas = hardware.engine_devices, hardware.num_replicas
    usable = min(hardware.devices or gpus, gpus)
    if gpus and spread > gpus:
        raise HardwareError(
            f"hardware.tensor_parallel_size={spread} exceeds the {gpus} GPU(s) of this machine"
        )
    if gpus and replicas > 1 and spread * replicas > usable:
        each = f" of hardware.tensor_parallel_size={spread}" if spread > 1 else ""
        raise HardwareError(
            f"hardware.replicas={replicas}{each} needs {spread * replicas} GPUs, the run has "
            f"{usable}: set hardware.replicas={max(usable // spread, 1)} at most, or leave it null"
        )
    if not gpus and replicas > (cores := allowed_cores()):
        raise HardwareError(
            f"hardware.replicas={replicas} exceeds the {cores} core(s) of this machine: each needs "
            f"one of its own, set hardware.replicas={cores} at most"
        )


def available_memory() -> int:
    """Bytes of main memory that new processes can use: what is free, and what holds copies of files
    that the system gives up for them."""
    lines = MEMORY.read_text(encoding="utf-8").splitlines()
    (line,) = (line for line in lines if line.startswith("MemAvailable:"))
    return int(line.split()[1]) * 1024
