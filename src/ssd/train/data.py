"""The corpus as batches: every micro-batch carries the loss weights of its whole optimizer step.

B rows, T tokens. The order of samples depends on seed and epoch only, so any number of
devices and any micro-batch size sees the same samples in the same step, and a resumed run
goes on where it stopped.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from lightning import LightningDataModule
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from ssd.config import LongPolicy, Norm
from ssd.errors import DataError
from ssd.generation import Sample


@dataclass(frozen=True, slots=True)
class Example:
    """One sample as training sees it."""

    prompt_id: str
    token_ids: list[int]
    """Prompt and completion."""
    num_prompt: int

    @property
    def num_loss_tokens(self) -> int:
        """Completion tokens; the end token is one of them where the model emitted it."""
        return len(self.token_ids) - self.num_prompt


def make_examples(
    samples: Sequence[Sample], seq_len: int, policy: LongPolicy, vocab_size: int
) -> tuple[list[Example], int]:
    """Examples in corpus order, and how many samples were skipped as longer than `seq_len`.

    Raises:
        DataError: a sample is too long and `policy` is `error`, ids exceed the vocabulary,
            or nothing is left.
    """
    examples, skipped = [], 0
    for sample in samples:
        prompt, completion = sample.training_ids()
        ids = [*prompt, *completion]
        if max(ids) >= vocab_size:
            raise DataError(
                f"sample {sample.prompt_id} holds token id {max(ids)}, "
                f"the model knows {vocab_size}: the corpus was made with another tokenizer"
            )
        if len(ids) > seq_len:
            if policy is LongPolicy.error:
                raise DataError(
                    f"sample {sample.prompt_id} has {len(ids)} tokens, train.seq_len is {seq_len}: "
                    "raise it, or set train.long_samples=skip"
                )
            skipped += 1
            continue
        examples.append(Example(prompt_id=sample.prompt_id, token_ids=ids, num_prompt=len(prompt)))
    if not examples:
        raise DataError(f"no sample fits train.seq_len={seq_len}: raise it")
    return examples, skipped


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


def collate(examples: Sequence[Example], weights: Sequence[float]) -> dict[str, Tensor]:
    """Right-padded rows with a loss weight per predicted token.

    No attention mask is needed: under causal attention a token never sees the padding to its right.

    Returns:
        `input_ids` (B, T), `labels` (B, T) shifted so that position t predicts labels[t], -100
        where no loss is taken, and `weights` (B,), the weight of each loss token of a row.
    """
    longest = max(len(example.token_ids) for example in examples)
    input_ids = torch.zeros(len(examples), longest, dtype=torch.long)  # (B, T)
    labels = torch.full((len(examples), longest), -100, dtype=torch.long)  # (B, T)
    for row, example in enumerate(examples):
        ids = torch.tensor(example.token_ids)
        input_ids[row, : len(ids)] = ids
        labels[row, example.num_prompt - 1 : len(ids) - 1] = ids[example.num_prompt :]
    return {"input_ids": input_ids, "labels": labels, "weights": torch.tensor(weights)}


def loss_weights(examples: Sequence[Example], norm: Norm) -> list[float]:
    """The weight of one loss token in each example, for one whole optimizer step:
    token weights then sum to 1."""
    if norm is Norm.token:
        total = sum(example.num_loss_tokens for example in examples)
        return [1 / total] * len(examples)
    return [1 / (len(examples) * max(example.num_loss_tokens, 1)) for example in examples]


class MicroBatches(Dataset[dict[str, Tensor]]):
    """Every micro-batch of one rank over the whole training, by index."""

    def __init__(
        self,
        examples: list[Example],
        *,
        batch_size: int,
        micro_batch_size: int,
        max_steps: int,
        norm: Norm,
        seed: int,
        rank: int,
        world_size: int,
    ) -> None:
        self.examples = examples
        self.batch_size = batch_size
        self.micro_batch_size = micro_batch_size
        self.accumulation = batch_size // (micro_batch_size * world_size)
        self.max_steps = max_steps
        self.norm = norm
        self.seed = seed
        self.rank = rank
        self.world_size = world_size

    def __len__(self) -> int:
        return self.max_steps * self.accumulation

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        step, part = divmod(index, self.accumulation)
        chosen = [
            self.examples[i]
            for i in step_indices(len(self.examples), self.batch_size, step, self.seed)
        ]
        # Rows of like length share a micro-batch, which saves padding;
        # the sum over the step stays the same.
        chosen.sort(key=lambda example: len(example.token_ids), reverse=True)
        weights = loss_weights(chosen, self.norm)
        first = (part * self.world_size + self.rank) * self.micro_batch_size
        rows = slice(first, first + self.micro_batch_size)
        return collate(chosen[rows], weights[rows])


class FromIndex(Sampler[int]):
    """Indices from `first()` on, asked when iteration starts;
    its length stays that of the whole training."""

    def __init__(self, total: int, first: Callable[[], int]) -> None:
        self.total = total
        self.first = first

    def __len__(self) -> int:
        return self.total

    def __iter__(self) -> Iterator[int]:
        return iter(range(self.first(), self.total))


class CorpusDataModule(LightningDataModule):
    """Feeds the corpus; on resumption it starts at the restored step."""

    def __init__(self, examples: list[Example], **plan: object) -> None:
        super().__init__()
        self.examples = examples
        self.plan = plan

    def train_dataloader(self) -> DataLoader[dict[str, Tensor]]:
        """Micro-batches of this rank, ready made (`batch_size=None`)."""
        assert self.trainer is not None
        batches = MicroBatches(
            self.examples,
            rank=self.trainer.global_rank,
            world_size=self.trainer.world_size,
            **self.plan,  # type: ignore[arg-type]
        )
        trainer = self.trainer
        sampler = FromIndex(len(batches), lambda: trainer.global_step * batches.accumulation)
        return DataLoader(batches, batch_size=None, sampler=sampler)
