"""Whether a program printed, or a function returned, what was expected, by LiveCodeBench's rule.

This file's text also goes into the sandbox with tests that need it, so it imports nothing of the
project.
"""

import math
from decimal import Decimal, InvalidOperation
from typing import Any

TOLERANCE = 1e-6
"""Relative difference that tolerant grading allows a float."""


def same_output(printed: str, expected: str, *, tolerant: bool = False) -> bool:
    """Whether two outputs agree line by line, ignoring white space at both ends of every line.

    A line whose text differs still agrees where both are numbers of equal value, in the same order
    (repository LiveCodeBench/LiveCodeBench, `lcb_runner/evaluation/testing_util.py`): exact
    decimals, because floats would call 50000000000000000 and 50000000000000001 equal.

    Args:
        tolerant: numbers of which one at least has a fraction or an exponent may differ by
            `TOLERANCE`, among words too.
    """
    printed, expected = printed.strip(), expected.strip()
    # Counted before they are taken apart: a program may print millions.
    if printed.count("\n") != expected.count("\n"):
        return False
    return all(
        line == want or _same_numbers(line, want) or (tolerant and _close_words(line, want))
        for line, want in zip(_lines(printed), _lines(expected), strict=True)
    )


def close_values(value: Any, expected: Any) -> bool:
    """Whether two results are equal but for floats that differ by `TOLERANCE` at most; integers
    are compared with floats as floats, and exactly with each other."""
    kinds = {type(value), type(expected)}
    if float in kinds and kinds <= {int, float}:
        try:
            return math.isclose(value, expected, rel_tol=TOLERANCE)
        except OverflowError:  # an integer that no float holds
            return False
    if isinstance(expected, (list, tuple)) and type(value) is type(expected):
        pairs = zip(value, expected, strict=False)
        return len(value) == len(expected) and all(close_values(*pair) for pair in pairs)
    if isinstance(expected, dict) and type(value) is dict:
        same_keys = value.keys() == expected.keys()
        return same_keys and all(close_values(value[key], expected[key]) for key in expected)
    return bool(value == expected)


def _lines(text: str) -> list[str]:
    return [line.strip() for line in text.split("\n")]


def _pairs(line: str, want: str) -> list[tuple[str, str]] | None:
    """Pairs of words and the words expected in their place; None if their numbers differ."""
    targets = want.split()
    words = line.split(maxsplit=len(targets))  # and the rest, where there are more
    return list(zip(words, targets, strict=True)) if len(words) == len(targets) else None


def _same_numbers(line: str, want: str) -> bool:
    pairs = _pairs(line, want)
    try:
        return pairs is not None and all(Decimal(word) == Decimal(other) for word, other in pairs)
    except (InvalidOperation, ValueError):  # not numbers, or a signalling NaN
        return False


def _close_words(line: str, want: str) -> bool:
    pairs = _pairs(line, want)
    return pairs is not None and all(word == other or _close(word, other) for word, other in pairs)


def _close(word: str, want: str) -> bool:
    try:
        number, other = Decimal(word), Decimal(want)
        fractional = any(sign in word + want for sign in ".eE")
        if number == other or not fractional:
            return number == other
        # Two numbers that no float holds would both be infinite.
        return math.isfinite(float(other)) and close_values(float(number), float(other))
    except (InvalidOperation, ValueError):  # not numbers, or a signalling NaN
        return False
