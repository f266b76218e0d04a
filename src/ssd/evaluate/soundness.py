"""Whether the tests of your own problems tell right answers from wrong ones: `python -m
ssd.evaluate check FILE`.

A problem's reference solution has to pass. A program that does nothing must not, and neither must
functions that return nothing in particular: a test that those pass cannot fail.
"""

import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from ssd.arms import counted
from ssd.config.choices import Grading
from ssd.errors import FLAWED, DataError
from ssd.evaluate.grading import Judge, check
from ssd.evaluate.options import add_sandbox_options, naming_options, open_sandbox
from ssd.problems.benchmarks.assertions import foreign_names
from ssd.problems.benchmarks.own import JSONL, first_of, read_own
from ssd.problems.benchmarks.tasks import Expected, Judged, StdinTests, Task
from ssd.problems.benchmarks.values import OWN_VALUES, read_values
from ssd.runtime.command_line import command_line
from ssd.runtime.progress import progress_bar
from ssd.sandbox.endings import PASSED

IDLE = "", "None", "object()"
"""Return values of the functions in a program that does nothing; the empty text stands for a
program without functions."""
MANY = 200
"""Problems from which on it takes long enough for a progress bar."""


def flaw(task: Task, sandbox: Judge, timeout: float) -> str | None:
    """The faults that running a problem's tests shows, each with a remedy."""
    tests = task.tests
    assert isinstance(tests, Judged | StdinTests)
    if task.reference is not None:
        outcome = check(tests, task.reference, sandbox, timeout)
        if outcome.status != PASSED:
            return (
                f"{task.place}: the reference solution does not pass ({outcome.status}: "
                f"{outcome.detail}): mend it or the test"
            )
    if isinstance(tests, StdinTests) or tests.data is not None:
        return None  # compared by the grader or with ==: reading already refused what cannot fail
    empty, *hollow = (
        check(tests, idle_program(tests, result), sandbox, timeout).status == PASSED
        for result in IDLE
    )
    if empty:
        return f"{task.place}: an empty program passes: add an assert that it fails"
    if all(hollow):
        names = ", ".join(candidate_names(tests))
        return f"{task.place}: passes whatever {names} returns: add an assert that can fail"
    return None


def idle_program(tests: Judged, result: str) -> str:
    """A program with the functions that tests use, each of which returns `result`."""
    names = candidate_names(tests) if result else []
    return "".join(f"def {name}(*_, **__):\n    return {result}\n" for name in names)


def candidate_names(tests: Judged) -> list[str]:
    """The names of an answer that tests use."""
    return list(dict.fromkeys([*foreign_names(tests.judge), *tests.names]))


def find_flaws(tasks: Sequence[Task], sandbox: Judge, *, timeout: float) -> list[str]:
    """The fault of every faulty problem, in order."""
    with (
        ThreadPoolExecutor(sandbox.workers) as pool,
        progress_bar("checking tests", len(tasks), unit="problem", hidden=len(tasks) < MANY) as bar,
    ):
        flaws = []
        for reason in pool.map(lambda task: flaw(task, sandbox, timeout), tasks):
            bar.update(1)
            if reason is not None:
                flaws.append(reason)
    return flaws


def require_sound(tasks: Sequence[Task], sandbox: Judge, *, timeout: float) -> None:
    """Refuse your own problems if their tests cannot fail or their reference does not pass, and
    print how many have no reference.

    Raises:
        DataError: there is one; the message names its line.
    """
    flaws = find_flaws(tasks, sandbox, timeout=timeout)
    if flaws:
        raise first_of(flaws, tasks[0].place.rpartition(", ")[0])
    missing = without_reference(tasks)
    if missing:
        print(f"note: {missing}", flush=True)


def without_reference(tasks: Sequence[Task]) -> str:
    """A note that some problems have no reference solution; empty if all have one."""
    count = sum(task.reference is None and not isinstance(task.tests, Expected) for task in tasks)
    if not count:
        return ""
    return (
        f"{count} of {len(tasks)} problems have no reference solution, so nothing shows that a "
        'right answer passes their tests: add the field "reference"'
    )


@naming_options()
def run_check(arguments: list[str]) -> None:
    """Print a line for every faulty problem of a file, and exit with code 1 if there is one.

    Raises:
        DataError: the file cannot be read.
        HardwareError: code cannot be isolated on this machine.
    """
    parser = command_line(
        "evaluate check",
        "Check problems of your own (docs/benchmarks.md has the format): fields and types, that "
        "tests can fail, and that reference solutions pass.",
        "problems.jsonl",
        "problems.jsonl --benchmark values  # problems with an answer instead of tests",
    )
    parser.add_argument("file", type=Path, metavar="FILE", help="the .jsonl or .jsonl.gz file")
    parser.add_argument(
        "--benchmark", choices=(JSONL.name, OWN_VALUES.name), default=JSONL.name,
        help="whether problems have tests or an answer (default %(default)s: tests)",
    )  # fmt: skip
    parser.add_argument(
        "--grading", choices=[rule.value for rule in Grading], default=Grading.official.value,
        help="eval.grading",
    )  # fmt: skip
    add_sandbox_options(parser)
    options = parser.parse_args(arguments)
    if not options.file.is_file():
        raise DataError(f"{options.file} is no file: name a .jsonl or .jsonl.gz file")
    grading = Grading(options.grading)
    if options.benchmark == OWN_VALUES.name:
        tasks, errors = read_values(options.file, OWN_VALUES.rule(grading))
        flaws = [str(error) for error in errors]
    else:
        tasks, errors = read_own(options.file, JSONL.rule(grading))
        flaws = [str(error) for error in errors]
        with open_sandbox(options) as sandbox:
            flaws += find_flaws(tasks, sandbox, timeout=options.timeout)
    for line in sorted(flaws, key=lambda text: _line_number(text, options.file)):
        print(line)
    total = len(tasks) + len(errors)
    if not total:
        raise DataError(f"{options.file} holds no problems")
    print(f"{counted(total, 'problem')}, {len(flaws)} wrong")
    missing = without_reference(tasks)
    if missing:
        print(missing)
    if flaws:
        sys.exit(FLAWED)


def _line_number(text: str, path: Path) -> int:
    """The number 3 in `FILE, line 3: what is wrong`."""
    return int(text.removeprefix(f"{path}, ").partition(":")[0].split()[1])
