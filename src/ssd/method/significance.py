"""What a benchmark of a size can show: the smallest difference that the paired test finds.

The test is the sign-flip test of `ssd.method.sign_flip`; report, `power` and `compare` say it
with these functions, so that one run has one answer.
"""

import math
from statistics import NormalDist

LEVEL = 0.05
"""Significance level of the paired test, the counterpart of 95 % intervals."""
POWER = 0.8
"""Probability of finding a difference that is called visible: four runs of five."""


def fewest_changes(level: float = LEVEL) -> int:
    """Problems that must change, all one way, for the sign-flip test to reject at `level`: of m
    changes two of 2^m choices of signs are as far from 0, so 2^(1-m) < level. Six at 0.05."""
    return math.floor(1 - math.log2(level)) + 1


def fewest_problems(
    difference: float, num_samples: int | None, power: float = POWER, level: float = LEVEL
) -> int:
    """Problems at which a true difference in pass@1, a share, changes enough of them for the
    sign-flip test with probability `power`, where all changes go one way and each is of one sample:
    fewer cannot find it, however little noise there is. None stands for infinitely many samples."""
    fewest = fewest_changes(level)
    share = 1.0 if num_samples is None else min(1.0, difference * num_samples)
    low, high = fewest - 1, fewest
    while _at_least(fewest, high, share) < power:
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if _at_least(fewest, middle, share) >= power else (middle, high)
    return high


def smallest_detectable(
    num_problems: float,
    num_samples: int | None,
    k: int = 1,
    power: float = POWER,
    level: float = LEVEL,
) -> float:
    """The same solved for the difference in pass@k, a share: with probability `power` the test's
    fewest problems change, each by the smallest step that a sample makes, 1 / C(G, k). Infinite
    where there are fewer problems; 0 otherwise for infinitely many samples, None."""
    fewest, size = fewest_changes(level), math.floor(num_problems)
    if size < fewest:
        return math.inf
    if num_samples is None:
        return 0.0
    low, high = 0.0, 1.0
    for _ in range(40):  # to 1e-12
        middle = (low + high) / 2
        low, high = (low, middle) if _at_least(fewest, size, middle) >= power else (middle, high)
    return high / math.comb(num_samples, k)


def visible_difference(
    low: float,
    high: float,
    num_problems: int,
    num_samples: int,
    k: int = 1,
    power: float = POWER,
    level: float = LEVEL,
) -> float:
    """About the smallest true difference, a share, that answers like these show with probability
    `power`: by the noise behind the interval of the difference that they did show, and no less than
    the test could find without any.

    Args:
        low, high: the 95 % interval of the difference.
    """
    error = (high - low) / 2 / NormalDist().inv_cdf(1 - LEVEL / 2)
    floor = smallest_detectable(num_problems, num_samples, k, power, level)
    return max(quantiles(power, level) * error, floor)


def visible_sentence(low: float, high: float, num_problems: int, num_samples: int, k: int) -> str:
    """The same in words, to follow the number of problems and answers: `can only show differences
    of about 16.0 points and more`."""
    visible = visible_difference(low, high, num_problems, num_samples, k)
    if math.isinf(visible):
        return f"cannot show any: the paired test takes {fewest_changes()} changed problems"
    return f"can only show differences of about {100 * visible:.1f} points and more"


def quantiles(power: float, level: float) -> float:
    """z_{1-level/2} + z_power: standard errors between 0 and a difference that a two-sided test at
    `level` finds with probability `power` (Miller 2024, arXiv 2411.00640, section 5)."""
    normal = NormalDist()
    return normal.inv_cdf(1 - level / 2) + normal.inv_cdf(power)


def _at_least(fewest: int, size: int, share: float) -> float:
    """Probability that `fewest` or more of `size` problems change, each with chance `share`."""
    fewer = (
        math.comb(size, count) * share**count * (1 - share) ** (size - count)
        for count in range(fewest)
    )
    return 1 - math.fsum(fewer)
