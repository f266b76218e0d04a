"""The last code block of an answer, after its reasoning."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ssd.config.choices import Extraction
from ssd.config.settings import ReasoningConfig
from ssd.problems.extraction import (
    CHANNELS,
    NO_FENCE,
    THINK,
    UNCLOSED_FENCE,
    USAGE_BLOCK,
    extract,
    extract_code,
    extract_leniently,
    final_answer,
    has_fences,
)
from ssd.problems.rows import read_jsonl

BLOCK = "```python\nx = 1\n```"
DRAFT = "```python\ndraft = 0\n```"


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
    text = "1. Like this:\n   ```python\n   x = 1\n   ```"
    assert extract_code(text) == "   x = 1"


def test_an_answer_cut_inside_its_second_block_gives_what_lies_between_the_last_two_fences() -> (
    None
):
    text = "```python\nx = 1\n```\nBetter:\n```python\nx = "
    assert extract_code(text) == "Better:"


@given(st.text(), st.text(), st.booleans())
def test_a_fenced_text_comes_back_as_it_was(before: str, code: str, thinking: bool) -> None:
    reasons = any(mark in before for mark in ("<think>", "</think>", "<|channel|>"))
    if "```" not in code and "</think>" not in code and not reasons:
        text = f"{before}\n{'</think>' if thinking else ''}\n```python\n{code}\n```"
        assert extract_code(final_answer(text, opened=thinking)) == code


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
    answer = final_answer(text, opened=True)
    assert extract_code(answer) == "x = 1"
    assert has_fences(answer)


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
    answer = final_answer(text, opened=True)
    assert extract_code(answer) is None
    assert not has_fences(answer)


def code_of(text: str, marks: ReasoningConfig | None = None, *, opened: bool = False) -> str | None:
    return extract_code(final_answer(text, marks, opened=opened))


def test_models_that_do_not_think_keep_the_whole_answer() -> None:
    assert code_of(f"analysis of it\n{BLOCK}") == "x = 1"
    assert code_of("```python\nprint('</think>')\n```") == "print('</think>')"
    assert code_of(f"<think>\n{BLOCK}") is None
    assert code_of(f"<think>\n{DRAFT}</think>\n{BLOCK}") == "x = 1"


MARKS = {
    "qwen": THINK,
    "magistral": ReasoningConfig(open="[THINK]", close="[/THINK]"),
    "seed": ReasoningConfig(open="<seed:think>", close="</seed:think>"),
    "gemma": ReasoningConfig(open="<|channel>thought", close="<channel|>"),
    "gpt_oss": CHANNELS,
    "own words": ReasoningConfig(open="Thoughts:", close="Answer:"),
}


@pytest.mark.parametrize("marks", MARKS.values(), ids=MARKS)
def test_every_pair_of_marks_is_read_the_same_way(marks: ReasoningConfig) -> None:
    done, printing = f"{marks.open}\n{DRAFT}{marks.close}{BLOCK}", f"print('{marks.close}')"
    assert code_of(done, marks) == "x = 1"
    assert code_of(done.removeprefix(marks.open), marks, opened=True) == "x = 1"
    assert code_of(done, marks, opened=True) == "x = 1"  # opened by prompt and answer
    assert code_of(f"{marks.open}\n{DRAFT}", marks) is None
    assert code_of(DRAFT, marks, opened=True) is None
    assert code_of(BLOCK, marks) == "x = 1"  # it did not think
    code = f"```python\n{printing}\n```"
    assert code_of(f"{marks.open}\n{DRAFT}\n{marks.close}\n{code}", marks) == printing
    assert code_of(f"{DRAFT}\n{marks.close}\n{code}", marks, opened=True) == printing
    assert code_of(code, marks) == printing


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("<think>a</think>b", "b"),
        ("<think>a</think>\n<think>b</think>c", "c"),  # twice in a row
        ("<think>a</think>b\n<think>c</think>d", "d"),  # again after a first answer
        ("<think>a</think>b\n<think>c", ""),
        ("Well.\n<think>a</think>b", "b"),
        ("a\n</think>\nb", "\nb"),  # opened by nobody
        ("<think>say <think>x</think> or so\n</think>b", "b"),  # a draft mentions both marks
        ("<think>a</think>The tag </think> ends it", "The tag </think> ends it"),
        ("<think>a</think>```\n<think>\n</think>\n```", "```\n<think>\n</think>\n```"),
        ("<think>a</think>x ```<think>```\n<think>b", ""),  # a fence that ends on its line
        ("<think>```\na</think>b", "b"),  # a fence that the reasoning left open
        ("", ""),
        ("</think>", ""),
    ],
)
def test_marks_count_at_the_beginning_of_lines_outside_code(text: str, answer: str) -> None:
    assert final_answer(text, THINK) == answer


def test_a_draft_that_prints_the_close_mark_leaves_the_answers_own_code_the_last() -> None:
    draft = "```python\nprint('</think>')\n```"
    assert code_of(f"<think>\n{draft}\nNo.\n</think>\n{BLOCK}", THINK) == "x = 1"


@given(st.text("ab\n`<> "), st.text("ab\n`<> "), st.booleans())
def test_the_answer_is_what_follows_closed_reasoning_whatever_is_thought(
    thought: str, answer: str, opened: bool
) -> None:
    text = f"{'' if opened else '<think>'}{thought}</think>{answer}"
    assert final_answer(text, THINK, opened=opened) == answer


def test_livecodebenchs_910_graded_answers_give_their_extracted_code(shared: Path) -> None:
    rows = read_jsonl(shared / "livecodebench" / "official_graded_generations.jsonl.gz")
    assert len(rows) == 910
    wrong = [
        row["question_id"]
        for row in rows
        if (extract_code(final_answer(row["output"])) or "") != row["code"]
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
    ],
)
def test_a_program_in_another_form_is_found_leniently(text: str, form: str) -> None:
    code, losing = extract_leniently(text)
    assert (code or "").strip() == PROGRAM
    assert losing == form


@pytest.mark.parametrize(
    "text",
    ["", "I do not know.", f"```python\n{PROGRAM}\n```", f"```\n4\n```\n```python\n{PROGRAM}\n```"],
)
def test_where_both_rules_find_the_same_no_form_is_named(text: str) -> None:
    assert extract_leniently(text) == (extract_code(text), "")


@pytest.mark.parametrize("text", ["```\n4\n```", "no code", f"```\n{PROGRAM}\n```\n```\n4\n```"])
def test_a_setting_chooses_the_rule_and_the_lenient_one_finds_what_the_official_one_does(
    text: str,
) -> None:
    official = extract_code(text)
    assert extract(text, Extraction.official) == official
    lenient = extract(text, Extraction.lenient)
    assert lenient == (PROGRAM if PROGRAM in text else official)


def test_a_solution_that_is_named_like_a_test_is_found_beside_its_use() -> None:
    program = "def check_str(text):\n    return None"
    text = f"```python\n{program}\n```\n```python\nprint(check_str('a'))\n```"
    assert extract_leniently(text) == (program, USAGE_BLOCK)
