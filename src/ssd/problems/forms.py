"""How answers are read, by what they are: programs in a fenced block, or values in a box."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from ssd.arms import BOX, BOX_OR_LINE, BOX_OR_NUMBER
from ssd.config.choices import Extraction, Grading
from ssd.problems.extraction import NO_BOX, RULES, extract, extract_leniently, has_fences
from ssd.problems.values import final_line, last_box, last_number, only_number

DELIMITER = re.compile(r"\$|\\\(|\\\[")
"""What LaTeX within a text begins with."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Form:
    """What is taken from an answer, and the form that it should have."""

    runs: bool
    """Whether answers are programs, which a sandbox runs; values are compared."""
    rules: Mapping[Extraction, str]
    """The rules of `eval.extraction` that it has, with the names that are stored beside scores;
    under any other, answers are read officially."""
    extract: Callable[[str, Extraction], str | None]
    """The code or the value of an answer, its reasoning left out, by one of these rules."""
    keeps_it: Callable[[str], bool]
    """Whether an answer has the form: a code fence, or a box."""
    strict: Extraction
    """The rule that can lose answers to their form."""
    read_leniently: Callable[[str], tuple[str | None, str]]
    """What a lenient rule takes, and the form that hides it from the strict one; else empty."""

    def rule(self, extraction: Extraction) -> Extraction:
        """The rule that answers are read by under `eval.extraction`."""
        return extraction if extraction in self.rules else Extraction.official

    def rule_name(self, extraction: Extraction) -> str:
        """Its name, as scores store it."""
        return self.rules[self.rule(extraction)]


def boxed_number(answer: str, rule: Extraction) -> str | None:
    """The number in the last box, or the last number where no box is. A box without a number, or
    with several, is taken as it is: no number equals it."""
    content = last_box(answer)
    if content is not None:
        return only_number(content) or content
    return None if rule is Extraction.boxed else last_number(answer)


def boxed_text(answer: str, rule: Extraction) -> str | None:
    """The last box, or the final line where no box is; between dollars where it is LaTeX without
    any, as math-verify reads LaTeX."""
    value = content = last_box(answer)
    if content is None and rule is not Extraction.boxed:
        value = final_line(answer)
    bare = value is not None and not DELIMITER.search(value)
    return f"${value}$" if bare and (content or "\\" in str(value)) else value


def values(rule: str, extract: Callable[[str, Extraction], str | None]) -> Form:
    """The form of values that are looked for by `rule` where no box is."""

    def read_leniently(answer: str) -> tuple[str | None, str]:
        value = extract(answer, Extraction.official)
        return value, NO_BOX if last_box(answer) is None and value is not None else ""

    return Form(
        runs=False,
        rules={Extraction.official: rule, Extraction.boxed: BOX},
        extract=extract,
        keeps_it=lambda answer: last_box(answer) is not None,
        strict=Extraction.boxed,
        read_leniently=read_leniently,
    )


PROGRAM = Form(
    runs=True,
    rules=RULES,
    extract=extract,
    keeps_it=has_fences,
    strict=Extraction.official,
    read_leniently=extract_leniently,
)
NUMBER = values(BOX_OR_NUMBER, boxed_number)
TEXT = values(BOX_OR_LINE, boxed_text)
FORMS = {
    Grading.official: PROGRAM,
    Grading.apple_release: PROGRAM,
    Grading.tolerant: PROGRAM,
    Grading.number: NUMBER,
    Grading.exact: TEXT,
    Grading.math_verify: TEXT,
}
"""By the rule that answers are graded by."""
