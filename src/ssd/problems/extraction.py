"""Which part of a text is its answer, and which part of the answer its code."""

import re

from ssd.arms import LENIENT_RULE
from ssd.config.choices import Extraction
from ssd.config.settings import ReasoningConfig

RULES = {
    Extraction.official: "last_fenced_block_after_reasoning",
    Extraction.lenient: LENIENT_RULE,
}
"""Names of the rules below, stored with every score."""
USAGE_BLOCK, UNCLOSED_FENCE, NO_FENCE = "usage block", "unclosed fence", "no fence"
NO_BOX = "no box"
"""The form that hides a value from `eval.extraction=boxed`."""
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
THINK = ReasoningConfig(open="<think>", close="</think>")
CHANNELS = ReasoningConfig(open="<|channel|>", close="<|channel|>final<|message|>")
"""GPT-OSS's: every channel before the final one, analysis or commentary, is reasoning."""
BARE_CHANNEL = re.compile("(analysis|commentary)|final(?![a-z ])")
BARE_FINAL = "assistantfinal"


def has_fences(answer: str) -> bool:
    """Whether an answer holds the two fence lines that a code block needs."""
    return len(_fence_lines(answer.split("\n"))) >= 2


def extract(answer: str, rule: Extraction) -> str | None:
    """The code of an answer, its reasoning left out, by the rule of `eval.extraction`; None where
    that finds none."""
    return extract_code(answer) if rule is Extraction.official else extract_leniently(answer)[0]


def extract_code(answer: str) -> str | None:
    """The text between the last two fence lines of an answer, or None where there are fewer than
    two.

    LiveCodeBench's rule (repository LiveCodeBench/LiveCodeBench,
    `lcb_runner/utils/extraction_utils.py`): a fence line is any line that contains three backticks,
    indented or not, and an answer without a block is graded wrong.
    """
    lines = answer.split("\n")
    fences = _fence_lines(lines)
    if len(fences) < 2:
        return None
    return "\n".join(lines[fences[-2] + 1 : fences[-1]])


def extract_leniently(answer: str) -> tuple[str | None, str]:
    """The code of an answer whatever its form, and the form that hides it from `extract_code`:
    `usage block` where a block that defines nothing, or a test, follows the one that does,
    `unclosed fence`, or `no fence`; empty where both rules find the same, or this one nothing."""
    lines = answer.split("\n")
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
    official = extract_code(answer)
    return (official, "") if code in (None, official) else (code, form)


def _bare_program(lines: list[str]) -> str | None:
    """From the first line that begins a statement to the last that does or is indented."""
    starts = [number for number, line in enumerate(lines) if STATEMENT.match(line)]
    if not starts:
        return None
    inside = [n for n, line in enumerate(lines) if STATEMENT.match(line) or line[:1].isspace()]
    return "\n".join(lines[starts[0] : inside[-1] + 1])


def final_answer(text: str, marks: ReasoningConfig | None = None, *, opened: bool = False) -> str:
    """What a text says after its reasoning; empty where the reasoning never ends. The arguments
    are those of `answer_start`."""
    start = answer_start(text, marks, opened=opened)
    return "" if start is None else text[start:]


def answer_start(text: str, marks: ReasoningConfig | None, *, opened: bool) -> int | None:
    """The character at which the answer begins: 0 without reasoning, None where it never ends.

    Args:
        marks: the model's. Where they are not known, None, a text is read by `<think>`, or by
            GPT-OSS's channels, also those of `opened` texts that were decoded without special
            tokens and name them by bare words.
        opened: the prompt ends inside the reasoning, so that the text begins there.

    Reasoning ends at the first close mark, as in vLLM's parsers: a later one may be printed by the
    answer's code. Outside reasoning a mark counts only where it begins a line that is not fenced
    code: an open mark begins reasoning, again or for the first time, and a close mark says that all
    before it was reasoning, as after a draft that mentioned the mark.
    """
    known = marks or (CHANNELS if text.lstrip().startswith(CHANNELS.open) else THINK)
    may_be_bare = marks == CHANNELS or (marks is None and opened)
    if may_be_bare and known.close not in text and (channel := BARE_CHANNEL.match(text)):
        end = text.rfind(BARE_FINAL)
        if channel[1] is None:
            return len("final")
        return None if end < 0 else end + len(BARE_FINAL)
    answer, inside = 0, 0 if opened else _next_mark(text, 0, known)
    while inside is not None:
        end = text.find(known.close, inside)
        if end < 0:
            return None
        answer = end + len(known.close)
        inside = _next_mark(text, answer, known)
    return answer


def _next_mark(text: str, start: int, marks: ReasoningConfig) -> int | None:
    """The first mark at or after `start` that begins a line outside fenced code."""
    fenced = False
    for line in text[start:].split("\n"):
        stripped = line.lstrip()
        if not fenced and stripped.startswith((marks.open, marks.close)):
            return start + len(line) - len(stripped)
        fenced ^= line.count(FENCE) % 2 == 1
        start += len(line) + 1
    return None


def _fence_lines(lines: list[str]) -> list[int]:
    return [number for number, line in enumerate(lines) if FENCE in line]
