"""The precision in which this machine computes models that are stored or trained in another."""

from pathlib import Path

from ssd.config.choices import Accelerator, Dtype, Precision
from ssd.config.settings import HardwareConfig, RunConfig

CPU_INFO = Path("/proc/cpuinfo")
BF16_FLAGS = {"flags": "avx512bw", "Features": "bf16"}
"""Per field of CPU_INFO (x86, Arm), what oneDNN's products of bf16 matrices take."""


def multiplies_bf16(hardware: HardwareConfig) -> bool:
    """Whether this machine has fast bf16 products; `hardware` is resolved."""
    if hardware.accelerator is Accelerator.gpu or not CPU_INFO.is_file():
        return True
    for line in CPU_INFO.read_text(encoding="utf-8").splitlines():
        field, _, values = line.partition(":")
        if (flag := BF16_FLAGS.get(field.strip())) is not None:
            # With AVX2 alone PyTorch falls back on a loop: 0.9 GFLOP/s where fp32 had 124.
            return flag in values.split()
    return True


def compute_dtype(dtype: Dtype, hardware: HardwareConfig) -> Dtype:
    """The type in which an engine computes a model of `dtype` on this machine."""
    halved = dtype is Dtype.bfloat16 and not multiplies_bf16(hardware)
    return Dtype.float32 if halved else dtype


def product_precision(precision: Precision, hardware: HardwareConfig) -> Precision:
    """The type of matrix products in a training under `precision` on this machine."""
    return precision if multiplies_bf16(hardware) else Precision.fp32


def note_products(config: RunConfig) -> None:
    """Print a note if bf16 is configured and this CPU has no bf16 products."""
    wants_bf16 = config.model.dtype is Dtype.bfloat16 or config.train.precision is Precision.bf16
    if wants_bf16 and not multiplies_bf16(config.hardware):
        print(
            "note: this CPU has no bf16 products (they need AVX-512), so models that are stored or "
            "trained in bf16 are computed in fp32",
            flush=True,
        )
