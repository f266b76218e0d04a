"""Values in answers: where they stand, how they are written, and which benchmarks ask for them."""

import gzip
import json
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest

from ssd.config.choices import Extraction, Grading
from ssd.config.settings import BenchmarkFiles
from ssd.errors import DataError
from ssd.problems.benchmarks.registry import load_benchmark
from ssd.problems.benchmarks.tasks import Benchmark, Expected
from ssd.problems.forms import NUMBER, PROGRAM, TEXT
from ssd.problems.values import final_line, last_box, last_number, only_number, plain_text


@pytest.mark.parametrize(
    ("answer", "content"),
    [
        (r"so the answer is \boxed{18}", "18"),
        (r"First \boxed{3}, so \boxed{18}. Done.", "18"),
        (r"Put it in \boxed{}. It is \boxed{\frac{1}{2}}, as \boxed{} asks.", r"\frac{1}{2}"),
        (r"$\boxed{\text{in } \{1, 2\}}$", r"\text{in } \{1, 2\}"),
        (r"{ \boxed{x} } { and } \boxed {y}", "y"),
        (r"\fbox{3}", "3"),
        (r"\boxed{7} and then \boxed{8", "7"),
        (r"cut off \boxed{\frac{1}{2", None),
        ("18", None),
        ("", None),
    ],
)
def test_the_last_closed_box_counts(answer: str, content: str | None) -> None:
    assert last_box(answer) == content


@pytest.mark.parametrize(
    ("content", "number"),
    [
        ("18", "18"), ("-7", "-7"), ("\N{MINUS SIGN}7", "-7"), ("18.", "18"), ("007", "7"),
        ("$18$", "18"), (r"\$18", "18"), ("-$18", "-18"), ("18 dollars", "18"), ("50%", "50"),
        (r"50\%", "50"), (r"18\text{ cm}^2", "18"), ("5 m^2", "5"), (r"\text{18 dollars}", "18"),
        ("$18/hour", "18"), ("**18**", "18"), ("2,125", "2125"), (r"\$2,125.00", "2125"),
        (r"1{,}450{,}000", "1450000"), (r"2\!,\!125", "2125"), (r"12\,500", "12500"),
        ("0.50", "1/2"), (".5", "1/2"), (r"\frac{1}{2}", "1/2"), (r"-\dfrac{3}{4}", "-3/4"),
        (r"\frac{-3}{4}", "-3/4"), ("6/4", "3/2"), ("x = 5", "5"), ("16 - 3 - 4 = 9", "9"),
        ("10 - 3 = 7 eggs", "7"),
        # None of these is one number, whatever else it is.
        ("3, 4", None), ("10^6", None), ("9*2", None), ("2**3", None), ("12:30", None),
        ("1e999999999", None), ("7/0", None), ("three", None), ("", None), ("9" * 5000, None),
    ],
)  # fmt: skip
def test_a_box_holds_one_number_or_none(content: str, number: str | None) -> None:
    assert only_number(content) == number


@pytest.mark.parametrize(
    ("answer", "number"),
    [
        ("She sells 16 - 4 = <<16-4=12>>12 eggs.\nShe makes 12 * 2 = $24 a day.\n#### 24", "24"),
        ("The answer is $1,080.", "1080"),
        ("It takes 3 hours. I hope this helps!", "3"),
        ("between 10-20", "20"),
        ("5-3", "3"),
        ("It is -5 degrees", "-5"),
        (r"That is $\frac{3}{4}$ of it.", "3/4"),
        ("nothing", None),
    ],
)  # fmt: skip
def test_without_a_box_the_last_number_counts(answer: str, number: str | None) -> None:
    assert last_number(answer) == number
    assert NUMBER.extract(answer, Extraction.official) == number
    assert NUMBER.extract(answer, Extraction.boxed) is None


@pytest.mark.parametrize(
    ("answer", "line"),
    [
        ("We add.\n\nThe answer is $\\frac12$.\n", "$\\frac12$"),
        ("x = 3\n**Answer:** Paris\n\n", "Paris"),
        ("a\n#### 18", "18"),
        ("So the final answer: 5 apples.", "5 apples"),
        ("Paris.", "Paris"),
        ("2**3", "2**3"),
        ("\n \n", None),
    ],
)
def test_without_a_box_the_final_line_counts_for_texts(answer: str, line: str | None) -> None:
    assert final_line(answer) == line
    assert TEXT.extract(answer, Extraction.official) == line
    assert TEXT.extract(answer, Extraction.boxed) is None


def test_latex_without_dollars_gets_them() -> None:
    for answer in (r"\boxed{\frac12}", r"The answer is \frac12."):
        assert TEXT.extract(answer, Extraction.official) == r"$\frac12$"


def test_what_only_sets_a_text_is_no_part_of_it() -> None:
    texts = ("Evelyn", "$\\text{Evelyn}$", "\\text{Evelyn}.", "  Evelyn\n", r"\(Evelyn\)")
    assert {plain_text(text) for text in texts} == {"Evelyn"}
    assert plain_text("$1$ and $2$") == "$1$ and $2$"


