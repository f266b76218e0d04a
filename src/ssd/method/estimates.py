"""Estimates from pass or fail: unbiased pass@k, intervals that cover, the paired sign-flip test.

Pure; random numbers are arguments. P problems, G samples per problem, B choices of signs; `...`
are repeats of a simulation. docs/statistics.md says what each interval and p-value means, what it
does not, and how often the intervals hold the truth (`benchmarks/coverage.py`).
"""

import math
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

from ssd.method.intervals import Interval

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]
Booleans = npt.NDArray[np.bool_]
LEVEL = 0.95
"""Coverage of every interval."""
SCORE_PSEUDO, DIFFERENCE_PSEUDO = 4, 3
"""Pseudo-problems, half of them at each end: Agresti and Coull's (1998) four for a share; for a
paired difference Bonett and Price (2012) take two, which cover 93.5 % at 131 problems where all
changes go one way, and three 94.4 % and more."""


def pass_at_k(num_samples: int | Integers, num_correct_P: Integers, k: int) -> Floats:
    """Unbiased pass@k per problem, 1 - C(n-c, k) / C(n, k)
    (Chen et al. 2021, arXiv 2107.03374, eq. 1).

    The ratio of binomials is the product of (n-c-j) / (n-j) over j < k: factors in [0, 1],
    so large n is safe.

    Args:
        num_samples: n, of every problem or of each, (P,); k at least.
    """
    drawn_k = np.arange(k)
    left_P_k = np.asarray(num_samples)[..., None] - drawn_k
    wrong_P_k = np.maximum(left_P_k - num_correct_P[..., None], 0)
    score_P: Floats = 1.0 - np.prod(wrong_P_k / left_P_k, axis=-1)
    return score_P


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
    # Counted with the pseudo-problems' own squares: values that do not vary at all weigh 1, because
    # problems that pass as a whole cannot be excluded before one has passed.
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


def t_quantile(degrees: int, level: float = LEVEL) -> float:
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


def sampling_noise(num_samples: int, correct_P: Integers, k: int) -> Floats:
    """Variance that sampling gives the problems' pass@k, summed over the problems, (...).

    With q = 1 - p the chance to fail, the share of failed k-subsets has mean q^k, so its variance
    is the mean of its square less q^2k, which pass@2k estimates without bias where 2k <= G. Moments
    of q over problems are log-convex in their order, so beyond G they are at least as large as the
    last two continue; the noise is then more likely over- than underestimated.

    Args:
        correct_P: correct samples of G >= 2, (..., P).
    """

    def moment(order: int) -> Floats:
        failed: Floats = 1 - pass_at_k(num_samples, correct_P, order).mean(axis=-1)
        return failed

    if 2 * k <= num_samples:
        expected = moment(2 * k)
    else:
        last, before = moment(num_samples), moment(num_samples - 1)
        ratio = np.divide(last, before, out=np.zeros_like(last), where=before > 0)
        expected = last * ratio ** (2 * k - num_samples)
    squared = ((1 - pass_at_k(num_samples, correct_P, k)) ** 2).mean(axis=-1)
    noise: Floats = correct_P.shape[-1] * np.maximum(squared - expected, 0)
    return noise


def largest_step(num_samples: int, k: int) -> float:
    """The most that one more correct sample of G raises a problem's pass@k, the first one."""
    return min(1.0, k / num_samples)


def sign_flip_p_value(differences_P: Floats, num_resamples: int, rng: np.random.Generator) -> float:
    """Two-sided p-value of a paired sign-flip test.

    Where the models do not differ, each problem's difference is as likely to have the other sign.
    The p-value is the share of sign choices with a mean at least as far from 0 as the observed one:
    of all choices where `num_resamples` suffice for them, else of random ones and the observed
    one, which makes it never 0 (Phipson and Smyth 2010, arXiv 1603.05766).
    """
    changed_P = differences_P[differences_P != 0]
    num_changed = len(changed_P)
    exact = 2.0**num_changed <= num_resamples
    if exact:
        bits_B_P = np.arange(2**num_changed)[:, None] >> np.arange(num_changed) & 1
    else:
        bits_B_P = rng.integers(0, 2, size=(num_resamples, num_changed), dtype=np.int8)
    # Sums that are equal on paper may differ in the last digits.
    extreme_B = np.abs((bits_B_P * 2 - 1) @ changed_P) >= abs(changed_P.sum()) - 1e-9
    return float(extreme_B.mean() if exact else (1 + extreme_B.sum()) / (1 + num_resamples))
