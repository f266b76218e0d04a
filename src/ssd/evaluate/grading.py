"""Answers -> verdicts: the code of every answer runs against its problem's tests, or its value is
compared with the expected one."""

import hashlib
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from typing import TypeVar

from ssd.config.choices import Extraction, Grading
from ssd.evaluate.reading import Reading
from ssd.problems.benchmarks.tasks import (
    Benchmark,
    Expected,
    Judged,
    StdinTests,
    Task,
    pooled_limit,
)
from ssd.problems.comparer import Comparer
from ssd.problems.forms import PROGRAM, Form
from ssd.problems.outputs import same_output
from ssd.records.samples import Sample
from ssd.records.verdicts import Verdict
from ssd.runtime.installation import require_package
from ssd.runtime.reporting import SIGNAL_SECONDS
from ssd.sandbox.endings import ERROR, FAILED, PASSED, TIMEOUT, Outcome
from ssd.sandbox.inside.jobs import HEAVY
from ssd.sandbox.pool import Sandbox

Item = TypeVar("Item")
Result = TypeVar("Result")
Judge = Sandbox | Comparer
"""A sandbox for programs, a comparer for values."""
NO_CODE, NO_VALUE, NO_TESTS = "no_code", "no_value", "no_tests"
WAITING = 16
"""Items per thread that are in memory: enough that none idles behind a slow one."""
WHOLE_LIMITS = 100
"""Limits of a call that a whole judgement may take where each call has its own: no benchmark has
many more tests, and a candidate could otherwise answer for ever."""


def require_modules(benchmark: Benchmark, sandbox: Judge) -> None:
    """Refuse a benchmark whose tests import a module that the sandbox lacks, or whose values need a
    package that is not installed.

    Raises:
        HardwareError: there is one.
    """
    if isinstance(sandbox, Comparer):
        if benchmark.grading == Grading.math_verify:
            require_package("eval.grading=math_verify", "math_verify", "set eval.grading=exact")
        return
    for task in benchmark.tasks:
        tests = task.tests
        judge = tests.judge if isinstance(tests, Judged) else ""
        if isinstance(tests, Judged | StdinTests) and HEAVY in judge + tests.before:
            sandbox.require(HEAVY, benchmark.name)
            return


def check(
    tests: Judged | StdinTests | Expected, code: str, sandbox: Judge, timeout: float
) -> Outcome:
    """Run a candidate's code against tests, or compare a value; `timeout` is seconds per program,
    call or test, as the tests themselves say, or per comparison."""
    if isinstance(tests, Expected):
        assert isinstance(sandbox, Comparer)
        return sandbox.compare(tests, code, timeout)
    assert not isinstance(sandbox, Comparer)
    if isinstance(tests, StdinTests):
        return check_outputs(tests, code, sandbox, timeout)
    whole = pooled_limit(timeout, tests.num_pooled) if tests.num_pooled else timeout
    return sandbox.judge(
        code,
        tests.judge,
        before=tests.before,
        data=tests.data,
        names=tests.names,
        timeout=WHOLE_LIMITS * timeout if tests.per_call else whole,
        call_timeout=timeout if tests.per_call else None,
    )


def check_outputs(tests: StdinTests, code: str, sandbox: Sandbox, timeout: float) -> Outcome:
    """Run a program once per test until one fails. The expected output never enters the sandbox."""
    seconds = 0.0
    whole = pooled_limit(timeout, len(tests.tests))
    for number, (stdin, expected) in enumerate(tests.tests, start=1):
        left = whole - seconds if tests.pooled else timeout
        if left <= 0:
            detail = f"test {number} not reached in {whole:g} s"
            return Outcome(TIMEOUT, detail, sandbox.name, seconds)
        ran = sandbox.execute(
            code, stdin, before=tests.before, timeout=left, any_exit=tests.any_exit
        )
        seconds += ran.seconds
        if ran.status != PASSED:
            return Outcome(ran.status, f"test {number}: {ran.detail}", sandbox.name, seconds)
        if not same_output(ran.stdout, expected, tolerant=tests.tolerant):
            return Outcome(FAILED, f"test {number}: wrong output", sandbox.name, seconds)
    if not tests.tests:
        return Outcome(ERROR, "no test", sandbox.name, seconds)
    return Outcome(PASSED, "", sandbox.name, seconds)


def grade_answer(
    task: Task,
    sample: Sample,
    sandbox: Judge,
    *,
    timeout: float,
    reading: Reading,
    extraction: Extraction = Extraction.official,
    form: Form = PROGRAM,
) -> Verdict:
    """Extract the code or value of an answer and judge it; if it fails by the strict rule, also
    what the lenient one finds."""
    rule = form.rule(extraction)
    code = form.extract(reading.answer, rule)
    outcome = run(task, code, sandbox, timeout)
    lost_to = "" if rule is form.strict else None
    if lost_to == "" and outcome.status != PASSED:
        lenient, fault = form.read_leniently(reading.answer)
        if fault and run(task, lenient, sandbox, timeout).status == PASSED:
            lost_to = fault
    return Verdict(
        problem_id=sample.prompt_id,
        sample_index=sample.sample_index,
        passed=outcome.status == PASSED,
        status=outcome.status,
        detail=outcome.detail,
        num_tokens=len(sample.completion_token_ids),
        finish_reason=sample.finish_reason,
        has_fence=form.keeps_it(reading.answer),
        program=program_hash(code or ""),
        seconds=round(outcome.seconds, 4),
        backend=outcome.backend,
        lost_to=lost_to,
        reasoning=reading.reasoning,
        num_reasoning_tokens=reading.num_reasoning_tokens,
    )


def run(task: Task, code: str | None, sandbox: Judge, timeout: float) -> Outcome:
    """The outcome of an answer's code or value."""
    if task.tests is None:
        return Outcome(NO_TESTS, "the benchmark's file has no tests for it", sandbox.name)
    if code is None or not code.strip():
        if isinstance(task.tests, Expected):
            return Outcome(NO_VALUE, "no value after the reasoning", sandbox.name)
        return Outcome(NO_CODE, "no code block after the reasoning", sandbox.name)
    return check(task.tests, code, sandbox, timeout)


def program_hash(code: str) -> str:
    """Twelve hexadecimal digits that equal programs or values share; empty without any."""
    text = "\n".join(line.rstrip() for line in code.strip().split("\n"))
    return hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()[:12] if text else ""


@contextmanager
def as_they_come(
    work: Callable[[Item], Result], items: Iterable[Item], sandbox: Judge
) -> Iterator[Iterator[Result]]:
    """The results of `work` on the items, computed on several threads and yielded as they finish. A
    slow program delays neither the others nor Ctrl-C, which ends the running programs. Items are
    taken as threads come free, so that not all of them are in memory."""
    pool = ThreadPoolExecutor(sandbox.workers)

    def results() -> Iterator[Result]:
        pending: set[Future[Result]] = set()
        for item in items:
            pending.add(pool.submit(work, item))
            while len(pending) >= WAITING * sandbox.workers:
                ended, pending = wait(pending, SIGNAL_SECONDS, FIRST_COMPLETED)
                yield from (future.result() for future in ended)
        while pending:
            ended, pending = wait(pending, SIGNAL_SECONDS, FIRST_COMPLETED)
            yield from (future.result() for future in ended)

    try:
        yield results()
    except BaseException:
        sandbox.stop()
        raise
    finally:
        pool.shutdown(cancel_futures=True)
