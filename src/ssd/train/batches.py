"""Samples as tensors: the examples of a corpus, and the input of one forward pass.

B rows, T tokens.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ssd.train.loss import IGNORE


@dataclass(frozen=True, slots=True)
class Example:
    """One sample as training sees it."""

    prompt_id: str
    token_ids: NDArray[np.int64]
    """(T,) prompt and completion."""
    num_prompt: int

    @property
    def num_loss_tokens(self) -> int:
        """Completion tokens; the end token is one of them where the model emitted it."""
        return len(self.token_ids) - self.num_prompt


@dataclass(frozen=True, slots=True)
class MicroBatch:
    """The input of one forward pass: one packed row, or padded rows of one document each.

    No attention mask is needed: a padded row is causal, so no token sees the padding to its right,
    and a packed row's documents are told apart by `lengths`, or by positions that restart.
    """

    input_ids: Tensor
    """(B, T)."""
    position_ids: Tensor
    """(B, T), from 0 in every document."""
    labels: Tensor
    """(B, T), the token each position predicts, or `IGNORE` where no loss is taken."""
    weights: Tensor
    """(B, T), the weight of each position's loss; they sum to 1 over the optimizer step."""
    lengths: list[int] | None = None
    """Tokens of each document of a packed row; None for padded rows."""

    def to(self, device: torch.device) -> "MicroBatch":
        """The same on another device."""
        names = ("input_ids", "position_ids", "labels", "weights")
        moved = {name: getattr(self, name).to(device, non_blocking=True) for name in names}
        return replace(self, **moved)


def collate(examples: Sequence[Example], weights: Sequence[float], *, packing: bool) -> MicroBatch:
    """Lay examples end to end in one row, or one below the other, padded on the right."""
    lengths = [len(example.token_ids) for example in examples]
    shape = (1, sum(lengths)) if packing else (len(examples), max(lengths))
    batch = MicroBatch(
        input_ids=torch.zeros(shape, dtype=torch.long),
        position_ids=torch.zeros(shape, dtype=torch.long),
        labels=torch.full(shape, IGNORE, dtype=torch.long),
        weights=torch.zeros(shape),
        lengths=lengths if packing else None,
    )
    start = 0
    for row, (example, weight) in enumerate(zip(examples, weights, strict=True)):
        ids = torch.as_tensor(example.token_ids)
        place = (0, slice(start, start + len(ids))) if packing else (row, slice(0, len(ids)))
        batch.input_ids[place] = ids
        batch.position_ids[place] = torch.arange(len(ids))
        # Position t predicts token t + 1, so the last position of a document predicts nothing.
        batch.labels[place][example.num_prompt - 1 : len(ids) - 1] = ids[example.num_prompt :]
        batch.weights[place] = weight
        start += len(ids)
    if not packing:
        batch.position_ids[:] = torch.arange(shape[1])
    return batch
