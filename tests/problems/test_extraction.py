"""The last code block of an answer, after its reasoning."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ssd.config.choices import Extraction
from ssd.problems.extraction import (
    NO_FENCE,
    UNCLOSED_FENCE,
    USAGE_BLOCK,
    extract,
    extract_code,
    extract_leniently,
    has_fences,
)
from ssd.problems.rows import read_jsonl

BLOCK = "```python\nx = 1\n```"
DRAFT = "```python\ndraft = 0\n```"


def test_the_last_block_is_taken() -> None:
    text = (
        "First try:\n```python\nold = 1\n```\nBetter:\n```python\nnew = 2\nprint(new)\n```\nDone."
    )
    assert extract_code(text, thinking=False) == "new = 2\nprint(new)"


@pytest.mark.parametrize(
    "text", ["", "def f(): pass", "```python\ndef f(): pass", "one line ```x``` only"]
)
def test_fewer_than_two_fence_lines_hold_no_code(text: str) -> None:
    assert extract_code(text, thinking=False) is None
    assert not has_fences(text)


def test_indented_fences_count_as_in_livecodebench() -> None:
    text = "1. Like this:\n   ```python\n   x = 1\n   ```"
    assert extract_code(text, thinking=False) == "   x = 1"


def test_an_answer_cut_inside_its_second_block_gives_what_lies_between_the_last_two_fences() -> (
    None
):
    text = "```python\nx = 1\n```\nBetter:\n```python\nx = "
    assert extract_code(text, thinking=False) == "Better:"


@given(st.text(), st.text(), st.booleans())
def test_a_fenced_text_comes_back_as_it_was(before: str, code: str, thinking: bool) -> None:
    reasons = before.lstrip().startswith(("<think>", "<|channel|>"))
    if "```" not in code and "</think>" not in code and not reasons:
        text = f"{before}\n{'</think>' if thinking else ''}\n```python\n{code}\n```"
        assert extract_code(text, thinking=thinking) == code


@pytest.mark.parametrize(
    "text",
    [
        f"Let me try {DRAFT}\nNo.\n</think>\n\n{BLOCK}",  # `<think>` was in the prompt
        f"<think>\n{DRAFT}\n</think>\n{BLOCK}",
        f"<|channel|>analysis<|message|>{DRAFT}<|end|><|start|>assistant"
        f"<|channel|>final<|message|>{BLOCK}<|return|>",
        f"analysisWe need code.\n{DRAFT}\nassistantfinal{BLOCK}",  # without special tokens
        f"analysisWe look.assistantcommentaryA note.assistantfinalHere:\n{BLOCK}",
        f"final{BLOCK}",
    ],
)
def test_code_of_the_reasoning_does_not_count(text: str) -> None:
    assert extract_code(text, thinking=True) == "x = 1"
    assert has_fences(text, thinking=True)


@pytest.mark.parametrize(
    "text",
    [
        f"Let me try\n{BLOCK}",
        f"<think>\n{BLOCK}",
        f"Two ways.\n{BLOCK}\n</think>\nI cannot say.",
        f"analysisWe need code.\n{BLOCK}",
        f"<|channel|>analysis<|message|>\n{BLOCK}",
        "finally, the reasoning goes on\n" + BLOCK,
    ],
)
def test_reasoning_that_never_ends_or_ends_without_a_block_holds_no_code(text: str) -> None:
    assert extract_code(text, thinking=True) is None
    assert not has_fences(text, thinking=True)


def test_models_that_do_not_think_keep_the_whole_answer() -> None:
    assert extract_code(f"analysis of it\n{BLOCK}", thinking=False) == "x = 1"
    inside = "```python\nprint('</think>')\n```"
    assert extract_code(inside, thinking=False) == "print('</think>')"
    assert extract_code(f"<think>\n{BLOCK}", thinking=False) is None
    assert extract_code(f"<think>\n{DRAFT}</think>\n{BLOCK}", thinking=False) == "x = 1"


def test_livecodebenchs_910_graded_answers_give_their_extracted_code(shared: Path) -> None:
    rows = read_jsonl(shared / "livecodebench" / "official_graded_generations.jsonl.gz")
    assert len(rows) == 910
    wrong = [
        row["question_id"]
        for row in rows
        if (extract_code(row["output"], thinking=False) or "") != row["code"]
    ]
    assert wrong == []


PROGRAM = "def double(x):\n    return 2 * x"


@pytest.mark.parametrize(
    ("text", "form"),
    [
        (f"```python\n{PROGRAM}\n```\nUse it:\n```python\nprint(double(2))\n```", USAGE_BLOCK),
        (f"```python\n{PROGRAM}\n```\nIt prints\n```\n4\n```", USAGE_BLOCK),
        (f"```python\n{PROGRAM}\n```\n```\ndef test_it():\n  assert double(1)\n```", USAGE_BLOCK),
        (f"Here:\n```python\n{PROGRAM}\n", UNCLOSED_FENCE),
        (f"```python\nx = 1\n```\nBetter:\n```python\n{PROGRAM}", UNCLOSED_FENCE),
        (f"```python\n{PROGRAM}\n```\nOr so:\n```python\nx = ", UNCLOSED_FENCE),
        (f"Here you are.\n\n{PROGRAM}\n\nIt doubles.", NO_FENCE),
        (f"<think>\n{DRAFT}\n</think>\n{PROGRAM}", NO_FENCE),
    ],
)
def test_a_program_in_another_form_is_found_leniently(text: str, form: str) -> None:
    code, losing = extract_leniently(text, thinking=False)
    assert (code or "").strip() == PROGRAM
    assert losing == form


@pytest.mark.parametrize(
    "text",
    ["", "I do not know.", f"```python\n{PROGRAM}\n```", f"```\n4\n```\n```python\n{PROGRAM}\n```"],
)
def test_where_both_rules_find_the_same_no_form_is_named(text: str) -> None:
    assert extract_leniently(text, thinking=False) == (extract_code(text, thinking=False), "")


@pytest.mark.parametrize("text", ["```\n4\n```", "no code", f"```\n{PROGRAM}\n```\n```\n4\n```"])
def test_a_setting_chooses_the_rule_and_the_lenient_one_finds_what_the_official_one_does(
    text: str,
) -> None:
    official = extract_code(text, thinking=False)
    assert extract(text, Extraction.official, thinking=False) == official
    lenient = extract(text, Extraction.lenient, thinking=False)
    assert lenient == (PROGRAM if PROGRAM in text else official)


def test_a_solution_that_is_named_like_a_test_is_found_beside_its_use() -> None:
    program = "def check_str(text):\n    return None"
    text = f"```python\n{program}\n```\n```python\nprint(check_str('a'))\n```"
    assert extract_leniently(text, thinking=False) == (program, USAGE_BLOCK)
