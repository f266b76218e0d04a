"""What a benchmark of a size can show: the smallest difference that the paired test could reject.

The test is the sign-flip test of `ssd.method.sign_flip`; report, `power` and `compare` say it
with these functions.
"""

import math

LEVEL = 0.05
"""Significance level of the paired test, the counterpart of 95 % intervals."""


def fewest_changes(level: float = LEVEL) -> int:
    """Problems that must change, all one way, for the sign-flip test to reject at `level`: of m
    changes two of 2^m choices of signs are as far from 0, so 2^(1-m) < level. Six at 0.05."""
    return math.floor(1 - math.log2(level)) + 1


def smallest_significant(
    num_problems: float, num_samples: int | None, k: int = 1, level: float = LEVEL
) -> float:
    """The smallest difference in pass@k, a share, that the sign-flip test could call significant:
    the fewest changes it takes, each by the smallest step that a sample makes, 1 / C(G, k).
    Infinite where there are fewer problems; 0 otherwise for infinitely many samples, None."""
    fewest = fewest_changes(level)
    if num_problems < fewest:
        return math.inf
    return 0.0 if num_samples is None else fewest / (num_problems * math.comb(num_samples, k))


def visible_difference(
    low: float, high: float, num_problems: int, num_samples: int, k: int = 1
) -> float:
    """About the smallest difference, a share, that these answers could show: half the interval of
    the difference that they did show, and no less than the test could call significant."""
    return max((high - low) / 2, smallest_significant(num_problems, num_samples, k))


def visible_sentence(low: float, high: float, num_problems: int, num_samples: int, k: int) -> str:
    """The same in words, to follow the number of problems and answers: `can only show differences
    of about 12.5 points and more`."""
    visible = visible_difference(low, high, num_problems, num_samples, k)
    if math.isinf(visible):
        return f"cannot show any: the paired test takes {fewest_changes()} changed problems"
    return f"can only show differences of about {100 * visible:.1f} points and more"
