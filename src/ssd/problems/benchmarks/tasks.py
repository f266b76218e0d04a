"""What a benchmark consists of: problems, each with the tests that judge an answer."""

from dataclasses import dataclass
from typing import Any

from ssd.config.choices import Grading
from ssd.problems.forms import PROGRAM, Form
from ssd.problems.problem import Problem


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """Tests as trusted source, which reaches the candidate's functions from another process."""

    judge: str
    """Python source; reaching its last line is passing, an AssertionError is failing."""
    before: str = ""
    """Trusted source that runs in the candidate's globals before its code."""
    data: Any = None
    """What the judge finds as `DATA`; JSON types only."""
    names: tuple[str, ...] = ()
    """Names that are the candidate's even where Python has a builtin of that name."""
    per_call: bool = False
    """Whether the time limit holds for each call, as in LiveCodeBench, else for all of it."""
    num_pooled: int = 0
    """How many tests share one limit, `pooled_limit`; 0 where none is shared."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StdinTests:
    """Tests of a whole program: what it reads, and what it should print."""

    tests: tuple[tuple[str, str], ...]
    """Input and expected output, in order; grading stops at the first that fails."""
    before: str = ""
    pooled: bool = False
    """Whether all tests share one limit, `pooled_limit`, else each has its own."""
    any_exit: bool = False
    """Whether a program may leave with any exit code, as LiveCodeBench's may."""
    tolerant: bool = False
    """Whether numbers with a fraction may differ by `ssd.problems.outputs.TOLERANCE`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Expected:
    """The value that an answer should be."""

    answer: str
    """As the benchmark writes it: text, or LaTeX without dollars."""
    grading: Grading
    """How values are compared: `number`, `exact` or `math_verify`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """A problem as it is posed, and its tests."""

    problem: Problem
    tests: Judged | StdinTests | Expected | None
    """None where the file holds no tests: such a task is never passed."""
    difficulty: str | None = None
    """`easy`, `medium` or `hard`, or the benchmark's own word, where it says."""
    date: str | None = None
    """Contest date, `YYYY-MM-DD`."""
    errata: str | None = None
    """Why the official tests of this problem are known to be faulty."""
    prompt: str = ""
    """Code that a bare completion goes on from, as HumanEval's are; empty where there is none."""
    reference: str | None = None
    """A solution that has to pass, if a problem of your own has one."""
    place: str = ""
    """File and line of a problem of your own, for messages about it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Benchmark:
    """Tasks, and the facts that are stored beside every score on them."""

    name: str
    tasks: list[Task]
    release: str | None
    """Which edition of the benchmark the problems come from."""
    window: str | None
    """First and last contest date, both included; None where problems have no dates."""
    grading: str
    """The rule answers are graded by."""
    form: Form = PROGRAM
    """How answers are read."""


def pooled_limit(timeout: float, num_tests: int) -> float:
    """Seconds that all tests of a program have together where they share a limit: timeout + 1 for
    each and 5 more (repository apple/ml-ssd, `evaluation/livecodebench_utils.py`)."""
    return (timeout + 1) * num_tests + 5
