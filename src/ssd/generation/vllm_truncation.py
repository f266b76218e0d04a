"""Truncation inside vLLM's CPU engine.

Its own sorts the whole vocabulary at every step wherever top-p is used: for 64 sequences of Qwen's
151,936 tokens 386 ms, as long as the model itself takes, where picking the top-k first takes 10 ms.
vLLM calls a processor that cannot change the most likely token after the temperature and before its
own truncation, which requests then leave off.
"""

from typing import Any

import torch
from torch import Tensor
from vllm import SamplingParams
from vllm.v1.sample.logits_processor import BatchUpdate, LogitsProcessor

from ssd.method.truncation import truncate_

TRUNCATION = f"{__name__}:Truncation"


class Truncation(LogitsProcessor):
    """Top-k, then top-p, for a batch whose requests all ask for the same."""

    def __init__(self, vllm_config: Any, device: torch.device, is_pin_memory: bool) -> None:
        self.limits: tuple[int, float] | None = None

    def is_argmax_invariant(self) -> bool:
        return True

    def update_state(self, batch_update: BatchUpdate | None) -> None:
        for _, params, _, _ in batch_update.added if batch_update else ():
            self.limits = (params.extra_args or {}).get(TRUNCATION)

    def apply(self, logits: Tensor) -> Tensor:
        return logits if self.limits is None else truncate_(logits, *self.limits)


def ask(params: SamplingParams) -> SamplingParams:
    """Move top-k and top-p from vLLM's own truncation to this one, where both are used."""
    if params.top_k > 0 and params.top_p < 1:
        params.extra_args = {TRUNCATION: (params.top_k, params.top_p)}
        params.top_k, params.top_p = 0, 1.0
    return params
