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
from ssd.problems.benchmarks.own import VERSION, first_of, read_tasks
from ssd.problems.benchmarks.tasks import Expected, Task
from ssd.problems.problem import Problem
from ssd.problems.rows import Row, numbered_rows
from ssd.problems.values import only_number

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
    return read_tasks(path, lambda row, _: own_value(row, grading))


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
    for number, row in enumerate(published_rows(path, "question")):
        _, mark, value = str(row["answer"]).rpartition(SOLUTION_MARK)
        if not mark:
            raise DataError(f"{path}, row {number + 1} has no {SOLUTION_MARK} before its value")
        yield value_task(f"gsm8k/{number}", row["question"], value, grading, row)


def problem_tasks(name: str, path: Path, grading: Grading) -> Iterator[Task]:
    """Problems whose statement is called `problem`: by MATH-500's own ids, or by a row's id or
    number."""
    for number, row in enumerate(published_rows(path, "problem")):
        problem_id = row.get("unique_id") or f"{name}/{row.get('id', number)}"
        yield value_task(problem_id, row["problem"], str(row["answer"]), grading, row)


def published_rows(path: Path, statement: str) -> Iterator[Row]:
    """The rows of a published file, each with its `statement` and an `answer`.

    Raises:
        DataError: the file cannot be read, or a row lacks one.
    """
    for place, row in numbered_rows(path):
        for field, kinds in ((statement, str), ("answer", str | int | float)):
            if not isinstance(row.get(field), kinds):
                raise DataError(f"{path}, {place} has no field '{field}': name the published file")
        yield row


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
        raise first_of(errors, f"{path} --benchmark {OWN_VALUES.name}")
    return tasks


NUMBERS = Grading.number, Grading.math_verify, Grading.exact
MATHEMATICS = Grading.math_verify, Grading.exact
OWN_VALUES = Entry(
    name="values",
    read=lambda paths, grading, _: load_values(paths[0], grading),
    setting="values",
    release=lambda paths, _: paths[0].name,
    gradings=NUMBERS,
)
GSM8K = published(
    "gsm8k", "openai/gsm8k", "main/test-00000-of-00001.parquet", gsm8k_tasks, NUMBERS, size=1319
)
MATH500 = published(
    "math500", "HuggingFaceH4/MATH-500", "test.jsonl", partial(problem_tasks, "math500"),
    MATHEMATICS, size=500,
)  # fmt: skip
AIME = published(
    "aime", "HuggingFaceH4/aime_2024", "data/train-00000-of-00001.parquet",
    partial(problem_tasks, "aime"), NUMBERS, size=30,
)  # fmt: skip
VALUES = GSM8K, MATH500, AIME, OWN_VALUES
