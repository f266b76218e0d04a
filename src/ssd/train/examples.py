"""The samples of a corpus that training uses: lengths of all, ids of those that a step asks for.

N samples of the corpus, M examples.
"""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from itertools import compress

import numpy as np
from numpy.typing import NDArray

from ssd.config.choices import LongSamples
from ssd.errors import DataError
from ssd.records.stored import StoredSamples
from ssd.train.batches import Example


@dataclass(frozen=True, slots=True, eq=False)
class Examples:
    """Samples as training sees them, in corpus order."""

    samples: StoredSamples
    rows: NDArray[np.int64]
    """(M,) positions in the corpus."""
    num_prompt: NDArray[np.int32]
    """(M,) tokens of the prompt."""
    lengths: NDArray[np.int32]
    """(M,) tokens of prompt and completion, as far as they are trained on."""

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> Example:
        """Example `index`, its ids from disk."""
        row = int(self.rows[index])
        ids = np.concatenate(self.samples.ids(row))[: self.lengths[index]]
        return Example(self.samples.prompt_id(row), ids, int(self.num_prompt[index]))

    @property
    def num_loss_tokens(self) -> NDArray[np.int32]:
        """(M,) completion tokens."""
        return self.lengths - self.num_prompt

    def prompt_id(self, index: int) -> str:
        """The name of an example's prompt."""
        return self.samples.prompt_id(int(self.rows[index]))

    def prompt_ids(self) -> Iterator[str]:
        """Of every example."""
        used = np.isin(np.arange(len(self.samples)), self.rows)
        return compress(self.samples.prompt_ids(), used)


def make_examples(
    samples: StoredSamples,
    seq_len: int,
    policy: LongSamples,
    vocab_size: int,
    unnamed: Collection[int] = (),
) -> tuple[Examples, dict[str, int]]:
    """Examples in corpus order, and how many were skipped or truncated as longer than `seq_len`, or
    skipped for an id of `unnamed`, which no token has: corpora from before engines masked them.

    Raises:
        DataError: a sample is too long and `policy` is `error`, ids exceed the vocabulary,
            or nothing is left.
    """
    nameless = nameless_rows(samples, vocab_size, unnamed)
    lengths = samples.lengths()
    num_prompt, total = lengths[:, 0], lengths.sum(axis=1, dtype=np.int32)
    named = np.ones(len(lengths), dtype=bool)
    named[nameless] = False
    too_long = named & (total > seq_len)
    if policy is LongSamples.error and too_long.any():
        row = int(too_long.argmax())
        raise DataError(
            f"sample {samples.prompt_id(row)} has {total[row]} tokens, train.seq_len is {seq_len}: "
            "raise it, or set train.long_samples=skip or truncate"
        )
    skipped = too_long & ((policy is LongSamples.skip) | (num_prompt >= seq_len))
    rows = np.flatnonzero(named & ~skipped)
    if not len(rows):
        raise DataError(f"no sample fits train.seq_len={seq_len}: raise it")
    counts = {
        "skipped_long_samples": int(skipped.sum()),
        "truncated_samples": int((too_long & ~skipped).sum()),
    }
    examples = Examples(samples, rows, num_prompt[rows], np.minimum(total[rows], seq_len))
    return examples, counts | ({"skipped_unnamed_ids": len(nameless)} if nameless else {})


def nameless_rows(
    samples: StoredSamples, vocab_size: int, unnamed: Collection[int]
) -> Sequence[int]:
    """Samples with an id that no token has. Most corpora are not read for this: no id reaches the
    lowest of them.

    Raises:
        DataError: an id exceeds the vocabulary.
    """
    barred = np.array(sorted(unnamed), dtype=np.int64)
    rows = []
    for row, ids in samples.reaching(min(unnamed, default=vocab_size)):
        if ids.max() >= vocab_size:
            raise DataError(
                f"sample {samples.prompt_id(row)} holds token id {ids.max()}, "
                f"the model knows {vocab_size}: the corpus was made with another tokenizer"
            )
        if np.isin(ids, barred).any():
            rows.append(row)
    return rows
