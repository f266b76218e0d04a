"""Which part of an answer is its code."""

FENCE = "```"


def has_fences(text: str) -> bool:
    """Whether an answer holds the two fence lines that a code block needs."""
    return len(_fence_lines(text.split("\n"))) >= 2


def extract_code(text: str) -> str | None:
    """The text between the last two fence lines, or None where there are fewer than two.

    LiveCodeBench's rule (repository LiveCodeBench/LiveCodeBench,
    `lcb_runner/utils/extraction_utils.py`): a fence line is any line that contains three backticks,
    indented or not, and an answer without a block is graded wrong.
    """
    lines = text.split("\n")
    fences = _fence_lines(lines)
    if len(fences) < 2:
        return None
    return "\n".join(lines[fences[-2] + 1 : fences[-1]])


def _fence_lines(lines: list[str]) -> list[int]:
    return [number for number, line in enumerate(lines) if FENCE in line]
