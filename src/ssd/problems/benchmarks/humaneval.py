"""HumanEval (Chen et al. 2021, arXiv 2107.03374)."""

import ast
import builtins
import warnings
from collections.abc import Iterable
from typing import Any

from ssd.problems.benchmarks.assertions import top_level
from ssd.problems.benchmarks.entry import Entry
from ssd.problems.benchmarks.tasks import Judged, Task
from ssd.problems.problem import humaneval_problem, packaged_file


def humaneval_task(row: dict[str, Any]) -> Task:
    """One row of HumanEval, or of HumanEval+ in the same format.

    The prompt runs before the candidate: its imports and helper functions are part of the
    problem, and since it ends in a docstring it is valid Python that the candidate's own
    definition then replaces.
    """
    return Task(
        problem=humaneval_problem(row),
        tests=Judged(
            judge=f"{row['test']}\ncheck({row['entry_point']})\n",
            before=row["prompt"],
            names=builtin_names([row["entry_point"], *definitions(row["prompt"])]),
        ),
        prompt=row["prompt"],
    )


def definitions(code: str) -> list[str]:
    """Names of the functions and classes that a program defines at its top level; none where it
    is no valid Python."""
    try:
        # Seven programs of MBPP write "\w" where they mean r"\w", and Python 3.12 prints that at
        # every start.
        with warnings.catch_warnings(action="ignore"):
            return list(top_level(ast.parse(code)))
    except SyntaxError:
        return []


def builtin_names(names: Iterable[str]) -> tuple[str, ...]:
    """Those of a problem's names that are also builtins of Python: tests that use them mean the
    candidate's. Other names need no mention, since a judge finds them at the candidate only."""
    return tuple(dict.fromkeys(name for name in names if hasattr(builtins, name)))


HUMANEVAL = Entry(
    name="humaneval",
    parse=humaneval_task,
    size=164,
    shipped=packaged_file("humaneval"),
    short_answers=True,
    hub_set="openai/openai_humaneval",
)
