"""Named steps that drop samples; correctness is never one of them.

N samples.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Mask = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Sizes:
    """What the steps look at of texts, which need not be in memory together."""

    num_characters: NDArray[np.int64]
    """(N,) without white space at the ends."""
    num_lines: NDArray[np.int64]
    """(N,) that hold more than white space."""


def measure(texts: Iterable[str]) -> Sizes:
    """The sizes of texts, each read once."""
    pairs = (size for text in texts for size in (len(text.strip()), num_lines(text)))
    sizes = np.fromiter(pairs, dtype=np.int64).reshape(-1, 2)
    return Sizes(sizes[:, 0], sizes[:, 1])


def num_lines(text: str) -> int:
    """Lines that hold more than white space."""
    return sum(bool(line.strip()) for line in text.splitlines())


def keep_non_empty(sizes: Sizes, kept: Mask) -> Mask:
    """Drop answers of white space only (paper, section 3)."""
    spoken: Mask = sizes.num_characters > 0
    return spoken


def keep_beyond_one_line(sizes: Sizes, kept: Mask) -> Mask:
    """Drop answers with a single line of text;
    the paper drops "single-line stubs" without giving the exact rule."""
    longer: Mask = sizes.num_lines != 1
    return longer


def keep_longest_nine_tenths(sizes: Sizes, kept: Mask) -> Mask:
    """Drop answers shorter than the tenth percentile of characters,
    as the paper's released code does."""
    lengths = np.sort(sizes.num_characters[kept])
    shortest = lengths[len(lengths) // 10] if len(lengths) else 0
    long_enough: Mask = sizes.num_characters >= shortest
    return long_enough


STEPS: dict[str, Callable[[Sizes, Mask], Mask]] = {
    "empty": keep_non_empty,
    "stub": keep_beyond_one_line,
    "shortest_tenth": keep_longest_nine_tenths,
}
"""Of sizes and of whether earlier steps kept a sample: whether this one does."""


def apply_filters(sizes: Sizes, names: Sequence[str]) -> tuple[Mask, dict[str, int]]:
    """(N,) whether the named steps, in order, leave a sample, and how many each dropped.

    Length-capped answers are kept by every step: the method trains on raw, unverified output.
    """
    kept = np.ones(len(sizes.num_characters), dtype=bool)
    dropped = {}
    for name in names:
        left = kept & STEPS[name](sizes, kept)
        dropped[name] = int(kept.sum() - left.sum())
        kept = left
    return kept, dropped
