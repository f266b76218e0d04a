"""vLLM's C++ kernels for norms, in its CPU engine.

The CPU build ships them, and its dispatch offers them to GPUs alone (vLLM 0.32): on CPU each norm
is ten PyTorch operations, together a tenth of a step of 64 sequences of Qwen2.5-0.5B. Importing
this module registers them.
"""

import torch
from torch import Tensor
from vllm import ir

PROVIDER = "ssd"
EXTENSION = f"{__name__}.Registered"
"""The engine's worker extension: naming it makes each of the engine's processes import this
module."""
IR_OP_PRIORITY = {"rms_norm": [PROVIDER], "fused_add_rms_norm": [PROVIDER]}
"""The implementations that the engine uses if a call's arguments allow it."""


def _norm_fits(
    x: Tensor, weight: Tensor | None, epsilon: float, variance_size: int | None = None
) -> bool:
    return variance_size is None and weight is not None and weight.dtype == x.dtype


def _fused_norm_fits(
    x: Tensor,
    x_residual: Tensor,
    weight: Tensor | None,
    epsilon: float,
    variance_size: int | None = None,
) -> bool:
    in_place = x.is_contiguous() and x_residual.is_contiguous()
    return in_place and _norm_fits(x, weight, epsilon, variance_size)


class Registered:
    """Adds nothing to a worker."""


@ir.ops.rms_norm.register_impl(PROVIDER, supports_args=_norm_fits)  # type: ignore[untyped-decorator]
def rms_norm(
    x: Tensor, weight: Tensor | None, epsilon: float, variance_size: int | None = None
) -> Tensor:
    """`x` over its root mean square, times `weight`; both (..., D)."""
    normed = torch.empty(x.shape, dtype=x.dtype)
    # The kernel takes rows to follow each other, which those of a query's heads do not.
    torch.ops._C.rms_norm(normed, x.contiguous(), weight, epsilon)
    return normed


@ir.ops.fused_add_rms_norm.register_impl(  # type: ignore[untyped-decorator]
    PROVIDER, supports_args=_fused_norm_fits, inplace=True
)
def fused_add_rms_norm(
    x: Tensor,
    x_residual: Tensor,
    weight: Tensor | None,
    epsilon: float,
    variance_size: int | None = None,
) -> tuple[Tensor, Tensor]:
    """The norm of `x + x_residual`, and that sum, in place."""
    torch.ops._C.fused_add_rms_norm(x, x_residual, weight, epsilon)
    return x, x_residual
