"""HumanEval and MBPP: the problems a model is given, and the program that tests what it answers."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ssd.problems import Problem, fixed_subset, packaged_problem, packaged_rows

SPLIT = "test"
"""MBPP's task ids 11-510, and all 164 problems of HumanEval."""


@dataclass(frozen=True, slots=True)
class Task:
    """A benchmark problem and the text around a candidate's code that makes it a test program."""

    problem: Problem
    before: str
    after: str

    def program(self, code: str) -> str:
        """The program that ends without an exception exactly when `code` passes the tests."""
        return f"{self.before}{code}{self.after}"


def humaneval_task(row: dict[str, Any]) -> Task:
    """HumanEval (Chen et al. 2021, arXiv 2107.03374).

    The prompt goes before the code: its imports and helper functions are part of the
    problem, and since it ends in a docstring it is valid Python that the candidate's own
    definition then replaces.
    """
    return Task(
        problem=packaged_problem("humaneval", row),
        before=f"{row['prompt']}\n",
        after=f"\n{row['test']}\ncheck({row['entry_point']})\n",
    )


def mbpp_task(row: dict[str, Any]) -> Task:
    """MBPP (Austin et al. 2021, arXiv 2108.07732).

    Setup code follows the candidate: with it in front, the references of tasks 367 and 927 fail
    their own tests.
    """
    tests = "\n".join([row["test_setup_code"], *row["test_list"]])
    return Task(problem=packaged_problem("mbpp", row), before="", after=f"\n{tests}\n")


BUILDERS: dict[str, Callable[[dict[str, Any]], Task]] = {
    "humaneval": humaneval_task,
    "mbpp": mbpp_task,
}


def load_benchmark(name: str, limit: int | None = None) -> list[Task]:
    """The tasks of a benchmark's test split, or a fixed subset of `limit` of them."""
    tasks = [BUILDERS[name](row) for row in packaged_rows(name, SPLIT)]
    return fixed_subset(tasks, limit, key=lambda task: task.problem.problem_id)
