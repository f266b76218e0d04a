"""Resumable generation: shards of requests, each written atomically once all of it is drawn."""

import dataclasses
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from ssd.artifacts.names import SHARDS
from ssd.artifacts.seals import drop_damaged
from ssd.errors import PreemptedError, SSDError
from ssd.generation.engine import Completion, Request
from ssd.generation.engines import LazyEngine
from ssd.method.decoding import Decoding
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

    def counted(self, answers: Iterable[tuple[Request, Completion]]) -> Iterator[Sample]:
        """The answers as records, each counted as it comes."""
        for request, completion in answers:
            self.bar.update(1)
            yield _sample(request, completion)


def generate_shards(
    folder: Path,
    requests: Sequence[Request],
    decoding: Decoding,
    *,
    engine: LazyEngine,
    shard_size: int,
    label: str,
    logprobs: int | None = None,
) -> dict[str, Any]:
    """Draw every request that the shards under `folder` do not hold yet; without any, no engine
    starts.

    The engine has all requests at once, so that it is never idle while the longest answer of a
    shard ends. A shard holds the answers that ended next and is on disk whole or not at all; it is
    written when it has `shard_size` of them, and on slow machines every two minutes. So a killed
    process loses no more finished answers than that, plus the unfinished ones.

    Returns:
        The facts of a manifest: `tokens_per_second` (engine start excluded), None where nothing was
        missing, and `engine_start_seconds`, 0 where the engine ran already; and what a server says
        of itself.
    """
    shards = folder / SHARDS
    drop_damaged(shards)
    done = read_keys(shards)
    missing = [
        request for request in requests if (request.prompt_id, request.sample_index) not in done
    ]
    if not missing:
        return {"tokens_per_second": None, "engine_start_seconds": 0.0}
    if done:
        print(f"{label}: resuming, {len(done)} of {len(requests)} answers are on disk", flush=True)
    starts, running = engine.engine is None, engine.get()
    number = max((int(path.stem) for path in shards.glob("*.parquet")), default=-1) + 1
    with closing(AnswerBar(label, len(requests), len(done))) as progress:
        answers = running.generate(missing, decoding, logprobs=logprobs, tick=progress.tick)
        for ended in _shards(progress.counted(answers), shard_size):
            write_samples(shards / f"{number:05d}.parquet", ended)
            number += 1
    return {
        "tokens_per_second": round(progress.rate, 1),
        "engine_start_seconds": round(engine.start_seconds, 1) if starts else 0.0,
        **getattr(running, "facts", {}),
    }


def _shards(samples: Iterable[Sample], shard_size: int) -> Iterator[list[Sample]]:
    ended: list[Sample] = []
    begun = time.monotonic()
    failure: SSDError | None = None
    try:
        for sample in samples:
            ended.append(sample)
            if len(ended) == shard_size or time.monotonic() - begun > SHARD_SECONDS:
                yield ended
                ended, begun = [], time.monotonic()
    except PreemptedError:  # there may be no time for more
        raise
    except SSDError as error:  # engines died, after what they had answered
        failure = error
    if ended:
        yield ended
    if failure is not None:
        raise failure


def _sample(request: Request, completion: Completion) -> Sample:
    return Sample(
        prompt_id=request.prompt_id,
        sample_index=request.sample_index,
        seed=request.seed,
        prompt_token_ids=request.prompt_token_ids,
        completion_token_ids=completion.token_ids,
        text=completion.text,
        finish_reason=completion.finish_reason,
        **({} if completion.logprobs is None else dataclasses.asdict(completion.logprobs)),
    )
