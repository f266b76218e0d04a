"""What a pilot's noise says about the size of an evaluation: problems needed, visible differences.

Differences between two models vary over problems for two reasons: the models differ more on some
problems than on others, which only more problems average out, and each answer is drawn at random,
which more samples per problem average out as well. Two samples per problem tell the two apart.
P problems, G samples per problem.
"""

import math
from dataclasses import dataclass

import numpy as np

from ssd.errors import DataError
from ssd.method.estimates import Booleans, Floats, Integers
from ssd.method.interval_ends import difference_ends
from ssd.method.significance import fewest_problems, quantiles, smallest_detectable

SAMPLES = (1, 2, 3, 5, 10, 20)


@dataclass(frozen=True, slots=True)
class Pilot:
    """A paired difference in pass@1 as a pilot measured it, per problem."""

    differences_P: Floats
    noise_P: Floats | None
    """Variance that sampling gives a problem's difference at the pilot's own sample counts;
    None where an arm has one sample per problem, whose noise cannot be told apart."""
    single_P: Floats | None
    """The same with one sample of each arm."""
    ends: tuple[float, float]
    """Of the 95 % interval of the mean difference, as a run's scores have it."""
    num_samples: int
    """Answers per problem, of the arm with fewer."""

    def variance(self, num_samples: int | None, slots: Integers | None = None) -> Floats:
        """Variance over problems of a difference measured with `num_samples` each; None stands for
        infinitely many.

        The variance between problems is the observed one less what sampling adds to it, and not
        below 0; unbiased within-problem variances are p(1-p) n/(n-1).

        Args:
            slots: problems to take, (..., P), all by default; leading dimensions are kept.

        Raises:
            DataError: the pilot has one sample per problem and the answer is for another number.
        """
        slots = np.arange(len(self.differences_P)) if slots is None else slots
        observed: Floats = self.differences_P[slots].var(axis=-1, ddof=1)
        if self.noise_P is None or self.single_P is None:
            if num_samples != 1:
                raise DataError(
                    "one sample per problem cannot tell the noise of sampling from differences "
                    "between problems: raise eval.num_samples to 2 or more"
                )
            return observed
        between: Floats = np.maximum(0.0, observed - self.noise_P[slots].mean(axis=-1))
        if num_samples is None:
            return between
        total: Floats = between + self.single_P[slots].mean(axis=-1) / num_samples
        return total

    @property
    def sample_counts(self) -> tuple[int, ...]:
        """The samples per problem that this pilot can answer for."""
        return SAMPLES if self.noise_P is not None else (1,)


def measure(one_P_G: Booleans, other_P_G: Booleans) -> Pilot:
    """The pilot of `other` minus `one`: whether each sample passed, problems in the same order.

    Raises:
        DataError: fewer than two problems, or no problem on which the two ever differ.
    """
    differences_P = other_P_G.mean(axis=1) - one_P_G.mean(axis=1)
    if len(differences_P) < 2:
        raise DataError("a pilot needs two problems or more: raise eval.limit")
    num_samples = min(one_P_G.shape[1], other_P_G.shape[1])
    noise_P = single_P = None
    if num_samples > 1:
        variances = [arm.var(axis=1, ddof=1) for arm in (one_P_G, other_P_G)]
        single_P = variances[0] + variances[1]
        noise_P = variances[0] / one_P_G.shape[1] + variances[1] / other_P_G.shape[1]
    if not differences_P.any() and (single_P is None or not single_P.any()):
        raise DataError(
            "the two models pass the same problems in every sample, so this pilot holds no "
            "variance: use more problems (eval.limit) or samples (eval.num_samples)"
        )
    low, high = difference_ends(other_P_G.mean(axis=1), one_P_G.mean(axis=1))
    return Pilot(differences_P, noise_P, single_P, (float(low), float(high)), num_samples)


def problems_needed(
    variance: float, difference: float, power: float, level: float, num_samples: int | None = None
) -> float:
    """Problems at which a two-sided paired test at `level` finds a true `difference` in pass@1
    (a share) with probability `power`: (z_{1-level/2} + z_power)^2 variance / difference^2
    (Miller 2024, arXiv 2411.00640, section 5).

    Never fewer than the sign-flip test takes with `num_samples` per problem; None stands for
    infinitely many.
    """
    fewest = fewest_problems(difference, num_samples, power, level)
    return max(quantiles(power, level) ** 2 * variance / difference**2, fewest)


def smallest_difference(
    variance: float, num_problems: int, power: float, level: float, num_samples: int | None = None
) -> float:
    """The difference in pass@1 (a share) that `num_problems` show with probability `power`;
    the same formula solved for the difference."""
    by_noise = quantiles(power, level) * math.sqrt(variance / num_problems)
    floor = smallest_detectable(num_problems, num_samples, power=power, level=level)
    return max(by_noise, floor)
