"""Answers -> verdicts: the code of every answer runs against its problem's tests."""

import dataclasses
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from ssd.artifacts import read_rows, write_rows
from ssd.evaluate.benchmarks import Task
from ssd.evaluate.extraction import extract_code, has_fences
from ssd.evaluate.sandbox import PASSED, Sandbox
from ssd.generation import Sample
from ssd.progress import progress_bar

VERDICTS = "verdicts.parquet"
NO_CODE = "no_code"


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """One graded answer; `write_verdicts` and `read_verdicts` are its only doors."""

    problem_id: str
    sample_index: int
    passed: bool
    status: str
    """A status of `ssd.evaluate.sandbox`, or `no_code`."""
    detail: str
    """The exception or limit in one line; empty where the answer passed."""
    num_tokens: int
    """Completion tokens, the stop token included."""
    finish_reason: str
    has_fence: bool
    """Whether the answer holds two fence lines at least."""


def grade_answer(task: Task, sample: Sample, sandbox: Sandbox) -> Verdict:
    """Extract, assemble and run one answer."""
    code = extract_code(sample.text)
    if code is None or not code.strip():
        status, detail = (
            NO_CODE,
            "fewer than two fence lines" if code is None else "the last code block is empty",
        )
    else:
        outcome = sandbox.run(task.program(code))
        status, detail = outcome.status, outcome.detail
    return Verdict(
        problem_id=sample.prompt_id,
        sample_index=sample.sample_index,
        passed=status == PASSED,
        status=status,
        detail=detail,
        num_tokens=len(sample.completion_token_ids),
        finish_reason=sample.finish_reason,
        has_fence=has_fences(sample.text),
    )


def grade(
    tasks: Sequence[Task], samples: Sequence[Sample], sandbox: Sandbox, *, workers: int, label: str
) -> list[Verdict]:
    """A verdict per sample, in order; `workers` programs run at once,
    each thread waiting on its child process."""
    by_id = {task.problem.problem_id: task for task in tasks}
    verdicts = []
    pool = ThreadPoolExecutor(workers)
    try:
        with progress_bar(label, len(samples), unit="program") as bar:
            for verdict in pool.map(
                lambda sample: grade_answer(by_id[sample.prompt_id], sample, sandbox), samples
            ):
                verdicts.append(verdict)
                bar.update(1)
    finally:
        pool.shutdown(cancel_futures=True)
    return verdicts


def write_verdicts(path: Path, verdicts: Sequence[Verdict]) -> None:
    """Write verdicts as one Parquet file, atomically."""
    write_rows(path, [dataclasses.asdict(verdict) for verdict in verdicts])


def read_verdicts(path: Path) -> list[Verdict]:
    """Verdicts of one Parquet file written by `write_verdicts`."""
    return [Verdict(**row) for row in read_rows(path)]
