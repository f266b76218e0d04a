"""How tokens are drawn: temperature, truncation, and where an answer is cut off."""

from dataclasses import dataclass

from ssd.config import TruncationConfig

GREEDY_TEMP = 1e-5
"""Temperatures below are greedy (vLLM's threshold, which the paper's appendix A names)."""


@dataclass(frozen=True, slots=True)
class Decoding:
    """Sampling parameters, all of them: penalties and min-p are off in this project
    (paper, appendix A)."""

    temp: float
    top_k: int | None
    top_p: float
    max_new_tokens: int


def decoding(temp: float, truncation: TruncationConfig, max_new_tokens: int) -> Decoding:
    """The decoding that a temperature, a truncation and a length cap describe."""
    return Decoding(
        temp=temp, top_k=truncation.top_k, top_p=truncation.top_p, max_new_tokens=max_new_tokens
    )
