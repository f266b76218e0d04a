"""The last code block of an answer."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ssd.evaluate.extraction import extract_code, has_fences
from ssd.problems import read_jsonl


def test_the_last_block_is_taken() -> None:
    text = (
        "First try:\n```python\nold = 1\n```\nBetter:\n```python\nnew = 2\nprint(new)\n```\nDone."
    )
    assert extract_code(text) == "new = 2\nprint(new)"


@pytest.mark.parametrize(
    "text", ["", "def f(): pass", "```python\ndef f(): pass", "one line ```x``` only"]
)
def test_fewer_than_two_fence_lines_hold_no_code(text: str) -> None:
    assert extract_code(text) is None
    assert not has_fences(text)


def test_indented_fences_count_as_in_livecodebench() -> None:
    assert extract_code("1. Like this:\n   ```python\n   x = 1\n   ```") == "   x = 1"


def test_an_answer_cut_inside_its_second_block_gives_what_lies_between_the_last_two_fences() -> (
    None
):
    assert extract_code("```python\nx = 1\n```\nBetter:\n```python\nx = ") == "Better:"


@given(st.text(), st.text())
def test_a_fenced_text_comes_back_as_it_was(before: str, code: str) -> None:
    if "```" not in code:
        assert extract_code(f"{before}\n```python\n{code}\n```") == code


def test_livecodebenchs_910_graded_answers_give_their_extracted_code(shared: Path) -> None:
    rows = read_jsonl(shared / "livecodebench" / "official_graded_generations.jsonl.gz")
    assert len(rows) == 910
    assert [
        row["question_id"] for row in rows if (extract_code(row["output"]) or "") != row["code"]
    ] == []
