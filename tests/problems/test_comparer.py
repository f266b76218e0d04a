"""Values compared as numbers, as text and by math-verify, whose process survives what it reads."""

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from ssd.config.choices import Extraction, Grading
from ssd.errors import HardwareError
from ssd.problems.benchmarks.tasks import Expected
from ssd.problems.comparer import Comparer
from ssd.problems.forms import FORMS
from ssd.sandbox.endings import FAILED, PASSED, TIMEOUT, Outcome

pytest.importorskip("math_verify", reason="math-verify is not installed: pip install -e '.[math]'")
SECONDS = 2.0


@pytest.fixture(scope="module")
def comparer() -> Iterator[Comparer]:
    with Comparer(memory_mib=1024, workers=1) as comparer:
        yield comparer


def judged(comparer: Comparer, expected: str, answer: str, grading: Grading) -> Outcome:
    """The outcome of an answer as a model writes it."""
    value = FORMS[grading].extract(answer, Extraction.official)
    assert value is not None
    return comparer.compare(Expected(answer=expected, grading=grading), value, SECONDS)


@pytest.mark.parametrize(
    ("expected", "answer"),
    [
        (r"\frac{1}{2}", r"\boxed{0.5}"),
        (r"\frac{1}{2}", r"The answer is \frac12."),
        ("42", "The answer is 42 apples."),
        ("x^2+1", r"\boxed{1 + x^2}"),
        (r"\text{Evelyn}", r"\boxed{Evelyn}"),
        (r"\left( 3, \frac{\pi}{2} \right)", r"\boxed{(3, \pi/2)}"),
        ("[-2,7]", r"\boxed{x \in [-2,7]}"),
        ("2,125", r"\boxed{2125}"),
    ],
)
def test_equal_mathematics_passes_and_other_fails(
    comparer: Comparer, expected: str, answer: str
) -> None:
    assert judged(comparer, expected, answer, Grading.math_verify).status == PASSED
    other = judged(comparer, rf"{expected} + 17", answer, Grading.math_verify)
    assert other.status == FAILED


def test_exact_texts_and_numbers_need_no_mathematics(comparer: Comparer) -> None:
    assert judged(comparer, "Paris", "The answer is **Paris**.", Grading.exact).status == PASSED
    assert judged(comparer, r"\frac12", r"\boxed{0.5}", Grading.exact).status == FAILED
    assert judged(comparer, "1/2", r"\boxed{0.50}", Grading.number).status == PASSED
    wrong = judged(comparer, "18", r"\boxed{20}", Grading.number)
    assert (wrong.status, wrong.detail, wrong.backend) == (FAILED, "20 is not 18", "")
    several = judged(comparer, "18", r"\boxed{18, 20}", Grading.number)
    assert several.status == FAILED


def test_a_hostile_answer_ends_at_its_limit_and_alone(comparer: Comparer) -> None:
    hung = judged(comparer, "9", r"\boxed{9^{9^{9^9}}}", Grading.math_verify)
    assert hung.status == TIMEOUT and "2 s" in hung.detail
    assert judged(comparer, "9", r"\boxed{3^2}", Grading.math_verify).status == PASSED


def test_an_answer_is_not_run(comparer: Comparer, tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    for code in (f"__import__('os').mkdir('{mark}')", f"$__import__('os').mkdir('{mark}')$"):
        assert judged(comparer, "1", code, Grading.math_verify).status != PASSED
    assert not mark.exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    "content",
    [
        "10000000!", r"(x+y+z)^{5000}-1", "(" * 20_000 + ")" * 20_000, f"{'{' * 3000}1{'}' * 3000}",
        r"\int_0^1 e^{x^{x^x}} \sin(x^{x}) dx", "x+" * 4000 + "1", r"10^{10^{10}} - 1",
    ],
)  # fmt: skip
def test_every_hostile_answer_gets_a_verdict(comparer: Comparer, content: str) -> None:
    assert judged(comparer, "1", rf"\boxed{{{content}}}", Grading.math_verify).status != PASSED
    assert judged(comparer, "9", r"\boxed{3^2}", Grading.math_verify).status == PASSED


def test_stopping_ends_a_comparison_that_runs() -> None:
    ended: list[str] = []
    with Comparer(memory_mib=1024, workers=1) as comparer:

        def compare() -> None:
            try:
                comparer.compare(
                    Expected(answer="9", grading=Grading.math_verify), "$9^{9^{9^9}}$", 600.0
                )
            except HardwareError as error:
                ended.append(str(error))

        thread = threading.Thread(target=compare)
        thread.start()
        comparer.stop()  # before it begins, or while it runs
        thread.join(60)
        assert not thread.is_alive()
    assert "eval.grading=exact" in ended[0]