@pytest.mark.timeout(20)
@pytest.mark.parametrize(
    "part",
    [
        r"\boxed{", "{", "}", r"\text{", "9", "9,", "1 / ", "- ", " **", " **a**b", "answer ",
        r"\frac{1", "=", "a^",
    ],
)  # fmt: skip
def test_no_repetition_takes_the_square_of_its_length(part: str) -> None:
    answer = part * (100_000 // len(part))
    for form in (NUMBER, TEXT):
        form.extract(answer, Extraction.official)
        form.keeps_it(answer)
    only_number(answer)


def test_a_value_without_a_box_is_lost_to_its_form_under_the_strict_rule() -> None:
    assert NUMBER.read_leniently("It is 18.") == ("18", "no box")
    assert NUMBER.read_leniently(r"\boxed{18}") == ("18", "")
    assert NUMBER.read_leniently("") == (None, "")
    assert (NUMBER.strict, PROGRAM.strict) == (Extraction.boxed, Extraction.official)


def write(path: Path, *rows: dict[str, Any]) -> str:
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    return str(path)


def load(name: str, path: str, grading: Grading = Grading.official) -> Benchmark:
    return load_benchmark(name, BenchmarkFiles(**{name: path}), grading)


def expected(benchmark: Benchmark) -> list[str]:
    return [task.tests.answer for task in benchmark.tasks if isinstance(task.tests, Expected)]


GSM8K = ({"question": "a?", "answer": "2+1=3\n#### 3"}, {"question": "b?", "answer": "#### 2,125"})


def test_gsm8k_is_read_from_lines_and_from_the_hubs_parquet(tmp_path: Path) -> None:
    lines = load("gsm8k", write(tmp_path / "test.jsonl", *GSM8K))
    packed = tmp_path / "test.jsonl.gz"
    packed.write_bytes(gzip.compress((tmp_path / "test.jsonl").read_bytes()))
    table = tmp_path / "test-00000-of-00001.parquet"
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(list(GSM8K)), table)
    assert expected(lines) == ["3", "2125"]
    assert [task.problem.problem_id for task in lines.tasks] == ["gsm8k/0", "gsm8k/1"]
    assert (lines.grading, lines.form) == ("number", NUMBER)
    assert load("gsm8k", str(packed)).tasks == load("gsm8k", str(table)).tasks == lines.tasks


def test_gsm8k_has_its_1319_problems(shared: Path) -> None:
    if not (shared / "gsm8k").is_dir():
        pytest.skip("../shared/data has no gsm8k")
    benchmark = load("gsm8k", str(shared / "gsm8k" / "test.jsonl.gz"))
    assert len(benchmark.tasks) == 1319
    assert expected(benchmark)[:3] == ["18", "3", "70000"]


def test_math500_and_aime_have_their_own_ids_levels_and_rules(tmp_path: Path) -> None:
    row = {"problem": "p", "answer": r"\frac{1}{2}", "level": 3, "unique_id": "test/a/1.json"}
    math500 = load("math500", write(tmp_path / "m.jsonl", row, {**row, "unique_id": "b"}))
    assert [task.problem.problem_id for task in math500.tasks] == [
        "test/a/1.json",
        "b",
    ]
    assert (math500.grading, math500.form, math500.tasks[0].difficulty) == (
        "math_verify", TEXT, "level 3",
    )  # fmt: skip
    rows = {"id": 60, "problem": "p", "answer": "033"}, {"id": 61, "problem": "q", "answer": 204}
    aime = load("aime", write(tmp_path / "a.jsonl", *rows))
    assert expected(aime) == ["33", "204"]
    assert aime.tasks[1].problem.problem_id == "aime/61"
    exact = load("math500", str(tmp_path / "m.jsonl"), Grading.exact)
    assert (exact.grading, expected(exact)[0]) == ("exact", r"\frac{1}{2}")


OWN = {"version": 1, "id": "a", "question": "1 + 2?", "answer": "3"}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"version": 2}, '"version": 1'),
        ({"answer": " "}, "no text in field answer"),
        ({"answer": 3}, "no text in field answer"),
        ({"answer": "Paris"}, "eval.grading=exact"),
        ({"answer": "3, 4"}, "eval.grading=exact"),
        ({"tests": []}, "unknown field tests"),
        ({"difficulty": 3}, "field difficulty is no text"),
        ({}, "the id a comes twice"),
    ],
)
def test_a_line_that_cannot_be_judged_is_named(
    tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    path = write(tmp_path / "own.jsonl", OWN, {**OWN, **change})
    with pytest.raises(DataError, match=r"own\.jsonl, line 2: ") as refused:
        load("values", path)
    assert message in str(refused.value)


def test_own_problems_say_difficulty_and_errata(tmp_path: Path) -> None:
    path = write(tmp_path / "own.jsonl", {**OWN, "difficulty": "easy", "errata": "ambiguous"})
    benchmark = load("values", path, Grading.exact)
    (task,) = benchmark.tasks
    assert (task.difficulty, task.errata, benchmark.release) == ("easy", "ambiguous", "own.jsonl")


def test_without_a_file_and_offline_the_remedy_is_named(tmp_path: Path) -> None:
    for name in ("gsm8k", "math500", "aime"):
        with pytest.raises(DataError, match=rf"set eval\.files\.{name}=FILE"):
            load_benchmark(name, BenchmarkFiles(), Grading.official)
        with pytest.raises(DataError, match=rf"eval\.files\.{name}=.* is no file"):
            load(name, str(tmp_path / "nowhere"))
        with pytest.raises(DataError, match="line 1 has no field"):
            load(name, write(tmp_path / "other.jsonl", {"text": "x"}))
