"""Resumable generation: shards of requests, each written atomically once all of it is drawn."""

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

from ssd.generation.records import (
    SHARDS,
    Completion,
    Decoding,
    Engine,
    Request,
    Sample,
    read_samples,
    write_samples,
)
from ssd.progress import progress_bar

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
        rate = self.tokens / max(time.monotonic() - self.started, 1e-9)
        self.bar.set_postfix_str(f"{rate:.0f} tok/s", refresh=False)
        self.bar.update(0)

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
    load_engine: Callable[[], Engine],
    shard_size: int,
    label: str,
    logprobs: bool = False,
) -> dict[str, float]:
    """Draw every request that the shards under `folder` do not hold yet;
    the engine is loaded only if one is missing.

    The engine has all requests at once, so that it is never idle while the longest answer of a
    shard ends. A shard holds the answers that ended next and is on disk whole or not at all; it is
    written when it has `shard_size` of them, and on slow machines every two minutes. So a killed
    process loses no more finished answers than that, and those under way.

    Returns:
        `num_new_tokens` drawn and `seconds` spent drawing in this call, engine start excluded.
    """
    shards = folder / SHARDS
    done = (
        {(sample.prompt_id, sample.sample_index) for sample in read_samples(shards)}
        if shards.is_dir()
        else set()
    )
    missing = [
        request for request in requests if (request.prompt_id, request.sample_index) not in done
    ]
    if not missing:
        return {"num_new_tokens": 0, "seconds": 0.0}
    if done:
        print(f"{label}: resuming, {len(done)} of {len(requests)} answers are on disk", flush=True)
    engine = load_engine()
    progress = AnswerBar(label, len(requests), len(done))
    number = max((int(path.stem) for path in shards.glob("*.parquet")), default=-1) + 1
    answers = engine.generate(missing, decoding, logprobs=logprobs, tick=progress.tick)
    for ended in _shards(progress.counted(answers), shard_size):
        write_samples(shards / f"{number:05d}.parquet", ended)
        number += 1
    progress.bar.close()
    return {"num_new_tokens": progress.tokens, "seconds": time.monotonic() - progress.started}


def _shards(samples: Iterable[Sample], shard_size: int) -> Iterator[list[Sample]]:
    ended: list[Sample] = []
    begun = time.monotonic()
    for sample in samples:
        ended.append(sample)
        if len(ended) == shard_size or time.monotonic() - begun > SHARD_SECONDS:
            yield ended
            ended, begun = [], time.monotonic()
    if ended:
        yield ended


def _sample(request: Request, completion: Completion) -> Sample:
    return Sample(
        prompt_id=request.prompt_id,
        sample_index=request.sample_index,
        seed=request.seed,
        prompt_token_ids=request.prompt_token_ids,
        completion_token_ids=completion.token_ids,
        text=completion.text,
        finish_reason=completion.finish_reason,
        logprob_sum=completion.logprob_sum,
    )
