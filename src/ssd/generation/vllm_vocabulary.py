"""The mask inside vLLM over ids that no token has.

vLLM's own settings fall short: it takes at most 1,024 ids per request on GPUs, of those allowed and
of those that are made less likely alike, and a vocabulary is larger, its padding sometimes too.
"""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from vllm.v1.sample.logits_processor import BatchUpdate, LogitsProcessor
from vllm.v1.worker.gpu.sample.logits_processor.interface import LogitsProcessor as OnGpu

from ssd.models.vocabulary import unnamed_ids

NAMED_ONLY = f"{__name__}:NamedOnly"


class NamedOnly(LogitsProcessor, OnGpu):
    """Lets no request draw an unnamed id, in vLLM's runner for CPUs and in the one for GPUs, which
    call a processor differently. Both do so before the temperature, and after they have taken the
    log-probabilities that a request asks for."""

    def __init__(self, vllm_config: Any, *_: Any) -> None:
        self.ids = torch.tensor(unnamed_ids(Path(vllm_config.model_config.model)))

    def is_argmax_invariant(self) -> bool:
        return False

    def update_state(self, batch_update: BatchUpdate | None) -> None:
        """Every request is treated alike."""

    def apply(self, logits: Tensor, _: Any = None) -> Tensor:
        self.ids = self.ids.to(logits.device)
        return logits.index_fill_(-1, self.ids, -torch.inf)
