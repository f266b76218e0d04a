"""The flash kernel of the third generation in place of PyTorch's own, which is of the second.

`varlen_attn`, which packed rows go through, calls an operation of PyTorch that FlashAttention-3's
kernels can take over, forward and backward, also below compiled layers. PyTorch calls that a
prototype, and the package's signatures have changed before, so its results are compared first.

H query heads, T tokens, D width of a head.
"""

import torch
from torch import Tensor, nn

from ssd.errors import HardwareError
from ssd.runtime.installation import FLASH_3
from ssd.train.attention import VARLEN, attention_kwargs, varlen_attention

TOLERANCE = 0.02
"""Relative difference of norms: five times the rounding of bf16 (2**-8); a token that is seen or
missed in error changes far more."""
LENGTHS = [1, 129, 70, 312]
WINDOWS = (None, 50)
HEADS, KEY_HEADS, WIDTH = 4, 2, 128


def use_flash_3(device: torch.device) -> None:
    """Let PyTorch's flash attention run in FlashAttention-3's kernels in this process.

    Raises:
        HardwareError: they cannot be loaded, or give other results or gradients than PyTorch's own.
    """
    from torch.nn.attention import activate_flash_attention_impl

    expected = attend(device)
    try:
        activate_flash_attention_impl("FA3")
        computed = attend(device)
    # A package for another PyTorch, CUDA or card fails in any of these ways.
    except (ImportError, OSError, RuntimeError, TypeError) as error:
        cause = str(error).strip().partition("\n")[0]
        raise HardwareError(
            f"{FLASH_3} failed ({type(error).__name__}: {cause}): use hardware.attention=varlen"
        ) from error
    require_close(computed, expected)


def attend(device: torch.device) -> list[Tensor]:
    """Packed attention of random documents, with and without a window, and its gradients."""
    generator = torch.Generator().manual_seed(0)

    def draw(heads: int) -> Tensor:
        values = torch.randn(1, heads, sum(LENGTHS), WIDTH, generator=generator)
        return values.to(device, torch.bfloat16).requires_grad_()

    query, key, value = draw(HEADS), draw(KEY_HEADS), draw(KEY_HEADS)  # (1, H, T, D)
    packed = attention_kwargs(VARLEN, LENGTHS, device)
    results = []
    for window in WINDOWS:
        output, _ = varlen_attention(
            nn.Module(), query, key, value, None, sliding_window=window, **packed
        )
        weights = torch.randn(output.shape, generator=generator).to(output)
        results += [output, *torch.autograd.grad(output, (query, key, value), weights)]
    return [result.detach().float() for result in results]


def require_close(computed: list[Tensor], expected: list[Tensor]) -> None:
    """Raise `HardwareError` if a result differs, or is not finite."""
    for ours, theirs in zip(computed, expected, strict=True):
        difference = float((ours - theirs).norm() / theirs.norm())
        if not difference <= TOLERANCE:
            raise HardwareError(
                f"{FLASH_3} differs from PyTorch's own kernel by {difference:.2g} of the result, "
                f"more than {TOLERANCE}: use hardware.attention=varlen"
            )
