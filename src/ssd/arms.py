"""The arms of an evaluation (each is a model under one decoding), the parts of a gain, and the
words that table and report use for both."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import pairwise

BASE, SWEPT, SAME, UNIT, TUNED = "base", "base_swept", "base_same_decoding", "t1", "tuned"
ARMS = {
    BASE: "the base model",
    SWEPT: "the base model under its own best decoding, swept as widely as the tuned model's",
    SAME: "the base model under the tuned model's decoding",
    UNIT: "a model trained on its samples at T = 1 without truncation",
    TUNED: "the tuned model",
}
"""In this order in every table."""
ISOLATION = {
    "bwrap": "isolated by bubblewrap",
    "namespaces": "isolated by Linux namespaces",
    "none": "not isolated (eval.sandbox=none)",
}
RESAMPLED = {
    "problems": "over problems",
    "samples": "over the samples of these problems",
    "both": "over problems and their samples",
}
LENIENT_RULE = "lenient_after_reasoning"
"""What scores name as their extraction under `eval.extraction=lenient`."""
BOX = "last_box_after_reasoning"
BOX_OR_NUMBER = "last_box_or_number_after_reasoning"
BOX_OR_LINE = "last_box_or_final_line_after_reasoning"
VALUE_RULES = {
    BOX: "last box",
    BOX_OR_NUMBER: "last box or number",
    BOX_OR_LINE: "last box or final line",
}
"""What scores name as their extraction where answers are values, and the words for it."""
INTERVALS = "pseudo-problems"
"""The method of today's intervals (`ssd.method.interval_ends`), stored beside scores: those with
another word, or none, are made anew from their verdicts."""
CHOSEN_ON_TEST = "CHOSEN ON THE TEST PROBLEMS (eval.selection=test)"


@dataclass(frozen=True, slots=True, kw_only=True)
class FormWords:
    """How tables and reports speak of answers that are programs, values, or either."""

    share: str
    """A column: the share of answers that have the form."""
    key: str
    """What that column means."""
    form: str
    """The form that answers are asked for in."""
    short: str
    nouns: str
    """What is judged."""
    part: str
    """What is taken from an answer."""


FENCED = FormWords(
    share="fenced", key="fenced: answers with a code block", form="a code fence", short="fence",
    nouns="programs", part="code",
)  # fmt: skip
BOXED = FormWords(
    share="boxed", key="boxed: answers with a box", form="a box", short="box", nouns="values",
    part="value",
)  # fmt: skip
MIXED = FormWords(
    share="in form", key="in form: programs with a code block, values with a box",
    form="a code fence or a box", short="fence or box", nouns="programs and values",
    part="code or value",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Part:
    """One step of the way from base to tuned model."""

    cause: str
    lower: str
    upper: str
    gain: float
    """Score of `upper` minus that of `lower`, a share in [-1, 1]."""


def rungs(arms: Iterable[str]) -> list[str]:
    """The arms that part the gain of the tuned model over the base model, from base to tuned; empty
    without a control to part it with."""
    present = {*arms}
    steps = [arm for arm in (BASE, SWEPT, UNIT, TUNED) if arm in present]
    return steps if len(steps) > 2 and {BASE, TUNED} <= present else []


def gain_parts(scores: Mapping[str, float]) -> list[Part]:
    """The gain of the tuned model over the base model, step by step over the controls that are
    there; the steps add up to the gain. Empty without a control to part it with.

    Decoding is what the base model gains by its own best decoding. Fine-tuning is what a model
    gains beyond that when it is trained on samples of temperature 1 without truncation, whose
    expected gradient is zero. The rest is self-distillation.

    Args:
        scores: pass@k by arm, each a share in [0, 1].
    """
    steps = rungs(scores)
    fine_tuning = "fine-tuning on own samples at T = 1"
    causes = {
        SWEPT: "decoding",
        UNIT: fine_tuning if SWEPT in steps else f"decoding and {fine_tuning}",
        TUNED: "SSD" if UNIT in steps else "training on own samples",
    }
    return [
        Part(causes[upper], lower, upper, scores[upper] - scores[lower])
        for lower, upper in pairwise(steps)
    ]


def gain_sentence(
    scores: Mapping[str, float], ends: Mapping[str, tuple[float, float]], *, certain: bool
) -> str:
    """`gain_parts` in words, empty where there are none: `of +12.0 points over base, +2.0 [-1.1,
    +5.1] by decoding (base_swept minus base), ...`.

    Args:
        ends: of each part's 95 % interval, by its upper arm, as far as they are known.
        certain: whether the whole gain is above 0 beyond doubt; only then are the parts given as
            shares of it.
    """
    parts = gain_parts(scores)
    if not parts:
        return ""

    def interval(part: Part) -> str:
        if part.upper not in ends:
            return ""
        low, high = ends[part.upper]
        return f" [{100 * low:+z.1f}, {100 * high:+z.1f}]"

    whole = scores[TUNED] - scores[BASE]
    sentences = [
        f"{100 * part.gain:+z.1f}{interval(part)} by {part.cause} "
        f"({part.upper} minus {part.lower}"
        + (f", {part.gain / whole:.0%} of the gain)" if certain else ")")
        for part in parts
    ]
    return f"of {100 * whole:+z.1f} points over base, {', '.join(sentences)}"


def counted(number: int, noun: str) -> str:
    """`1 problem`, `3 problems`, `1,000 problems`."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def rules(grading: str, extraction: str) -> str:
    """`official grading`, followed by the extraction rule if it is not the default, or finds a
    value."""
    if extraction in VALUE_RULES:
        return f"{grading} grading, {VALUE_RULES[extraction]}"
    lenient = ", lenient extraction" if extraction == LENIENT_RULE else ""
    return f"{grading} grading{lenient}"


def form_words(extractions: Iterable[str]) -> FormWords:
    """The words for answers that were read by these rules."""
    kinds = {rule in VALUE_RULES for rule in extractions}
    return MIXED if len(kinds) > 1 else BOXED if kinds == {True} else FENCED


def lost_shares(shares: Mapping[str, float] | None) -> str:
    """`6.2% (4.2% usage block, 2.1% no fence)`: the share of answers lost to their form, in total
    and by form."""
    shares = shares or {}
    forms = [f"{share:.1%} {form}" for form, share in shares.items() if share > 0]
    return f"{sum(shares.values()):.1%}" + (f" ({', '.join(forms)})" if forms else "")
