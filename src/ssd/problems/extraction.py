"""Which part of an answer is its code."""

import re

from ssd.arms import LENIENT_RULE
from ssd.config.choices import Extraction

RULES = {
    Extraction.official: "last_fenced_block_after_reasoning",
    Extraction.lenient: LENIENT_RULE,
}
"""Names of the rules below, stored with every score."""
USAGE_BLOCK, UNCLOSED_FENCE, NO_FENCE = "usage block", "unclosed fence", "no fence"
LOSING_FORMS = USAGE_BLOCK, UNCLOSED_FENCE, NO_FENCE
DEFINITION = re.compile(r"^(async def|def|class)\s", re.MULTILINE)
SOLUTION = re.compile(
    r"^(async def|def|class)\s+(?!_?(run_?)?(test|check|demo|example))",
    re.MULTILINE | re.IGNORECASE,
)
"""A definition that does not look as if it tried a solution out; some solutions do look so."""
STATEMENT = re.compile(
    r"^(@|(async def|def|class|import|from|for|while|if|try:|with|print\()\b|[A-Za-z_][\w, ]*=)",
    re.MULTILINE,
)
"""The possible beginnings of a line of a program; the grader never parses answers."""
FENCE = "```"
END_OF_REASONING = "</think>"
FINAL_CHANNEL = "<|channel|>final<|message|>"
BARE_CHANNEL = re.compile("(analysis|commentary)|final(?![a-z ])")
BARE_FINAL = "assistantfinal"


def has_fences(text: str, *, thinking: bool = False) -> bool:
    """Whether what follows the reasoning holds the two fence lines that a code block needs."""
    return len(_fence_lines(final_answer(text, thinking=thinking).split("\n"))) >= 2


def extract(text: str, rule: Extraction, *, thinking: bool) -> str | None:
    """The code of an answer by the rule of `eval.extraction`, or None where it finds none."""
    if rule is Extraction.official:
        return extract_code(text, thinking=thinking)
    return extract_leniently(text, thinking=thinking)[0]


def extract_code(text: str, *, thinking: bool) -> str | None:
    """The text between the last two fence lines after the reasoning, or None where there are fewer
    than two.

    LiveCodeBench's rule (repository LiveCodeBench/LiveCodeBench,
    `lcb_runner/utils/extraction_utils.py`): a fence line is any line that contains three backticks,
    indented or not, and an answer without a block is graded wrong.
    """
    lines = final_answer(text, thinking=thinking).split("\n")
    fences = _fence_lines(lines)
    if len(fences) < 2:
        return None
    return "\n".join(lines[fences[-2] + 1 : fences[-1]])


def extract_leniently(text: str, *, thinking: bool) -> tuple[str | None, str]:
    """The code of an answer whatever its form, and the form that hides it from `extract_code`:
    `usage block` where a block that defines nothing, or a test, follows the one that does,
    `unclosed fence`, or `no fence`; empty where both rules find the same, or this one nothing."""
    lines = final_answer(text, thinking=thinking).split("\n")
    fences = _fence_lines(lines)
    if not fences:
        code, form = _bare_program(lines), NO_FENCE
    else:
        ends = [*fences[1::2], len(lines)]
        blocks = [
            "\n".join(lines[start + 1 : end]) for start, end in zip(fences[::2], ends, strict=False)
        ]
        solutions = (
            block
            for pattern in (SOLUTION, DEFINITION, STATEMENT)
            for block in reversed(blocks)
            if STATEMENT.search(block) and pattern.search(block)
        )
        code = next(solutions, None)
        form = USAGE_BLOCK if len(fences) % 2 == 0 else UNCLOSED_FENCE
    official = extract_code(text, thinking=thinking)
    return (official, "") if code in (None, official) else (code, form)


def _bare_program(lines: list[str]) -> str | None:
    """From the first line that begins a statement to the last that does or is indented."""
    starts = [number for number, line in enumerate(lines) if STATEMENT.match(line)]
    if not starts:
        return None
    inside = [n for n, line in enumerate(lines) if STATEMENT.match(line) or line[:1].isspace()]
    return "\n".join(lines[starts[0] : inside[-1] + 1])


def final_answer(text: str, *, thinking: bool) -> str:
    """What an answer says after its reasoning; empty where the reasoning never ends.

    Args:
        thinking: the model reasons first. Templates such as Qwen3-Thinking's open the reasoning
            in the prompt, so an answer without `</think>` is then one whose reasoning was cut. Of
            other models only an answer that itself starts with `<think>` is taken to reason.

    GPT-OSS names channels instead: its answer is the final one, written between special tokens,
    or, where those were left out in decoding, after the bare words `assistantfinal`.
    """
    if text.lstrip().startswith("<|channel|>"):
        return text.rpartition(FINAL_CHANNEL)[2] if FINAL_CHANNEL in text else ""
    if not thinking and not text.lstrip().startswith("<think>"):
        return text
    if END_OF_REASONING in text:
        return text.rpartition(END_OF_REASONING)[2]
    channel = BARE_CHANNEL.match(text)
    if channel is None:
        return ""
    if channel[1] is None:
        return text.removeprefix("final")
    return text.rpartition(BARE_FINAL)[2] if BARE_FINAL in text else ""


def _fence_lines(lines: list[str]) -> list[int]:
    return [number for number, line in enumerate(lines) if FENCE in line]
