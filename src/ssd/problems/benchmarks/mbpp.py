"""MBPP (Austin et al. 2021, arXiv 2108.07732), full and sanitized."""

from collections.abc import Callable
from functools import partial

from ssd.problems.benchmarks.entry import Entry
from ssd.problems.benchmarks.humaneval import builtin_names, definitions
from ssd.problems.benchmarks.tasks import Judged, Task
from ssd.problems.problem import MBPP_SPLITS, mbpp_problem, packaged_file, sanitized_problem
from ssd.problems.rows import Row


def mbpp_task(row: Row) -> Task:
    """One row of the full file.

    Setup code follows the candidate: with it in front, the references of tasks 367 and 927 fail
    their own tests. `challenge_test_list` is not used, as in the paper that published MBPP.
    """
    return Task(problem=mbpp_problem(row), tests=_tests(row, [row["test_setup_code"]]))


def sanitized_task(row: Row) -> Task:
    """One row of the sanitized file: 427 of the full file's problems (its own task ids, from 2 to
    809), reworded and in part corrected by MBPP's authors; all of them, whatever the split."""
    return Task(problem=sanitized_problem(row), tests=_tests(row, row["test_imports"]))


def _tests(row: Row, setup: list[str]) -> Judged:
    judge = "\n".join([*setup, *row["test_list"]])
    return Judged(judge=f"{judge}\n", names=builtin_names(definitions(row["code"])))


def _in(split: str) -> Callable[[Row], bool]:
    return lambda row: row["task_id"] in MBPP_SPLITS[split]


_mbpp = partial(Entry, short_answers=True, hub_set="google-research-datasets/mbpp")
FULL, SANITIZED = packaged_file("mbpp"), packaged_file("mbpp_sanitized")
MBPP = (
    _mbpp(name="mbpp", size=500, shipped=FULL, parse=mbpp_task, keep=_in("test")),
    _mbpp(name="mbpp_validation", size=90, shipped=FULL, parse=mbpp_task, keep=_in("validation")),
    _mbpp(name="mbpp_full", size=974, shipped=FULL, parse=mbpp_task),
    _mbpp(name="mbpp_sanitized", size=427, shipped=SANITIZED, parse=sanitized_task),
)
