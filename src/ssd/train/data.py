"""The corpus as optimizer steps: which samples, in which rows, and what each token weighs.

Which samples a step trains on depends on seed and epoch only, so packing, devices and
resumption do not change it; a resumed run begins at the step after its last.
"""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

import torch
from lightning import LightningDataModule
from torch.utils.data import DataLoader, IterableDataset

from ssd.config.choices import LongSamples, Norm
from ssd.errors import DataError
from ssd.method.packing import packed_rows, padded_rows
from ssd.records.samples import Sample
from ssd.train.batches import Example, MicroBatch, collate
from ssd.train.objective import OBJECTIVES


def make_examples(
    samples: Sequence[Sample],
    seq_len: int,
    policy: LongSamples,
    vocab_size: int,
    unnamed: Collection[int] = (),
) -> tuple[list[Example], dict[str, int]]:
    """Examples in corpus order, and how many were skipped or truncated as longer than `seq_len`, or
    skipped for an id of `unnamed`, which no token has: corpora from before engines masked them.

    Raises:
        DataError: a sample is too long and `policy` is `error`, ids exceed the vocabulary,
            or nothing is left.
    """
    examples, skipped, truncated, nameless = [], 0, 0, 0
    barred, lowest = set(unnamed), min(unnamed, default=vocab_size)
    for sample in samples:
        prompt, completion = sample.training_ids()
        ids = [*prompt, *completion]
        if max(ids) >= vocab_size:
            raise DataError(
                f"sample {sample.prompt_id} holds token id {max(ids)}, "
                f"the model knows {vocab_size}: the corpus was made with another tokenizer"
            )
        if max(ids) >= lowest and not barred.isdisjoint(ids):
            nameless += 1
            continue
        if len(ids) > seq_len:
            if policy is LongSamples.error:
                raise DataError(
                    f"sample {sample.prompt_id} has {len(ids)} tokens, train.seq_len is {seq_len}: "
                    "raise it, or set train.long_samples=skip or truncate"
                )
            if policy is LongSamples.skip or len(prompt) >= seq_len:
                skipped += 1
                continue
            truncated += 1
            ids = ids[:seq_len]
        examples.append(Example(prompt_id=sample.prompt_id, token_ids=ids, num_prompt=len(prompt)))
    if not examples:
        raise DataError(f"no sample fits train.seq_len={seq_len}: raise it")
    counts = {"skipped_long_samples": skipped, "truncated_samples": truncated}
    return examples, counts | ({"skipped_unnamed_ids": nameless} if nameless else {})


def step_indices(num_examples: int, batch_size: int, step: int, seed: int) -> list[int]:
    """Which examples optimizer step `step` (from 0) trains on: shuffled epochs laid end to end."""
    indices: list[int] = []
    position = step * batch_size
    while len(indices) < batch_size:
        epoch, offset = divmod(position + len(indices), num_examples)
        order = torch.randperm(
            num_examples, generator=torch.Generator().manual_seed(seed * 1_000_003 + epoch)
        ).tolist()
        indices += order[offset : offset + batch_size - len(indices)]
    return indices


def loss_weights(examples: Sequence[Example], norm: Norm) -> list[float]:
    """The weight of one loss token in each example, for one whole optimizer step."""
    return OBJECTIVES[norm].weigh([example.num_loss_tokens for example in examples])


@dataclass(frozen=True, slots=True)
class Step:
    """One optimizer step as one process computes it."""

    index: int
    """From 0."""
    prompt_ids: list[str]
    """Of all samples of the step, on whichever process."""
    micro_batches: list[MicroBatch]
    num_tokens: int
    """Prompt and completion tokens of the step over all processes."""
    num_loss_tokens: int
    """Of the step over all processes."""
    fill: float
    """Share of computed positions that are tokens of samples; padding lowers it, and so does
    waiting for the longest row of another process."""


class Steps(IterableDataset[Step]):
    """The steps `first` to `max_steps` of one process."""

    def __init__(
        self,
        examples: list[Example],
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
            lengths = [len(example.token_ids) for example in self._samples(index)]
            tokens += sum(lengths)
            positions += self._positions(self._rows(lengths), lengths)
        return 1 - tokens / positions

    def _samples(self, index: int) -> list[Example]:
        chosen = step_indices(len(self.examples), self.batch_size, index, self.seed)
        return [self.examples[i] for i in chosen]

    def _rows(self, lengths: list[int]) -> list[list[int]]:
        plan = packed_rows if self.packing else padded_rows
        return plan(lengths, self.micro_batch_tokens, self.world_size)

    def step(self, index: int) -> Step:
        """Step `index`, planned from its samples' lengths."""
        samples = self._samples(index)
        lengths = [len(example.token_ids) for example in samples]
        rows = self._rows(lengths)
        weights = loss_weights(samples, self.norm)
        shortest = min(range(len(samples)), key=lambda i: lengths[i])
        micro_batches = []
        for row in rows[self.rank :: self.world_size]:
            # A process without a sample of its own takes part with one whose weight is 0.
            members = row or [shortest]
            micro_batches.append(
                collate(
                    [samples[i] for i in members],
                    [weights[i] if row else 0.0 for i in members],
                    packing=self.packing,
                )
            )
        return Step(
            index=index,
            prompt_ids=[example.prompt_id for example in samples],
            micro_batches=micro_batches,
            num_tokens=sum(lengths),
            num_loss_tokens=sum(example.num_loss_tokens for example in samples),
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
