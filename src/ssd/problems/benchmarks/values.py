"""Benchmarks whose answer is a value: GSM8K (Cobbe et al. 2021, arXiv 2110.14168), MATH-500 (the
500 problems of Lightman et al. 2023, arXiv 2305.20050, out of Hendrycks et al. 2021, arXiv
2103.03874), AIME, and your own, `values`. None is shipped.
"""

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from ssd.config.choices import Grading
from ssd.config.settings import BenchmarkFiles
from ssd.errors import DataError
from ssd.problems.benchmarks.entry import Entry
from ssd.problems.benchmarks.hub_files import fetch
from ssd.problems.benchmarks.own import VERSION
from ssd.problems.benchmarks.tasks import Expected, Task
from ssd.problems.problem import Problem
from ssd.problems.rows import Row, numbered_rows
from ssd.problems.values import only_number

AIME_SET, GSM8K_SET, MATH500_SET = (
    "HuggingFaceH4/aime_2024", "openai/gsm8k", "HuggingFaceH4/MATH-500",
)  # fmt: skip
FIELDS = {"version", "id", "question", "answer", "difficulty", "errata"}
"""Of a line of your own."""
SOLUTION_MARK = "####"
"""What stands before the value at the end of a solution of GSM8K."""


def read_values(path: Path, grading: Grading) -> tuple[list[Task], list[DataError]]:
    """The problems of a file of your own that can be used, and for each other one the reason why it
    cannot.

    Raises:
        DataError: the file cannot be read as JSON.
    """
    tasks: dict[str, Task] = {}
    errors = []
    for place, row in numbered_rows(path):
        try:
            task = own_value(row, grading)
            if task.problem.problem_id in tasks:
                raise DataError(f"the id {task.problem.problem_id} comes twice: give each its own")
            tasks[task.problem.problem_id] = task
        except DataError as error:
            errors.append(DataError(f"{path}, {place}: {error}"))
    return list(tasks.values()), errors


def own_value(row: Row, grading: Grading) -> Task:
    """One line of your own.

    Raises:
        DataError: it cannot be used; the message does not name its place.
    """
    if row.get("version") != VERSION:
        raise DataError(f'version is {row.get("version")!r}: this ssd reads "version": {VERSION}')
    if unknown := sorted(set(row) - FIELDS):
        raise DataError(f"unknown field {unknown[0]}; known: {', '.join(sorted(FIELDS))}")
    for name in ("id", "question", "answer"):
        if not isinstance(row.get(name), str) or not row[name].strip():
            raise DataError(f"no text in field {name}: add it")
    for name in ("difficulty", "errata"):
        if not isinstance(row.get(name), str | None):
            raise DataError(f"field {name} is no text: write it as a JSON string")
    return value_task(row["id"], row["question"], row["answer"], grading, row)


def value_task(name: str, question: str, answer: str, grading: Grading, row: Row) -> Task:
    """A problem with its value, and what else its row says.

    Raises:
        DataError: numbers are compared, and its value is none.
    """
    expected = only_number(answer) if grading is Grading.number else answer.strip()
    if expected is None:
        raise DataError(
            f"the answer {answer!r:.40} of {name} is not one number: set eval.grading=exact or "
            "eval.grading=math_verify, or mend it"
        )
    level = row.get("level")
    return Task(
        problem=Problem(problem_id=name, question=question),
        tests=Expected(answer=expected, grading=grading),
        difficulty=row.get("difficulty") or (None if level is None else f"level {level}"),
        errata=row.get("errata") or None,
    )


def gsm8k_tasks(path: Path, grading: Grading) -> Iterator[Task]:
    """The problems of a split of GSM8K by their number, from 0: its rows have no ids."""
    for number, (_, row) in enumerate(published_rows(path, "question", "answer")):
        _, mark, value = row["answer"].rpartition(SOLUTION_MARK)
        if not mark:
            raise DataError(f"{path}, row {number + 1} has no {SOLUTION_MARK} before its value")
        yield value_task(f"gsm8k/{number}", row["question"], value, grading, row)


def problem_tasks(name: str, path: Path, grading: Grading) -> Iterator[Task]:
    """Problems whose statement is called `problem`: by the id that the row has, or its number."""
    for number, (_, row) in enumerate(published_rows(path, "problem", "answer")):
        row_id = row.get("unique_id", row.get("id", number))
        yield value_task(f"{name}/{row_id}", row["problem"], str(row["answer"]), grading, row)


def published_rows(path: Path, *fields: str) -> Iterator[tuple[str, Row]]:
    """The rows of a published file, which have these fields.

    Raises:
        DataError: the file cannot be read, or one is missing.
    """
    for place, row in numbered_rows(path):
        for field in fields:
            if row.get(field) is None:
                raise DataError(f"{path}, {place} has no field '{field}': name the published file")
        yield place, row


def published(
    name: str,
    hub_set: str,
    file: str,
    tasks: Callable[[Path, Grading], Iterator[Task]],
    gradings: tuple[Grading, ...],
    size: int,
) -> Entry:
    """The entry of a benchmark that is a file of the hub, or of this disk."""

    def find(files: BenchmarkFiles) -> list[Path]:
        path = getattr(files, name)
        if path is None:
            return [fetch(hub_set, file, f"eval.files.{name}=FILE")]
        if not Path(path).is_file():
            raise DataError(
                f"eval.files.{name}={path} is no file: name a .jsonl, .jsonl.gz or .parquet file"
            )
        return [Path(path)]

    return Entry(
        name=name,
        read=lambda paths, grading, _: list(tasks(paths[0], grading)),
        size=size,
        setting=name,
        fetch=find,
        gradings=gradings,
        hub_set=hub_set,
    )


def load_values(path: Path, grading: Grading) -> list[Task]:
    """The problems of a file of your own.

    Raises:
        DataError: one cannot be used; the message names file and line.
    """
    tasks, errors = read_values(path, grading)
    if errors:
        more = f" (and {len(errors) - 1} more)" if len(errors) > 1 else ""
        raise DataError(f"{errors[0]}{more}")
    return tasks


NUMBERS = Grading.number, Grading.math_verify, Grading.exact
VALUES = (
    published(
        "gsm8k", GSM8K_SET, "main/test-00000-of-00001.parquet", gsm8k_tasks, NUMBERS, size=1319
    ),
    published(
        "math500", MATH500_SET, "test.jsonl", partial(problem_tasks, "math500"),
        (Grading.math_verify, Grading.exact), size=500,
    ),
    published(
        "aime", AIME_SET, "data/train-00000-of-00001.parquet", partial(problem_tasks, "aime"),
        NUMBERS, size=30,
    ),
    Entry(
        name="values",
        read=lambda paths, grading, _: load_values(paths[0], grading),
        setting="values",
        release=lambda paths, _: paths[0].name,
        gradings=NUMBERS,
    ),
)  # fmt: skip
