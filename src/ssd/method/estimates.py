"""Estimates from pass or fail: unbiased pass@k, and how much sampling alone moves it.

Pure. P problems, G samples per problem; `...` are repeats of a simulation.
"""

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]
Booleans = npt.NDArray[np.bool_]


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
