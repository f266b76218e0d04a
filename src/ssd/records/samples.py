"""The Parquet record of what was drawn, of a corpus or of a benchmark's answers.

What holds them as objects reads few: `tables` and `stored`, beside this module, read many."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ssd.artifacts.files import read_rows, write_rows


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One stored completion, of a corpus or of a benchmark;
    `write_samples` and `read_samples` are its only doors."""

    prompt_id: str
    sample_index: int
    seed: int
    prompt_token_ids: list[int]
    completion_token_ids: list[int]
    text: str
    finish_reason: str
    logprobs: list[float] | None = None
    topk_token_ids: list[list[int]] | None = None
    topk_logprobs: list[list[float]] | None = None
    """As in `Logprobs`; None where `sampler.logprobs` asks for none."""
    train_prompt_token_ids: list[int] | None = None
    train_completion_token_ids: list[int] | None = None
    """Set only by prompt formats that train on another context than they sampled from."""

    def training_ids(self) -> tuple[list[int], list[int]]:
        """Prompt and completion ids that training uses: the stored ones, never re-rendered."""
        if self.train_prompt_token_ids is not None and self.train_completion_token_ids is not None:
            return self.train_prompt_token_ids, self.train_completion_token_ids
        return self.prompt_token_ids, self.completion_token_ids


def write_samples(path: Path, samples: Sequence[Sample]) -> None:
    """Write samples as one Parquet file, atomically."""
    write_rows(path, [dataclasses.asdict(sample) for sample in samples])


def read_samples(path: Path) -> list[Sample]:
    """Samples of one Parquet file, in its order; or of all shards of a folder, by prompt id and
    sample index, since shards hold answers in the order in which they ended."""
    if not path.is_dir():
        return [_sample(row) for row in read_rows(path)]
    samples = [_sample(row) for file in path.glob("*.parquet") for row in read_rows(file)]
    return sorted(samples, key=lambda sample: (sample.prompt_id, sample.sample_index))


def _sample(row: dict[str, Any]) -> Sample:
    row.pop("logprob_sum", None)  # corpora of earlier versions hold it; nothing has read it
    return Sample(**row)
