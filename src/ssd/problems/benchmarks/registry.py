"""Every benchmark by its name, and a benchmark's tasks."""

from typing import Any

from ssd.artifacts.fingerprints import hash_file
from ssd.config.choices import HASH_SPLIT, Grading
from ssd.config.settings import BenchmarkFiles, EvalConfig, PromptFormatConfig
from ssd.errors import ConfigError, DataError, did_you_mean
from ssd.problems.benchmarks import evalplus, humaneval, livecodebench, mbpp, own, values
from ssd.problems.benchmarks.entry import Entry
from ssd.problems.benchmarks.livecodebench_windows import PREFIX
from ssd.problems.benchmarks.tasks import Benchmark
from ssd.problems.rows import fixed_subset

ENTRIES = {
    entry.name: entry
    for entry in (
        humaneval.HUMANEVAL,
        *mbpp.MBPP,
        *evalplus.PLUS,
        *livecodebench.WINDOWS,
        own.JSONL,
        *values.VALUES,
    )
}
"""Those with a name of their own; LiveCodeBench's windows by date are made when they are named."""


def find_entry(name: str, setting: str = "eval.benchmarks") -> Entry:
    """The entry of that name; `setting` is where it was typed.

    Raises:
        ConfigError: there is no such benchmark, or its window cannot be read.
    """
    if name in ENTRIES:
        return ENTRIES[name]
    if name.startswith(PREFIX):
        return livecodebench.window_entry(name, setting)
    raise ConfigError(f"{setting}: no benchmark '{name}'; {did_you_mean(name, list(ENTRIES))}")


def require_benchmarks(settings: EvalConfig) -> None:
    """Refuse names that are no benchmarks.

    Raises:
        ConfigError: there is one; the message names its setting.
    """
    validation = [] if settings.validation == HASH_SPLIT else [settings.validation]
    typed = {
        "eval.benchmarks": settings.benchmarks,
        "eval.regression": settings.regression,
        "eval.validation": validation,
    }
    for setting, names in typed.items():
        for name in names:
            find_entry(name, setting)


def load_benchmark(
    name: str, files: BenchmarkFiles, grading: Grading, limit: int | None = None
) -> Benchmark:
    """A benchmark's tasks, or a fixed subset of `limit` of them, in the order of its file.

    If it has no rule of that name, it is graded and recorded by its first one.

    Raises:
        ConfigError: there is no such benchmark.
        DataError: its file is missing, unreadable or lacks fields, or no problem is left.
    """
    entry = find_entry(name)
    paths = entry.files(files)
    rule = entry.rule(grading)
    tasks = entry.tasks(paths, rule, limit)
    if not tasks:
        raise DataError(f"{paths[0]} holds no problems: name another file as eval.files.{name}")
    return Benchmark(
        name=name,
        tasks=fixed_subset(tasks, limit, key=lambda task: task.problem.problem_id),
        release=entry.release(paths, files) if entry.release else None,
        window=entry.window,
        grading=rule.value,
        form=entry.form(grading),
    )


def benchmark_identity(name: str, files: BenchmarkFiles) -> dict[str, Any]:
    """The identity of a benchmark's edition: its name and its files' SHA-256.

    Raises:
        ConfigError: there is no such benchmark.
        DataError: a file is not set, not there, or cannot be fetched.
    """
    return {"name": name, "files": [hash_file(path) for path in find_entry(name).files(files)]}


def named_benchmarks(settings: EvalConfig) -> list[str]:
    """The benchmarks that a run reads."""
    validation = [] if settings.validation == HASH_SPLIT else [settings.validation]
    return [*settings.benchmarks, *settings.regression, *validation]


def asked_by(settings: EvalConfig, benchmark: str) -> tuple[str, PromptFormatConfig]:
    """The prompt format that a benchmark's problems are asked by, after its setting's name."""
    for_values = settings.value_prompt_format
    if for_values is None or find_entry(benchmark).form(settings.grading).runs:
        return "eval.prompt_format", settings.prompt_format
    return "eval.value_prompt_format", for_values


def prompt_formats(settings: EvalConfig) -> dict[str, PromptFormatConfig]:
    """The formats that all benchmarks of a run are asked by, by setting."""
    return dict(asked_by(settings, name) for name in named_benchmarks(settings))
