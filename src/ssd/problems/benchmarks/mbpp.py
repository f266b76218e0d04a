"""MBPP (Austin et al. 2021, arXiv 2108.07732), full and sanitized."""

from typing import Any

from ssd.problems.benchmarks.humaneval import builtin_names, definitions
from ssd.problems.benchmarks.tasks import Judged, Task
from ssd.problems.problem import packaged_problem


def mbpp_task(row: dict[str, Any]) -> Task:
    """One row of the full file.

    Setup code follows the candidate: with it in front, the references of tasks 367 and 927 fail
    their own tests. `challenge_test_list` is not used, as in the paper that published MBPP.
    """
    judge = "\n".join([row["test_setup_code"], *row["test_list"]])
    return Task(
        problem=packaged_problem("mbpp", row),
        tests=Judged(judge=f"{judge}\n", names=builtin_names(definitions(row["code"]))),
    )


def sanitized_task(row: dict[str, Any]) -> Task:
    """One row of the sanitized file: 427 of the full file's problems (its own task ids, from 2 to
    809), reworded and in part corrected by MBPP's authors; all of them, whatever the split."""
    judge = "\n".join([*row["test_imports"], *row["test_list"]])
    return Task(
        problem=packaged_problem("mbpp_sanitized", row),
        tests=Judged(judge=f"{judge}\n", names=builtin_names(definitions(row["code"]))),
    )
