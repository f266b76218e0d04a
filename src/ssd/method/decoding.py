"""How the next token is drawn, one type from the configuration to the engine to the report."""

from dataclasses import dataclass
from typing import Self

from ssd.config.settings import TruncationConfig

GREEDY_TEMP = 1e-5
"""Temperatures below are greedy (vLLM's threshold, which the paper's appendix A names)."""


@dataclass(frozen=True, slots=True)
class Decoding:
    """All sampling parameters: penalties and min-p are off in this project (paper, appendix A)."""

    temp: float
    top_k: int | None = None
    top_p: float = 1.0

    @classmethod
    def of(cls, temp: float, truncation: TruncationConfig) -> Self:
        """The decoding that two settings describe."""
        return cls(temp, truncation.top_k, truncation.top_p)

    @property
    def is_greedy(self) -> bool:
        """Whether the most likely token is taken, always."""
        return self.temp < GREEDY_TEMP


@dataclass(frozen=True, slots=True)
class Setting(Decoding):
    """How a model is made to answer: its decoding, and which step of its training."""

    checkpoint_step: int | None = None
    """None for the final model, and for the base model."""

    @property
    def decoding(self) -> Decoding:
        """The decoding alone, without the step."""
        return Decoding(self.temp, self.top_k, self.top_p)
