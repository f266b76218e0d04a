"""Resumable generation: shards of requests, each written atomically once all of it is drawn."""

import dataclasses
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ssd.artifacts.names import SHARDS
from ssd.artifacts.seals import drop_damaged
from ssd.errors import PreemptedError, SSDError
from ssd.generation.engine import Completion, Request
from ssd.generation.engines import LazyEngine
from ssd.records.samples import Sample, write_samples
from ssd.records.tables import read_keys
from ssd.runtime.progress import progress_bar

SHARD_SECONDS = 120.0
"""A shard is written after this time even if it is small."""


class AnswerBar:
    """A bar over completions with tokens per second and time left."""

    def __init__(self, label: str, total: int, done: int) -> None:
        self.bar = progress_bar(label, total, done=done, unit="answer")
        self.tokens = 0
        self.started = time.monotonic()

    def tick(self, num_tokens: int) -> None:
        """Count tokens as they are drawn: the first answers of a large batch take minutes."""
        self.tokens += num_tokens
        self.bar.set_postfix_str(f"{self.rate:.0f} tok/s", refresh=False)
        self.bar.update(0)

    @property
    def rate(self) -> float:
        """Tokens per second since the bar was opened."""
        return self.tokens / max(time.monotonic() - self.started, 1e-9)

    def close(self) -> None:
        """Leave the bar standing as it is."""
        self.bar.close()


@dataclass(frozen=True, slots=True)
class Part:
    """Requests of a queue whose answers are stored together."""

    folder: Path
    requests: Sequence[Request]


def generate_shards(
    folder: Path,
    requests: Sequence[Request],
    *,
    engine: LazyEngine,
    shard_size: int,
    label: str,
    logprobs: int | None = None,
) -> dict[str, Any]:
    """`generate_queue` of a single part; its facts."""
    queue = generate_queue(
        [Part(folder, requests)],
        engine=engine,
        shard_size=shard_size,
        label=label,
        logprobs=logprobs,
    )
    ((_, facts),) = queue
    return facts


def generate_queue(
    parts: Sequence[Part],
    *,
    engine: LazyEngine,
    shard_size: int,
    label: str,
    logprobs: int | None = None,
) -> Iterator[tuple[int, dict[str, Any]]]:
    """Draw every request that the shards under its part's folder do not hold yet; without any, no
    engine starts.

    The engine has all requests at once, so that it is never idle while the longest answer of a
    shard or of a part ends. A shard holds the answers of its part that ended next and is on disk
    whole or not at all; it is written when it has `shard_size` of them, and on slow machines every
    two minutes. So a killed process loses no more finished answers than that, plus the unfinished
    ones.

    Yields:
        The number of each part as soon as all of it is on disk, and the facts of a manifest:
        `tokens_per_second` of the whole queue up to then (engine start excluded), None where
        nothing was missing; `engine_start_seconds`, 0 where the engine ran already or an earlier
        part has them; and what a server says of itself.
    """
    stored = [_Shards(part, number, shard_size) for number, part in enumerate(parts)]
    for number, shards in enumerate(stored):
        if not shards.num_missing:
            yield number, {"tokens_per_second": None, "engine_start_seconds": 0.0}
    missing = [request for shards in stored for request in shards.missing]
    if not missing:
        return
    total = sum(len(part.requests) for part in parts)
    if done := total - len(missing):
        print(f"{label}: resuming, {done} of {total} answers are on disk", flush=True)
    start_seconds, running = 0.0, engine.engine
    if running is None:
        running = engine.get()
        start_seconds = engine.start_seconds
    with closing(AnswerBar(label, total, done)) as progress:
        answers = running.generate(missing, logprobs=logprobs, tick=progress.tick)
        for number in _whole(answers, stored, progress):
            yield (
                number,
                {
                    "tokens_per_second": round(progress.rate, 1),
                    "engine_start_seconds": round(start_seconds, 1),
                    **getattr(running, "facts", {}),
                },
            )
            start_seconds = 0.0


class _Shards:
    """A part's shards: those on disk, and the answers of the next one."""

    def __init__(self, part: Part, number: int, shard_size: int) -> None:
        self.folder, self.shard_size = part.folder / SHARDS, shard_size
        drop_damaged(self.folder)
        done = read_keys(self.folder)
        self.missing = [
            request if request.part == number else replace(request, part=number)
            for request in part.requests
            if (request.prompt_id, request.sample_index) not in done
        ]
        self.num_missing = len(self.missing)
        self.number = max((int(path.stem) for path in self.folder.glob("*.parquet")), default=-1)
        self.ended: list[Sample] = []
        self.begun = 0.0

    def add(self, request: Request, completion: Completion) -> None:
        """Take an answer."""
        if not self.ended:
            self.begun = time.monotonic()
        self.ended.append(_sample(request, completion))
        self.num_missing -= 1

    @property
    def is_due(self) -> bool:
        """Whether its answers should be on disk."""
        is_late = time.monotonic() - self.begun > SHARD_SECONDS
        return len(self.ended) == self.shard_size or not self.num_missing or is_late

    def write(self) -> None:
        """Write the answers that are not on disk, if there are any."""
        if self.ended:
            self.number += 1
            write_samples(self.folder / f"{self.number:05d}.parquet", self.ended)
            self.ended = []


def _whole(
    answers: Iterable[tuple[Request, Completion]], stored: Sequence[_Shards], progress: AnswerBar
) -> Iterator[int]:
    """Store answers as they come; the number of each part when all of it is on disk."""
    try:
        for request, completion in answers:
            progress.bar.update(1)
            stored[request.part].add(request, completion)
            for shards in stored:
                if shards.is_due:
                    shards.write()
            if not stored[request.part].num_missing:
                yield request.part
    except PreemptedError:  # there may be no time for more
        raise
    except SSDError:  # engines died, after what they had answered
        for shards in stored:
            shards.write()
        raise


def _sample(request: Request, completion: Completion) -> Sample:
    return Sample(
        prompt_id=request.prompt_id,
        sample_index=request.sample_index,
        seed=request.seed,
        prompt_token_ids=list(request.prompt_token_ids),
        completion_token_ids=completion.token_ids,
        text=completion.text,
        finish_reason=completion.finish_reason,
        **({} if completion.logprobs is None else dataclasses.asdict(completion.logprobs)),
    )
