"""The corpus as optimizer steps: which samples, in which rows, and what each token weighs.

Which samples a step trains on depends on seed and epoch only, so packing, devices and
resumption do not change it; a resumed run begins at the step after its last.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

import torch
from lightning import LightningDataModule
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset

from ssd.config.choices import Norm
from ssd.method.packing import packed_rows, padded_rows
from ssd.train.batches import MicroBatch, collate
from ssd.train.examples import Examples
from ssd.train.objective import WEIGHTS


def step_indices(num_examples: int, batch_size: int, step: int, seed: int) -> list[int]:
    """Which examples optimizer step `step` (from 0) trains on: shuffled epochs laid end to end."""
    indices: list[int] = []
    position = step * batch_size
    while len(indices) < batch_size:
        epoch, offset = divmod(position + len(indices), num_examples)
        order = epoch_order(num_examples, seed, epoch)
        indices += order[offset : offset + batch_size - len(indices)].tolist()
    return indices


@lru_cache(maxsize=2)  # neighbouring steps share an epoch, whose shuffling takes as long as it is
def epoch_order(num_examples: int, seed: int, epoch: int) -> Tensor:
    """(num_examples,) the order in which an epoch visits the examples."""
    generator = torch.Generator().manual_seed(seed * 1_000_003 + epoch)
    return torch.randperm(num_examples, generator=generator)


@dataclass(frozen=True, slots=True)
class Step:
    """One optimizer step as one process computes it."""

    index: int
    """From 0."""
    examples: Examples
    members: list[int]
    """Examples of the step, on whichever process."""
    micro_batches: list[MicroBatch]
    num_tokens: int
    """Prompt and completion tokens of the step over all processes."""
    num_loss_tokens: int
    """Of the step over all processes."""
    fill: float
    """Share of computed positions that are tokens of samples; padding lowers it, and so does
    waiting for the longest row of another process."""

    def prompt_ids(self, limit: int | None = None) -> list[str]:
        """Of the first `limit` examples of the step, or of all; read when they are asked for."""
        return [self.examples.prompt_id(index) for index in self.members[:limit]]


class Steps(IterableDataset[Step]):
    """The steps `first` to `max_steps` of one process."""

    def __init__(
        self,
        examples: Examples,
        *,
        batch_size: int,
        micro_batch_tokens: int,
        packing: bool,
        norm: Norm,
        seed: int,
        max_steps: int,
        first: int = 0,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        self.examples = examples
        self.batch_size = batch_size
        self.micro_batch_tokens = micro_batch_tokens
        self.packing = packing
        self.norm = norm
        self.seed = seed
        self.max_steps = max_steps
        self.first = first
        self.rank = rank
        self.world_size = world_size

    def __len__(self) -> int:
        return self.max_steps - self.first

    def __iter__(self) -> Iterator[Step]:
        return (self.step(index) for index in range(self.first, self.max_steps))

    def padding(self) -> float:
        """Share of computed positions that are no tokens of samples, over all steps."""
        tokens = positions = 0
        for index in range(self.max_steps):
            lengths = self.examples.lengths[self._members(index)].tolist()
            tokens += sum(lengths)
            positions += self._positions(self._rows(lengths), lengths)
        return 1 - tokens / positions

    def _members(self, index: int) -> list[int]:
        return step_indices(len(self.examples), self.batch_size, index, self.seed)

    def _rows(self, lengths: list[int]) -> list[list[int]]:
        plan = packed_rows if self.packing else padded_rows
        return plan(lengths, self.micro_batch_tokens, self.world_size)

    def step(self, index: int) -> Step:
        """Step `index`, planned from its samples' lengths; ids of this process's rows are read."""
        members = self._members(index)
        lengths = self.examples.lengths[members].tolist()
        num_loss_tokens = self.examples.num_loss_tokens[members].tolist()
        rows = self._rows(lengths)
        weights = WEIGHTS[self.norm](num_loss_tokens)
        shortest = min(range(len(members)), key=lambda i: lengths[i])
        micro_batches = []
        for row in rows[self.rank :: self.world_size]:
            # A process without a sample of its own takes part with one whose weight is 0.
            own = row or [shortest]
            micro_batches.append(
                collate(
                    [self.examples[members[i]] for i in own],
                    [weights[i] if row else 0.0 for i in own],
                    packing=self.packing,
                )
            )
        return Step(
            index=index,
            examples=self.examples,
            members=members,
            micro_batches=micro_batches,
            num_tokens=sum(lengths),
            num_loss_tokens=sum(num_loss_tokens),
            fill=sum(lengths) / self._positions(rows, lengths),
        )

    def _positions(self, rows: list[list[int]], lengths: list[int]) -> int:
        """Positions that the processes' time is spent on: in lockstep, as long as the longest."""
        sizes = [
            sum(lengths[i] for i in row)
            if self.packing
            else len(row) * max((lengths[i] for i in row), default=0)
            for row in rows
        ]
        together = [sizes[i : i + self.world_size] for i in range(0, len(rows), self.world_size)]
        return sum(self.world_size * max(part) for part in together)


class CorpusDataModule(LightningDataModule):
    """Feeds the steps that remain."""

    def __init__(self, steps: Steps) -> None:
        super().__init__()
        self.steps = steps

    def train_dataloader(self) -> DataLoader[Step]:
        """Steps of this process, already batched (`batch_size=None`)."""
        assert self.trainer is not None
        self.steps.rank = self.trainer.global_rank
        self.steps.world_size = self.trainer.world_size
        return DataLoader(self.steps, batch_size=None)

    def transfer_batch_to_device(self, batch: Step, *_: object) -> Step:  # type: ignore[override]
        """Micro-batches move to the device one at a time, when they are computed."""
        return batch
