"""Your own problems: the benchmark `jsonl`, one JSON object per line. Faults that the file alone
shows are refused when it is read; `ssd.evaluate.soundness` finds the others by running the tests.
"""

import ast
import json
import warnings
from collections.abc import Callable, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

from ssd.config.choices import Grading
from ssd.errors import DataError, one_line
from ssd.problems.benchmarks.assertions import foreign_names, top_level, why_it_asserts_nothing
from ssd.problems.benchmarks.entry import Entry
from ssd.problems.benchmarks.humaneval import builtin_names
from ssd.problems.benchmarks.livecodebench import Call, call_tests
from ssd.problems.benchmarks.prelude import PRELUDES
from ssd.problems.benchmarks.tasks import Judged, StdinTests, Task
from ssd.problems.problem import Problem
from ssd.problems.rows import Row, numbered_rows

VERSION = 1
"""Of the fields below; every line names it as `version`."""
TEXTS = (
    "starter_code", "difficulty", "date", "test", "entry_point", "func_name", "reference",
)  # fmt: skip
FIELDS = {"version", "id", "question", "tests", *TEXTS}


def load_own(path: Path, grading: Grading = Grading.official) -> list[Task]:
    """The problems of a file.

    Raises:
        DataError: a line is no JSON, has another version, lacks a field, repeats an id, or has
            tests that cannot fail; the message names file and line.
    """
    tasks, errors = read_own(path, grading)
    if errors:
        raise first_of(errors, str(path))
    return tasks


def first_of(flaws: Sequence[DataError | str], path: str) -> DataError:
    """The first of a file's faults, and how to see the others."""
    more = f" (and {len(flaws) - 1} more: ssd evaluate check {path})"
    return DataError(f"{flaws[0]}{more if len(flaws) > 1 else ''}")


def read_own(path: Path, grading: Grading = Grading.official) -> tuple[list[Task], list[DataError]]:
    """The problems of a file that can be used, and for each other one the reason why it cannot.

    Raises:
        DataError: the file cannot be read as JSON.
    """
    return read_tasks(path, lambda row, place: own_task(row, place, grading))


def read_tasks(path: Path, parse: Callable[[Row, str], Task]) -> tuple[list[Task], list[DataError]]:
    """The same with the problems that `parse` makes of a row and its place."""
    tasks: dict[str, Task] = {}
    errors = []
    for place, row in numbered_rows(path):
        try:
            task = parse(row, f"{path}, {place}")
            if task.problem.problem_id in tasks:
                raise DataError(f"the id {task.problem.problem_id} comes twice: give each its own")
            tasks[task.problem.problem_id] = task
        except DataError as error:
            errors.append(DataError(f"{path}, {place}: {error}"))
    return list(tasks.values()), errors


def own_task(row: dict[str, Any], place: str, grading: Grading) -> Task:
    """One line as a task; `place` is where it stands, for messages about its tests.

    Raises:
        DataError: it cannot be used; the message does not name its place.
    """
    require_fields(row)
    tests = _asserts(row) if "test" in row else _pairs(row, grading)
    return Task(
        problem=Problem(
            problem_id=row["id"],
            question=row["question"],
            starter_code=row.get("starter_code") or None,
            reads_stdin=isinstance(tests, StdinTests),
        ),
        tests=tests,
        difficulty=row.get("difficulty"),
        date=row.get("date"),
        reference=row.get("reference"),
        place=place,
    )


