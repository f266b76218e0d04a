"""Named steps that drop samples; correctness is never one of them."""

from collections.abc import Callable

from ssd.records.samples import Sample


def keep_non_empty(samples: list[Sample]) -> list[Sample]:
    """Drop answers of white space only (paper, section 3)."""
    return [sample for sample in samples if sample.text.strip()]


def keep_beyond_one_line(samples: list[Sample]) -> list[Sample]:
    """Drop answers with a single line of text;
    the paper drops "single-line stubs" without giving the exact rule."""
    return [
        sample
        for sample in samples
        if len([line for line in sample.text.splitlines() if line.strip()]) != 1
    ]


def keep_longest_nine_tenths(samples: list[Sample]) -> list[Sample]:
    """Drop answers shorter than the tenth percentile of characters,
    as the paper's released code does."""
    if not samples:
        return []
    lengths = sorted(len(sample.text.strip()) for sample in samples)
    shortest = lengths[len(lengths) // 10]
    return [sample for sample in samples if len(sample.text.strip()) >= shortest]


STEPS: dict[str, Callable[[list[Sample]], list[Sample]]] = {
    "empty": keep_non_empty,
    "stub": keep_beyond_one_line,
    "shortest_tenth": keep_longest_nine_tenths,
}


def apply_filters(samples: list[Sample], names: list[str]) -> tuple[list[Sample], dict[str, int]]:
    """What the named steps leave, in order, and how many samples each dropped.

    Length-capped answers are kept by every step: the method trains on raw, unverified output.
    """
    dropped = {}
    for name in names:
        kept = STEPS[name](samples)
        dropped[name] = len(samples) - len(kept)
        samples = kept
    return samples, dropped
