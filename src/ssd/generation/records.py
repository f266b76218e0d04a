"""What an engine is asked and what comes back, and the Parquet record kept between stages."""

import dataclasses
import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from ssd.artifacts import read_rows, write_rows
from ssd.config import TruncationConfig

SHARDS = "shards"
GREEDY_TEMP = 1e-5
"""Temperatures below are greedy (vLLM's threshold, which the paper's appendix A names)."""


@dataclass(frozen=True, slots=True)
class Decoding:
    """Sampling parameters, all of them: penalties and min-p are off in this project
    (paper, appendix A)."""

    temp: float
    top_k: int | None
    top_p: float
    max_new_tokens: int


def decoding(temp: float, truncation: TruncationConfig, max_new_tokens: int) -> Decoding:
    """The decoding that a temperature, a truncation and a length cap describe."""
    return Decoding(
        temp=temp, top_k=truncation.top_k, top_p=truncation.top_p, max_new_tokens=max_new_tokens
    )


@dataclass(frozen=True, slots=True)
class Request:
    """One completion to draw."""

    prompt_id: str
    sample_index: int
    prompt_token_ids: list[int]
    seed: int


@dataclass(frozen=True, slots=True)
class Completion:
    """What the engine drew."""

    token_ids: list[int]
    """Ends with the stop token where the model emitted one."""
    text: str
    """Decoded without special tokens."""
    finish_reason: str
    """`stop`, or `length` where the cap cut it off."""
    logprob_sum: float | None = None
    """Natural-log probability of the completion under the model at temperature 1,
    before truncation; None where it was not asked for."""


class Engine(Protocol):
    """A loaded model that draws completions."""

    def generate(
        self,
        requests: Sequence[Request],
        decoding: Decoding,
        *,
        logprobs: bool,
        tick: Callable[[int], None],
    ) -> Iterator[tuple[Request, Completion]]:
        """Each request with its completion, in the order in which they end.

        Args:
            logprobs: whether completions carry `logprob_sum`.
            tick: called now and then with the number of tokens drawn since the last call.
        """
        ...


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
    logprob_sum: float | None
    train_prompt_token_ids: list[int] | None = None
    train_completion_token_ids: list[int] | None = None
    """Set only by prompt formats that train on another context than they sampled from."""

    def training_ids(self) -> tuple[list[int], list[int]]:
        """Prompt and completion ids that training uses: the stored ones, never re-rendered."""
        if self.train_prompt_token_ids is not None and self.train_completion_token_ids is not None:
            return self.train_prompt_token_ids, self.train_completion_token_ids
        return self.prompt_token_ids, self.completion_token_ids


def request_seed(run_seed: int, prompt_id: str, sample_index: int) -> int:
    """Seed of one request, 63 bits: independent of order, sharding and resumption."""
    digest = hashlib.sha256(f"{run_seed}\0{prompt_id}\0{sample_index}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def write_samples(path: Path, samples: Sequence[Sample]) -> None:
    """Write samples as one Parquet file, atomically."""
    write_rows(path, [dataclasses.asdict(sample) for sample in samples])


def read_samples(path: Path) -> list[Sample]:
    """Samples of one Parquet file, as they stand there; or of all shards of a folder, by prompt id
    and sample index, since shards hold answers in the order in which they ended."""
    if not path.is_dir():
        return [Sample(**row) for row in read_rows(path)]
    samples = [Sample(**row) for file in path.glob("*.parquet") for row in read_rows(file)]
    return sorted(samples, key=lambda sample: (sample.prompt_id, sample.sample_index))
