"""What an engine is asked and what comes back, and the Parquet record kept between stages."""

import dataclasses
import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, Self

from ssd.artifacts import read_rows, write_rows
from ssd.method.decoding import Decoding

SHARDS = "shards"


@dataclass(frozen=True, slots=True)
class Request:
    """One completion to draw."""

    prompt_id: str
    sample_index: int
    prompt_token_ids: list[int]
    seed: int
    room: int | None = None
    """Tokens that `max_model_len` leaves for the answer; None where the model alone limits it. The
    engine may have been started for longer ones."""

    def max_new_tokens(self, decoding: Decoding) -> int:
        """Where this answer is cut off."""
        cap = decoding.max_new_tokens
        return cap if self.room is None else min(cap, self.room)


@dataclass(frozen=True, slots=True, kw_only=True)
class Logprobs:
    """Natural-log probabilities under the model at temperature 1, before truncation; T tokens."""

    logprobs: list[float]
    """(T,) of the tokens that were drawn."""
    topk_token_ids: list[list[int]]
    """(T, k) most likely tokens, the likeliest first; k = 0 keeps none."""
    topk_logprobs: list[list[float]]
    """(T, k) of these."""


@dataclass(frozen=True, slots=True)
class Completion:
    """What the engine drew."""

    token_ids: list[int]
    """Ends with the stop token where the model emitted one."""
    text: str
    """Decoded without special tokens."""
    finish_reason: str
    """`stop`, or `length` where the cap cut it off."""
    logprobs: Logprobs | None = None
    """None where they were not asked for."""


class Engine(Protocol):
    """A loaded model that draws completions. Whoever starts one closes it, by `with`: processes
    and device memory are given back then and not at the interpreter's exit, where nothing says in
    which order handlers run."""

    def __enter__(self) -> Self: ...

    def __exit__(self, *exception: object) -> None: ...

    def generate(
        self,
        requests: Sequence[Request],
        decoding: Decoding,
        *,
        logprobs: int | None,
        tick: Callable[[int], None],
    ) -> Iterator[tuple[Request, Completion]]:
        """Each request with its completion, in the order in which they end.

        Args:
            logprobs: None for none; otherwise completions carry those of the drawn tokens and of
                this many most likely ones.
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
        return [_sample(row) for row in read_rows(path)]
    samples = [_sample(row) for file in path.glob("*.parquet") for row in read_rows(file)]
    return sorted(samples, key=lambda sample: (sample.prompt_id, sample.sample_index))


def _sample(row: dict[str, Any]) -> Sample:
    row.pop("logprob_sum", None)  # corpora of earlier versions hold it; nothing has read it
    return Sample(**row)
