"""Grading speed on one core of this machine, every contestant on the same trivial tests in one run.

    python benchmarks/grade.py
    python benchmarks/grade.py --only bwrap,fresh --tests 500

Contestants, in turn, `--repeats` times:
  bwrap, namespaces, none                a warm worker of the backend: judged, as a program, and
                                         on HumanEval's reference solutions
  fresh             `python -I` on the program and its test, not isolated, nothing imported
  fresh_prelude     the same after the modules that LiveCodeBench's graders import
  fresh_bwrap       as fresh_prelude, within bubblewrap

All processes are bound to one core. `wall` counts tests per second on the clock, `CPU` per second
of processor time that grader and workers have used together, which others on the machine disturb
less; bubblewrap does not hand on what its children have used.
"""

import argparse
import math
import os
import resource
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence

from ssd.config.choices import Grading
from ssd.config.settings import BenchmarkFiles
from ssd.errors import HardwareError
from ssd.evaluate.grading import check
from ssd.problems.benchmarks.registry import load_benchmark
from ssd.problems.benchmarks.tasks import Task
from ssd.problems.problem import packaged_file
from ssd.problems.rows import read_jsonl
from ssd.sandbox.endings import PASSED
from ssd.sandbox.pool import Sandbox, load_sandbox

CODE = "def add(a, b):\n    return a + b\n"
TEST = "assert add(1, 2) == 3\n"
PRELUDE = (
    "import string, re, datetime, collections, heapq, bisect, copy, math, random, statistics, "
    "itertools, functools, operator, io, sys, json, typing\n"
)
PROGRAM = "a, b = map(int, input().split())\nprint(a + b)\n"
WARM = ("bwrap", "namespaces", "none")
FRESH = ("fresh", "fresh_prelude", "fresh_bwrap")
Rates = dict[str, tuple[float, float]]
"""Tests per second of clock and of processor time."""


def main() -> None:
    arguments = parse_arguments()
    core = max(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {core})
    found: dict[str, list[tuple[float, float]]] = {}
    for _ in range(arguments.repeats):
        for name in arguments.only:
            try:
                rates = warm(name, arguments.tests) if name in WARM else fresh(name)
            except HardwareError as error:
                print(f"{name}: {error}", file=sys.stderr)
                continue
            for title, rate in rates.items():
                found.setdefault(title, []).append(rate)
    print_table(found, core)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--tests", type=int, default=500, help="tests per warm contestant (500)")
    parser.add_argument("--repeats", type=int, default=3, help="rounds over all contestants (3)")
    parser.add_argument(
        "--only",
        type=lambda text: tuple(text.split(",")),
        default=(*WARM, *FRESH),
        help=f"which of {', '.join((*WARM, *FRESH))}; default all",
    )
    return parser.parse_args()


def warm(name: str, tests: int) -> Rates:
    """A worker's rates; its start is not counted, its share of the processor's time is."""

    def run(jobs: Sequence[Callable[[Sandbox], bool]]) -> tuple[float, float]:
        with load_sandbox(name, memory_mib=512) as sandbox:
            started, used = time.monotonic(), processor_seconds()
            assert all(job(sandbox) for job in jobs)
            seconds = time.monotonic() - started
        return len(jobs) / seconds, len(jobs) / (processor_seconds() - used)

    return {
        f"{name}, judged": run([judged] * tests),
        f"{name}, program": run([printed] * tests),
        f"{name}, HumanEval": run(humaneval()),
    }


def judged(sandbox: Sandbox) -> bool:
    return sandbox.judge(CODE, TEST, timeout=10).status == PASSED


def printed(sandbox: Sandbox) -> bool:
    return sandbox.execute(PROGRAM, "1 2\n", timeout=10).stdout == "3\n"


def humaneval() -> list[Callable[[Sandbox], bool]]:
    """The 164 reference solutions against their tests."""
    tasks = load_benchmark("humaneval", BenchmarkFiles(), Grading.official).tasks
    rows = read_jsonl(packaged_file("humaneval"))
    codes = {row["task_id"]: row["prompt"] + row["canonical_solution"] for row in rows}

    def job(task: Task) -> Callable[[Sandbox], bool]:
        assert task.tests is not None
        tests, code = task.tests, codes[task.problem.problem_id]
        return lambda sandbox: check(tests, code, sandbox, 10).status == PASSED

    return [job(task) for task in tasks]


def fresh(name: str) -> Rates:
    """Rates of an interpreter per program."""
    tests = 30
    command = [sys.executable, "-I", "-c", (PRELUDE if name != "fresh" else "") + CODE + TEST]
    if name == "fresh_bwrap":
        if shutil.which("bwrap") is None:
            raise HardwareError("bubblewrap is not installed")
        command = ["bwrap", "--unshare-all", "--ro-bind", "/", "/", "--proc", "/proc", *command]
    wall, processor = rate(lambda: subprocess.run(command, check=True), tests)
    return {name: (wall, math.nan if name == "fresh_bwrap" else processor)}


def rate(run: Callable[[], object], tests: int) -> tuple[float, float]:
    started, used = time.monotonic(), processor_seconds()
    for _ in range(tests):
        run()
    return tests / (time.monotonic() - started), tests / (processor_seconds() - used)


def processor_seconds() -> float:
    """Of this process and all that it has waited for, user and system."""
    both = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in both)


def print_table(found: dict[str, list[tuple[float, float]]], core: int) -> None:
    """Medians over the rounds, and ratios to `fresh_prelude` where it ran, else to the last."""
    medians = {
        name: tuple(statistics.median(column) for column in zip(*rates, strict=True))
        for name, rates in found.items()
    }
    reference = medians.get("fresh_prelude", list(medians.values())[-1])
    print(f"tests/s on core {core}, median of the rounds; load {os.getloadavg()[0]:.1f}\n")
    print(f"{'':22} {'wall':>7} {'ratio':>6} {'CPU':>7} {'ratio':>6}")
    for name, (wall, processor) in medians.items():
        print(
            f"{name:22} {wall:7.1f} {wall / reference[0]:6.1f} "
            f"{processor:7.1f} {processor / reference[1]:6.1f}"
        )


if __name__ == "__main__":
    main()
