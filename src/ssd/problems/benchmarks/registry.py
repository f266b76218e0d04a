"""Benchmarks: the problems a model is given, and the tests that judge what it answers."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from ssd.artifacts import hash_file
from ssd.config import BenchmarkFiles, Grading
from ssd.config.benchmarks import MBPP_PARTS, check_name, window
from ssd.errors import DataError
from ssd.problems.benchmarks.evalplus import plus_task
from ssd.problems.benchmarks.humaneval import humaneval_task
from ssd.problems.benchmarks.livecodebench import load_livecodebench
from ssd.problems.benchmarks.livecodebench_files import find_files
from ssd.problems.benchmarks.mbpp import mbpp_task, sanitized_task
from ssd.problems.benchmarks.own import load_own
from ssd.problems.benchmarks.tasks import Benchmark, Task
from ssd.problems.problem import MBPP_SPLITS, packaged_file
from ssd.problems.rows import fixed_subset, read_jsonl

HUMANEVAL_PLUS = "github.com/evalplus/humanevalplus_release"
PLUS = "humaneval_plus", "mbpp_plus"


def load_benchmark(
    name: str, files: BenchmarkFiles, grading: Grading, limit: int | None = None
) -> Benchmark:
    """A benchmark's tasks, or a fixed subset of `limit` of them, in the order of its file.

    `grading` changes LiveCodeBench and, where it is tolerant, one's own inputs and outputs; the
    others have one rule, recorded as `official`.

    Raises:
        ConfigError: there is no such benchmark.
        DataError: its file is missing, unreadable or lacks fields, or no problem is left.
    """
    check_name(name)
    chosen = window(name)
    if chosen is not None:
        return load_livecodebench(name, chosen, files, grading, limit)
    (path,) = benchmark_files(name, files)
    tolerant = grading is Grading.tolerant
    if name == "jsonl":
        tasks, release = load_own(path, grading), path.name
    else:
        tasks, release = [_task(name, row, path) for row in _rows(name, path)], None
        if name in PLUS:
            release = f"{path.name}, sha256 {hash_file(path)[:12]}"
    if not tasks:
        raise DataError(f"{path} holds no problems: name another file as eval.files.{name}")
    return Benchmark(
        name=name,
        tasks=fixed_subset(tasks, limit, key=lambda task: task.problem.problem_id),
        release=release,
        window=None,
        grading=(grading if name == "jsonl" and tolerant else Grading.official).value,
    )


def benchmark_files(name: str, files: BenchmarkFiles) -> list[Path]:
    """The files that a benchmark is read from, brought here first where they come from the hub.

    Raises:
        ConfigError: there is no such benchmark.
        DataError: a file is not set, not there, or cannot be fetched.
    """
    check_name(name)
    chosen = window(name)
    if chosen is not None:
        return find_files(chosen, files)
    if name in MBPP_PARTS or name in ("humaneval", "mbpp_sanitized"):
        return [packaged_file("mbpp" if name in MBPP_PARTS else name)]
    own = {"humaneval_plus": files.humaneval_plus, "mbpp_plus": files.mbpp_plus}
    path = own.get(name, files.jsonl)
    if path is None and name == "mbpp_plus":
        return [packaged_file(name)]
    if path is None:
        remedy = (
            f"download HumanEvalPlus.jsonl.gz from {HUMANEVAL_PLUS} and set eval.files.{name}=FILE"
            if name == "humaneval_plus"
            else f"set eval.files.{name}=FILE"
        )
        raise DataError(f"eval.benchmarks={name} is read from a file of yours: {remedy}")
    if not Path(path).is_file():
        raise DataError(f"eval.files.{name}={path} is no file: name a .jsonl or .jsonl.gz file")
    return [Path(path)]


def benchmark_identity(name: str, files: BenchmarkFiles) -> dict[str, Any]:
    """What tells one edition of a benchmark from another: its name and its files' SHA-256.

    Raises:
        ConfigError: there is no such benchmark.
        DataError: a file is not set, not there, or cannot be fetched.
    """
    return {"name": name, "files": [hash_file(path) for path in benchmark_files(name, files)]}


def _rows(name: str, path: Path) -> list[dict[str, Any]]:
    rows = read_jsonl(path)
    split = MBPP_PARTS.get(name)
    if split is None:
        return rows
    return [row for row in rows if row["task_id"] in MBPP_SPLITS[split]]


def _task(name: str, row: dict[str, Any], path: Path) -> Task:
    builders: dict[str, Callable[[dict[str, Any]], Task]] = {
        "humaneval": humaneval_task,
        "mbpp_sanitized": sanitized_task,
        **dict.fromkeys(PLUS, plus_task),
    }
    try:
        return builders.get(name, mbpp_task)(row)
    except KeyError as error:
        raise DataError(
            f"{path}: problem {row.get('task_id', '?')} has no field {error}: "
            f"name one of EvalPlus's own files as eval.files.{name}"
        ) from error
