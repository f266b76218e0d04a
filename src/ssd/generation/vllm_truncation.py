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
from vllm.v1.sample.logits_processor.builtin import process_dict_updates

from ssd.method.truncation import truncate_

TRUNCATION = f"{__name__}:Truncation"
Limits = tuple[int, float]
"""Top-k and top-p."""


class Truncation(LogitsProcessor):
    """Top-k, then top-p, for each request as it asks."""

    def __init__(self, vllm_config: Any, device: torch.device, is_pin_memory: bool) -> None:
        self.limits: dict[int, Limits] = {}
        """By row of the batch; rows that nothing truncates have none."""

    def is_argmax_invariant(self) -> bool:
        return True

    def update_state(self, batch_update: BatchUpdate | None) -> None:
        process_dict_updates(self.limits, batch_update, _limits)

    def apply(self, logits: Tensor) -> Tensor:
        rows: dict[Limits, list[int]] = {}
        for row, limits in self.limits.items():
            rows.setdefault(limits, []).append(row)
        for limits, its in rows.items():
            if len(its) == len(logits):
                return truncate_(logits, *limits)
            logits[its] = truncate_(logits[its], *limits)
        return logits


def _limits(params: SamplingParams, *_: Any) -> Limits | None:
    limits = (params.extra_args or {}).get(TRUNCATION)
    # A list, where vLLM's engine is another process.
    return None if limits is None else (limits[0], limits[1])


def ask(params: SamplingParams) -> SamplingParams:
    """Move top-k and top-p from vLLM's own truncation to this one, where both are used."""
    if params.top_k > 0 and params.top_p < 1:
        params.extra_args = {TRUNCATION: (params.top_k, params.top_p)}
        params.top_k, params.top_p = 0, 1.0
    return params
