"""How much of the logits exists at once; without torch, because the plan asks too."""

CHUNK_ELEMENTS = 2**25
"""Logits that exist at once (134 MB in fp32), whatever the length of a row."""


def chunk_size(vocab_size: int) -> int:
    """Loss tokens per chunk."""
    return max(64, CHUNK_ELEMENTS // vocab_size)
