"""Answers that are values: which part of a text is the value, and what is left of it when its
setting is taken away."""

import re
from fractions import Fraction

BRACES = re.compile(r"\\(?:boxed|fbox)\s*\{|\\.|[{}]", re.DOTALL)
"""Where a box begins, escaped characters, and braces."""
MARK = re.compile(r".*(?:####|\banswer\s*(?:is\b|:|=))\s*:?\s*(?=\S)", re.IGNORECASE)
"""What a final line says before its value: GSM8K's own mark, or `The answer is`."""
NUMBER = re.compile(
    r"(?:(?<![\w)\]}.])-\s*)?"  # a minus, and not the dash of 10-20
    r"((?:\d{1,3}(?:,\d{3})+(?![\d,])|\d+)(?:\.\d+)?|\.\d+)"
    r"(?:\s*/\s*(\d+)(?![\d.,]*\d))?"
)
FRACTION = re.compile(r"\\[dt]?frac\s*\{\s*(-?\d+)\s*\}\s*\{\s*(\d+)\s*\}")
INSIDE = re.compile(r"\\!|(?<=\d)(?:\\[,;: ]|~)(?=\d{3}(?!\d))|(?<=-)\s*\\?\$")
"""What may stand inside a number: LaTeX's thin spaces, and the dollar behind a minus."""
AROUND = re.compile(r"\\[,;: ]|\\?\$|\*|~")
BOLD = re.compile(r"(?<!\S)\*\*(.{1,500}?)\*\*(?!\w)")
"""Markdown's bold words; 2**3 is none."""
UNITS = re.compile(
    r"(?:\\(?:text|textbf|mathrm|mbox)\s*\{[^{}]*\}|[A-Za-z]+)\s*(?:\^\s*\{?\d+\}?)?"
)
"""`\\text{ cm}^2` and `m^2`, whose exponents are not the value."""
EQUALS = re.compile(r"=|\\approx|\\equiv|\\to\b")
WRAPS = (("$", "$"), (r"\(", r"\)"), (r"\text{", "}"), (r"\textbf{", "}"))
MOST_DIGITS = 1000
"""Of a number: Python refuses to read more than 4,300, and slowly before that."""


def last_box(answer: str) -> str | None:
    """The content of the last box (`\\boxed{...}`) that is closed and not empty; None without one.

    One pass over the text, so that thousands of open boxes cost no more than one.
    """
    content, opened = None, []
    for brace in BRACES.finditer(answer):
        if brace[0].endswith("{") and brace[0] != r"\{":
            opened.append(brace.end() if len(brace[0]) > 1 else None)
        elif brace[0] == "}" and opened:
            start = opened.pop()
            if start is not None and answer[start : brace.start()].strip():
                content = answer[start : brace.start()].strip()
    return content


def final_line(answer: str) -> str | None:
    """The last line that holds something, without Markdown's bold and a full stop; only what
    follows `The answer is` or `####` where it says so. None for an empty answer."""
    last = next((line for line in reversed(answer.splitlines()) if line.strip()), None)
    if last is None:
        return None
    line = BOLD.sub(r"\1", last)
    mark = MARK.match(line)  # not a search, whose time is the square of the line's length
    return line[mark.end() if mark else 0 :].strip().removesuffix(".").strip() or None


def last_number(answer: str) -> str | None:
    """The last number of a text, written as `18` or `-3/4`; None without one."""
    numbers = numbers_in(answer)
    return str(numbers[-1]) if numbers else None


def only_number(content: str) -> str | None:
    """The number that a box holds behind its last equals sign and beside units, written as above.
    None where it holds none, or several."""
    value = EQUALS.split(content)[-1]
    for text in (value, UNITS.sub(" ", value)):
        numbers = numbers_in(text)
        if len(numbers) == 1:
            return str(numbers[0])
    return None


def numbers_in(text: str) -> list[Fraction]:
    """The numbers of a text in order: 1,234.5, -3, 3/4, \\frac{3}{4}; percent and currencies are
    units."""
    text = text.replace("\N{MINUS SIGN}", "-").replace("{,}", ",")
    text = AROUND.sub(" ", INSIDE.sub("", FRACTION.sub(r"\1/\2", text)))
    numbers = []
    for match in NUMBER.finditer(text):
        digits, divisor = match[1].replace(",", ""), match[2] or "1"
        if len(digits) + len(divisor) <= MOST_DIGITS and int(divisor):
            sign = -1 if match[0].startswith("-") else 1
            numbers.append(sign * Fraction(digits) / int(divisor))
    return numbers


def plain_text(text: str) -> str:
    """A text without what only sets it: white space, dollars, `\\text{}` around all of it, a full
    stop at its end."""
    text = " ".join(text.split()).removesuffix(".").strip()
    for opens, closes in WRAPS:
        inner = text.removeprefix(opens).removesuffix(closes)
        if text == opens + inner + closes and opens[-1] not in inner:
            text = inner.strip()
    return text
