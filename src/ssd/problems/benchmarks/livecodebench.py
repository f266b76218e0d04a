"""LiveCodeBench (Jain et al. 2024, arXiv 2403.07974): tasks of a release and window.

Graded as in repository LiveCodeBench/LiveCodeBench, `lcb_runner/evaluation/testing_util.py`: public
and hidden tests in order to the first that fails, a time limit per test, and the names below
imported for the program. Unlike there, programs that read from standard input run as programs, with
their own `__main__`, instead of as the body of a function; as there, `sys.exit` with any code ends
them well.
"""

import json
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from ssd.artifacts.fingerprints import hash_file
from ssd.config.choices import Grading
from ssd.config.settings import BenchmarkFiles
from ssd.errors import DataError
from ssd.problems import outputs
from ssd.problems.benchmarks.entry import Entry
from ssd.problems.benchmarks.humaneval import builtin_names
from ssd.problems.benchmarks.livecodebench_files import REPOSITORY, decode_tests, find_files
from ssd.problems.benchmarks.livecodebench_windows import NAMES, Window, count_window, parse_window
from ssd.problems.benchmarks.prelude import MOST_DIGITS, PRELUDES
from ssd.problems.benchmarks.tasks import Judged, StdinTests, Task
from ssd.problems.problem import Problem
from ssd.problems.rows import fixed_subset, numbered_rows

MULTIPLE, INTERACTIVE, ERRONEOUS = "several right answers", "interactive", "wrong tests"
ERRATA = {
    **dict.fromkeys(("abc311_c", "abc326_d", "abc327_b", "abc333_e", "abc343_e"), MULTIPLE),
    # The last three are find-words-containing-character, find-the-peaks and
    # generate-binary-strings-without-adjacent-zeros.
    **dict.fromkeys(("abc362_c", "3194", "3221", "3453"), MULTIPLE),
    **dict.fromkeys(("abc337_e", "abc355_e"), INTERACTIVE),
    "abc350_c": ERRONEOUS,
}
"""Problems whose official tests are known to be faulty, by question id (ERRATA.md of repository
LiveCodeBench/LiveCodeBench); a file's own `errata` column adds to them."""
Call = tuple[list[Any], Any]
"""Arguments, and the result that is expected."""
COLUMNS = (
    "question_id", "question_content", "starter_code", "difficulty", "contest_date",
    "public_test_cases", "private_test_cases", "metadata",
)  # fmt: skip


def window_entry(name: str, setting: str = "eval.benchmarks") -> Entry:
    """The entry of a window, whether or not it has a name of its own.

    Raises:
        ConfigError: the name cannot be read.
    """
    window = parse_window(name, setting)
    return Entry(
        name=name,
        read=partial(read_window, name, window),
        size=count_window(window),
        setting="lcb",
        fetch=partial(find_files, window),
        release=lambda paths, files: f"{window.describe()}, {_source(paths, files)}",
        window=str(window) if window.first or window.last else None,
        gradings=tuple(PRELUDES),
        hub_set=REPOSITORY,
    )


def read_window(
    name: str, window: Window, paths: list[Path], grading: Grading, limit: int | None
) -> list[Task]:
    """The problems of a window, in the order of the files; prints a note if the official files hold
    another number of them.

    Raises:
        DataError: a file is unreadable or not LiveCodeBench's, or holds no problem of the window.
    """
    rows = [
        (path, row)
        for path in paths
        for _, row in numbered_rows(path, "the file is damaged or was cut off, fetch it again")
        if window.holds(_text(row, "contest_date", path)[:10])
    ]
    where = ", ".join(map(str, paths))
    if not rows:
        raise DataError(
            f"{where}: no problem of {name} (contest dates {window}): "
            "check eval.files.lcb, or choose another window in eval.benchmarks"
        )
    if window.count is not None and len(rows) != window.count:
        print(
            f"note: {where} (eval.files.lcb) holds {len(rows)} problems of {name}, "
            f"whose official files hold {window.count}",
            flush=True,
        )
    # Before the tests are decoded, which are gigabytes.
    subset = fixed_subset(rows, limit, key=lambda row: _problem_id(row[1], row[0]))
    return [livecodebench_task(row, path, grading) for path, row in subset]


def livecodebench_task(row: dict[str, Any], path: Path, grading: Grading) -> Task:
    """One row in the official columns.

    Raises:
        DataError: a column is missing or its tests cannot be decoded.
    """
    missing = [column for column in COLUMNS if column not in row]
    if missing:
        raise DataError(
            f"{path}: problem {row.get('question_id', '?')} has no column {missing[0]}: "
            "eval.files.lcb takes files with the columns of code_generation_lite"
        )
    question_id = row["question_id"]
    tests, functional = official_tests(row, path, grading)
    starter = row["starter_code"].rstrip() or None
    return Task(
        problem=Problem(
            problem_id=_problem_id(row, path),
            question=row["question_content"],
            starter_code=starter,
            reads_stdin=starter is None and not functional,
        ),
        tests=tests,
        difficulty=row["difficulty"],
        date=row["contest_date"][:10],
        errata=ERRATA.get(question_id) or row.get("errata") or None,
    )


