"""HumanEval+ and MBPP+ (EvalPlus; Liu et al. 2023, arXiv 2305.01210), in both published formats."""

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from ssd.artifacts.fingerprints import hash_file
from ssd.config.settings import BenchmarkFiles
from ssd.problems.benchmarks.entry import Entry
from ssd.problems.benchmarks.humaneval import builtin_names, definitions, humaneval_task
from ssd.problems.benchmarks.tasks import Judged, Task
from ssd.problems.problem import (
    humaneval_problem,
    mbpp_plus_problem,
    packaged_file,
    sanitized_problem,
)

JUDGE = Path(__file__).with_name("evalplus_judge.py").read_text(encoding="utf-8")

NOT_EMPTY = """\
import numpy

NUMPY_ALLCLOSE = numpy.allclose


def allclose(result, expected, *more, **options):
    if numpy.size(result) == 0 and numpy.size(expected):
        return False
    return NUMPY_ALLCLOSE(result, expected, *more, **options)


numpy.allclose = allclose
"""
"""Before the original formats' own tests: to numpy, an empty array is close to everything."""
ERRATA = {"HumanEval/32": "wrong tests"}
"""Problems of HumanEvalPlus-OriginFmt whose test no right answer passes: that of find_zero unpacks
the root, which is a number, and keeps the coefficients in one argument. The input-list format has
no such fault."""


def plus_task(row: dict[str, Any]) -> Task:
    """One row: of the input-list format where it has `plus_input`, else of the original formats,
    whose `test` is the whole test. An answer passes when it passes base and plus tests; as in
    EvalPlus the time limit holds for each call.

    Raises:
        KeyError: the row has the fields of neither.
    """
    if "plus_input" in row:
        return _input_list(row)
    if "entry_point" in row:
        task = humaneval_task(row)
        assert isinstance(task.tests, Judged)
        judge = f"{NOT_EMPTY}{task.tests.judge}"
        tests = replace(task.tests, judge=judge, per_call=True)
        return replace(task, tests=tests, errata=ERRATA.get(row["task_id"]))
    return Task(
        problem=replace(sanitized_problem(row), problem_id=f"Mbpp/{row['task_id']}"),
        tests=Judged(
            judge=NOT_EMPTY + row["test"],
            names=builtin_names(definitions(row["code"])),
            per_call=True,
        ),
    )


def _input_list(row: dict[str, Any]) -> Task:
    """The reference runs beside the tests, and its results are the expected ones."""
    is_humaneval = row["task_id"].startswith("HumanEval/")
    before = row["prompt"] if is_humaneval else ""
    function = row["entry_point"]
    data = {name: row[name] for name in ("task_id", "atol", "base_input", "plus_input")}
    data |= {"function": function, "reference": row["prompt"] + row["canonical_solution"]}
    return Task(
        problem=(humaneval_problem if is_humaneval else mbpp_plus_problem)(row),
        tests=Judged(
            # The candidate's name is taken first, lest the judge's own hide it.
            judge=f"CANDIDATE = {function}\n{JUDGE}\njudge(DATA, CANDIDATE)\n",
            before=before,
            data=data,
            names=builtin_names([function]),
            per_call=True,
        ),
        prompt=before,
    )


def _release(paths: list[Path], _: BenchmarkFiles) -> str:
    return f"{paths[0].name}, sha256 {hash_file(paths[0])[:12]}"


_plus = partial(Entry, parse=plus_task, release=_release, short_answers=True)
PLUS = (
    _plus(
        name="humaneval_plus",
        size=164,
        setting="humaneval_plus",
        origin="HumanEvalPlus.jsonl.gz from github.com/evalplus/humanevalplus_release",
        hub_set="evalplus/humanevalplus",
    ),
    _plus(
        name="mbpp_plus",
        size=378,
        shipped=packaged_file("mbpp_plus"),
        setting="mbpp_plus",
        hub_set="evalplus/mbppplus",
    ),
)
