"""Which of a benchmark's problems choose, and which are reported."""

import dataclasses
import functools
import hashlib

from ssd.config.choices import Grading
from ssd.config.settings import BenchmarkFiles, EvalConfig
from ssd.errors import DataError
from ssd.problems.benchmarks.registry import load_benchmark
from ssd.problems.benchmarks.tasks import Benchmark
from ssd.run.protocol import ALL, VALIDATION


def is_held_out(problem_id: str, share: float) -> bool:
    """Whether a problem belongs to the part that chooses.

    Decided by the hash of its id alone: the same in every run, window and subset.
    """
    digest = hashlib.sha256(f"validation\0{problem_id}".encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64 < share


def load_part(settings: EvalConfig, name: str, part: str) -> Benchmark:
    """A benchmark with the tasks of one part; the benchmark is read once per process.

    Raises:
        DataError: the part has no problem, or the benchmark's file cannot be used.
    """
    files = tuple(dataclasses.asdict(settings.files).items())
    benchmark = _load(name, files, settings.grading, settings.limit)
    return take_part(settings, benchmark, part)


def take_part(settings: EvalConfig, benchmark: Benchmark, part: str) -> Benchmark:
    """A whole benchmark reduced to one part.

    Raises:
        DataError: the part has no problem.
    """
    if part == ALL:
        return benchmark
    share = settings.validation_share
    tasks = [
        task
        for task in benchmark.tasks
        if is_held_out(task.problem.problem_id, share) == (part == VALIDATION)
    ]
    if not tasks:
        what = "holds out none" if part == VALIDATION else "leaves none to report"
        raise DataError(
            f"eval.validation_share={share:g} of {benchmark.name}'s {len(benchmark.tasks)} "
            f"problems {what}: raise eval.limit, change the share, "
            "or name another benchmark in eval.validation"
        )
    return dataclasses.replace(benchmark, tasks=tasks)


@functools.lru_cache(maxsize=8)
def _load(
    name: str, files: tuple[tuple[str, str | None], ...], grading: Grading, limit: int | None
) -> Benchmark:
    # LiveCodeBench's hidden tests are gigabytes, and every job asks for its benchmark.
    return load_benchmark(name, BenchmarkFiles(**dict(files)), grading, limit)