def official_tests(
    row: dict[str, Any], path: Path, grading: Grading
) -> tuple[Judged | StdinTests | None, bool]:
    """A row's tests, None where it has none, and whether they call a function."""
    try:
        function = json.loads(row["metadata"] or "{}").get("func_name")
        tests = decode_tests(row["private_test_cases"])
        if grading is not Grading.apple_release:
            tests = decode_tests(row["public_test_cases"]) + tests
        pairs = tuple((str(test["input"]), str(test["output"])) for test in tests)
        if function is not None and not str(function).isidentifier():
            raise ValueError(f"func_name {function!r} is no name")
    except (ValueError, KeyError, AttributeError) as error:
        raise DataError(
            f"{path}: the tests of problem {row['question_id']} cannot be decoded ({error}): "
            "fetch the file again"
        ) from error
    if not pairs:
        return None, function is not None
    if function is not None:
        return function_tests(function, pairs, grading), True
    return StdinTests(
        tests=pairs,
        before=PRELUDES[grading],
        pooled=grading is Grading.apple_release,
        any_exit=True,
        tolerant=grading is Grading.tolerant,
    ), False


def function_tests(
    function: str, pairs: tuple[tuple[str, str], ...], grading: Grading = Grading.official
) -> Judged:
    """Tests that call a function, or the method of that name of the class `Solution`.

    Arguments are one JSON value a line, the expected result is JSON, and a tuple that comes back
    counts as a list. Officially one `Solution` answers all tests and `==` decides; in apple/ml-ssd
    each test has its own, and the results are compared as text.
    """
    apple = grading is Grading.apple_release
    return Judged(
        judge=judge_source(function, FROM_JSON, AGREE[grading], fresh=apple),
        before=PRELUDES[grading],
        data=[list(pair) for pair in pairs],
        names=builtin_names([function]),
        per_call=not apple,
        num_pooled=len(pairs) if apple else 0,
    )


def call_tests(function: str, calls: Sequence[Call], *, tolerant: bool) -> Judged:
    """Tests as of `function_tests`, whose arguments and results are values already."""
    agree = AS_CLOSE_VALUES if tolerant else AS_VALUES
    return Judged(
        judge=judge_source(function, AS_THEY_ARE, agree, fresh=False),
        before=PRELUDES[Grading.official],
        data=[list(call) for call in calls],
        names=builtin_names([function]),
        per_call=True,
    )


def judge_source(function: str, values: tuple[str, str], agree: str, *, fresh: bool) -> str:
    """The judge of one problem. Its process knows nothing of this project, so what compares goes
    along as text."""
    imports = "" if agree == AS_VALUES else Path(outputs.__file__).read_text(encoding="utf-8")
    arguments, expected = values
    return JUDGE.format(
        function=function,
        imports=imports,
        arguments=arguments,
        expected=expected,
        agree=agree,
        fresh=fresh,
        digits=MOST_DIGITS,
    )


FROM_JSON = '[json.loads(line) for line in inputs.split("\\n")]', "json.loads(output)"
AS_THEY_ARE = "inputs", "output"
AS_VALUES = "result == expected"
AS_TEXT = "same_output(str(result), str(expected))"
AS_CLOSE_VALUES = "close_values(result, expected)"
AGREE = {
    Grading.official: AS_VALUES,
    Grading.apple_release: AS_TEXT,
    Grading.tolerant: AS_CLOSE_VALUES,
}
JUDGE = """\
try:
    CLASS, FUNCTION = Solution, None
except NameError:
    CLASS, FUNCTION = None, {function}
{imports}
import json
import reprlib
import sys

sys.set_int_max_str_digits({digits})


def find():
    return FUNCTION if CLASS is None else CLASS().{function}


call = find()
for number, (inputs, output) in enumerate(DATA, start=1):
    if {fresh}:
        call = find()
    result = call(*{arguments})
    if isinstance(result, tuple):
        result = list(result)
    expected = {expected}
    assert {agree}, f"test {{number}}: got {{reprlib.repr(result)}}"
"""
"""The judge of one problem: trusted source, which reaches the candidate's code only by calls.
The candidate's names are taken first, lest the judge's own hide them."""


def _problem_id(row: dict[str, Any], path: Path) -> str:
    return f"lcb/{_text(row, 'question_id', path)}"


def _text(row: dict[str, Any], column: str, path: Path) -> str:
    value = row.get(column)
    if not isinstance(value, str):
        raise DataError(
            f"{path} has no text in column {column}: "
            "eval.files.lcb takes files with the columns of code_generation_lite"
        )
    return value


def _source(paths: list[Path], files: BenchmarkFiles) -> str:
    if files.lcb is None:
        return f"{REPOSITORY} at {paths[0].parent.name}"
    return ", ".join(f"{path.name} sha256 {hash_file(path)[:12]}" for path in paths)


WINDOWS = tuple(map(window_entry, NAMES))
"""Those with a name of their own, and whole releases."""
