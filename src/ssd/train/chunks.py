"""Sizes of the pieces that training computes in; without torch, because the plan asks too."""

CHUNK_ELEMENTS = 2**25
"""Logits that exist at once (134 MB in fp32), whatever the length of a row."""
MOMENT_BLOCK = 64
"""Weights that share a scale in 8-bit moments that shard. A divisor of all common widths, where
bitsandbytes' 256 is none of 576 or 2880."""


def chunk_size(vocab_size: int) -> int:
    """Loss tokens per chunk."""
    return max(64, CHUNK_ELEMENTS // vocab_size)