def require_fields(row: dict[str, Any]) -> None:
    """Refuse a line whose fields are not of the documented names and types."""
    if row.get("version") != VERSION:
        raise DataError(f'version is {row.get("version")!r}: this ssd reads "version": {VERSION}')
    unknown = sorted(set(row) - FIELDS)
    if unknown:
        raise DataError(f"unknown field {unknown[0]}; known: {', '.join(sorted(FIELDS))}")
    for name in ("id", "question"):
        if not isinstance(row.get(name), str) or not row[name].strip():
            raise DataError(f"no text in field {name}: add it")
    for name in TEXTS:
        if not isinstance(row.get(name), str | None):
            raise DataError(f"field {name} is no text: write it as a JSON string")
    if (row.get("test") is None) == (row.get("tests") is None):
        raise DataError("needs either test (Python asserts) or tests (a list of input and output)")
    for name, kind in (("entry_point", "test"), ("func_name", "tests")):
        function = row.get(name)
        if function is not None and not function.isidentifier():
            raise DataError(f"{name} {function!r} is no function name: mend it")
        if function is not None and row.get(kind) is None:
            raise DataError(
                "entry_point goes with test (asserts), func_name with tests (input and output)"
            )
    try:
        json.dumps(row, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        raise DataError(
            "a lone surrogate (\\ud800 to \\udfff) is no character: remove it"
        ) from error
    for name in ("test", "reference"):
        try:
            _parse(row.get(name) or "")
        except (SyntaxError, ValueError, RecursionError) as error:
            raise DataError(f"{name} is no valid Python ({one_line(error)}): mend it") from error


def _parse(source: str) -> ast.Module:
    with warnings.catch_warnings(action="ignore"):  # "\w" where r"\w" is meant
        compile(source, "test", "exec", dont_inherit=True)
        return ast.parse(source)


def _asserts(row: dict[str, Any]) -> Judged:
    function = row.get("entry_point")
    judge = row["test"]
    if function is not None:
        called = "check" in top_level(_parse(judge))
        judge += f"\ncheck({function})\n" if called else "\n"
    with warnings.catch_warnings(action="ignore"):
        reason = why_it_asserts_nothing(judge)
        names = foreign_names(judge)
    if reason is not None:
        raise DataError(reason)
    if not names and not (function and builtin_names([function])):
        raise DataError("test uses no name of the answer: name the function that it tests")
    return Judged(judge=judge, names=builtin_names([function] if function else []))


def _pairs(row: dict[str, Any], grading: Grading) -> Judged | StdinTests:
    try:
        pairs = tuple((test["input"], test["output"]) for test in row["tests"])
    except (TypeError, KeyError) as error:
        raise DataError("tests is no list of objects with input and output: mend it") from error
    if not pairs or not all(isinstance(text, str) for pair in pairs for text in pair):
        raise DataError("tests needs one test at least, with input and output as JSON strings")
    tolerant = grading is Grading.tolerant
    function = row.get("func_name")
    if function is not None:
        calls = [_call(number, *pair) for number, pair in enumerate(pairs, start=1)]
        return call_tests(function, calls, tolerant=tolerant)
    if not any(output.strip() for _, output in pairs):
        raise DataError(
            "no test expects any output, so a program that does nothing passes: add one"
        )
    return StdinTests(
        tests=pairs, before=PRELUDES[Grading.official], any_exit=True, tolerant=tolerant
    )


def _call(number: int, lines: str, output: str) -> Call:
    """The arguments of a call, one value per line, and the expected result."""
    try:
        values = [literal(line) for line in lines.split("\n") if line.strip()]
    except ValueError as error:
        raise DataError(
            f"test {number}: input line {error} is neither JSON nor a Python literal: "
            "func_name takes one value per line"
        ) from error
    try:
        expected = literal(output)
    except ValueError as error:
        raise DataError(
            f"test {number}: output {error} is neither JSON nor a Python literal: quote text, "
            "or leave out func_name for programs that print"
        ) from error
    return values, list(expected) if isinstance(expected, tuple) else expected


def literal(text: str) -> Any:
    """A value written as JSON, or else as a Python literal.

    Raises:
        ValueError: it is neither; the message is the text, shortened.
    """
    try:
        return json.loads(text, parse_int=_integer)
    except (ValueError, RecursionError):
        pass
    try:
        with warnings.catch_warnings(action="ignore"):
            return ast.literal_eval(text.strip())
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError) as error:
        raise ValueError(repr(text if len(text) < 60 else f"{text[:57]}...")) from error


def _integer(digits: str) -> int:
    return int(Decimal(digits))  # which knows no limit of 4,300 digits


JSONL = Entry(
    name="jsonl",
    read=lambda paths, grading, _: load_own(paths[0], grading),
    setting="jsonl",
    release=lambda paths, _: paths[0].name,
    gradings=(Grading.official, Grading.tolerant),
    trusted_tests=False,
)
