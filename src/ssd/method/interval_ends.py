"""The ends of intervals that cover: of a score, of a paired difference, of a mean.

P problems; `...` are repeats of a simulation. docs/statistics.md says what each interval means,
what it does not, and how often the intervals hold the truth (`benchmarks/coverage.py`).
"""

import math
from statistics import NormalDist

import numpy as np

from ssd.method.estimates import Floats
from ssd.method.intervals import Interval

COVERAGE = 0.95
"""Of every interval."""
SCORE_PSEUDO, DIFFERENCE_PSEUDO = 4, 3
"""Pseudo-problems, half of them at each end: Agresti and Coull's (1998) four for a share; for a
paired difference Bonett and Price (2012) take two, which cover 93.5 % at 131 problems where all
changes go one way, and three 94.4 % and more."""


def score_ends(score_P: Floats, noise: Floats | None = None, step: float = 1.0) -> Floats:
    """Both ends of the interval of a mean score: Student's t over the problems and pseudo-problems
    at 0 and 1, an Agresti-Coull interval for shares that need not be 0 or 1.

    Args:
        score_P: (..., P), each a share in [0, 1].
        noise: variance by sampling, summed over problems, (...), for an interval over the samples
            of these problems; None for one over problems.
        step: the most that one more correct sample raises a problem's score; only with `noise`.

    Returns:
        (2, ...): lower and upper ends.
    """
    mean = score_P.mean(axis=-1)
    most = score_P.shape[-1] * mean * (1 - mean)
    spread = ((score_P - mean[..., None]) ** 2).sum(axis=-1)
    return _ends(score_P, (0, 1), SCORE_PSEUDO, spread, most, noise, step)


def difference_ends(
    one_P: Floats, other_P: Floats, noise: Floats | None = None, step: float = 1.0
) -> Floats:
    """Both ends of the interval of the mean of `one_P - other_P`, in [-1, 1]: as `score_ends` has
    them, with a Bonett-Price interval in the place of Agresti and Coull's. `noise` is that of both.
    """
    change_P = one_P - other_P
    # Changes that are -1, 0 or 1 have squares as large as themselves.
    spread, most = (change_P**2).sum(axis=-1), np.abs(change_P).sum(axis=-1)
    if noise is not None:
        means = one_P.mean(axis=-1), other_P.mean(axis=-1)
        most = change_P.shape[-1] * sum(mean * (1 - mean) for mean in means)
    return _ends(change_P, (-1, 1), DIFFERENCE_PSEUDO, spread, most, noise, step)


def _ends(
    value_P: Floats,
    bounds: tuple[float, float],
    num_pseudo: int,
    spread: Floats,
    most: Floats,
    noise: Floats | None,
    step: float,
) -> Floats:
    """The interval behind both. Pseudo-problems of weight 1 are right where a problem passes or
    fails as a whole, and too many where many samples of like problems make scores precise: at 1,000
    problems of 20 samples they alone would move a score by more than its noise. So their weight is
    `spread`, or `noise`, as a share of `most`, which a spread of all or nothing would be."""
    low, high = bounds
    middle, half = (low + high) / 2, (high - low) / 2
    # Counted with the pseudo-problems' own squares: values that do not vary at all weigh 1, since
    # that some problems pass as a whole cannot be excluded before one has passed.
    prior = num_pseudo * half**2
    varied = spread + prior if noise is None else noise + prior * step
    weight = np.clip(varied / (most + prior), 0, 1)
    num_problems = value_P.shape[-1]
    size = num_problems + num_pseudo * weight
    centre = (value_P.sum(axis=-1) + num_pseudo * weight * middle) / size
    if noise is None:
        around = ((value_P - centre[..., None]) ** 2).sum(axis=-1)
        squares = around + weight * (prior + num_pseudo * (centre - middle) ** 2)
    else:
        squares = noise + step * (prior + num_pseudo * (centre - middle) ** 2)
    error = np.sqrt(squares / (size * (size - weight)))
    reach = t_quantile(num_problems + num_pseudo - 1) * error
    return np.clip(np.stack([centre - reach, centre + reach]), low, high)


def mean_ends(value_P: Floats) -> Floats:
    """Student's t interval of a mean without bounds, as (2, ...); without width for one value."""
    num_problems, mean = value_P.shape[-1], value_P.mean(axis=-1)
    if num_problems == 1:
        return np.stack([mean, mean])
    error = value_P.std(axis=-1, ddof=1) / math.sqrt(num_problems)
    reach = t_quantile(num_problems - 1) * error
    return np.stack([mean - reach, mean + reach])


def estimate(value: float, ends: Floats, p_value: float | None = None) -> Interval:
    """A mean with the ends of its interval."""
    low, high = ends
    # The last digits of a sum must not put a mean outside its own interval.
    value = float(value)
    low, high = min(float(low), value), max(float(high), value)
    return Interval(value=value, low=low, high=high, p_value=p_value)


def t_quantile(degrees: int, level: float = COVERAGE) -> float:
    """Two-sided quantile of Student's t (Abramowitz and Stegun 1964, 26.7.5): within 0.02 of the
    exact one from 3 degrees of freedom on, within 0.001 from 6 on."""
    z = NormalDist().inv_cdf((1 + level) / 2)
    terms = (
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
        (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / 92160,
    )
    return z + sum(term / float(degrees) ** (index + 1) for index, term in enumerate(terms))
