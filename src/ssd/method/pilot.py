"""What a pilot's noise says of the size of an evaluation: problems needed, differences that show.

Differences between two models vary over problems for two reasons: the models differ more on some
problems than on others, which only more problems average out, and each answer is drawn at random,
which more samples per problem average out as well. Two samples per problem tell the two apart.
P problems, G samples per problem, B resamples.
"""

import math
import textwrap
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

from ssd.errors import DataError
from ssd.evaluate.table import WIDTH, aligned
from ssd.method.estimates import Booleans, Floats, Integers
from ssd.method.significance import fewest_changes, smallest_significant

SAMPLES = (1, 2, 3, 5, 10, 20)
KNOWN = {
    131: "LiveCodeBench v6, February to May 2025",
    164: "HumanEval",
    374: "LiveCodeBench v6, August 2024 to February 2025",
    500: "MBPP, test split",
}
"""Sizes of benchmarks that people report on."""
RESAMPLES = 2000
"""Of the pilot's problems, behind the interval of the problems needed."""


@dataclass(frozen=True, slots=True)
class Pilot:
    """A paired difference in pass@1 as a pilot measured it, per problem."""

    differences_P: Floats
    noise_P: Floats | None
    """Variance that sampling gives a problem's difference at the pilot's own sample counts;
    None where an arm has one sample per problem, whose noise cannot be told apart."""
    single_P: Floats | None
    """The same with one sample of each arm."""

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
    several = min(one_P_G.shape[1], other_P_G.shape[1]) > 1
    noise_P = single_P = None
    if several:
        variances = [arm.var(axis=1, ddof=1) for arm in (one_P_G, other_P_G)]
        single_P = variances[0] + variances[1]
        noise_P = variances[0] / one_P_G.shape[1] + variances[1] / other_P_G.shape[1]
    if not differences_P.any() and (single_P is None or not single_P.any()):
        raise DataError(
            "the two models pass the same problems in every sample, so this pilot holds no "
            "variance: use more problems (eval.limit) or samples (eval.num_samples)"
        )
    return Pilot(differences_P, noise_P, single_P)


def problems_needed(
    variance: float, difference: float, power: float, level: float, num_samples: int | None = None
) -> float:
    """Problems at which a two-sided paired test at `level` finds a true `difference` in pass@1
    (a share) with probability `power`: (z_{1-level/2} + z_power)^2 variance / difference^2
    (Miller 2024, arXiv 2411.00640, section 5).

    Never fewer than the sign-flip test can call that difference significant with, where a sample is
    one of `num_samples` per problem; None stands for infinitely many.
    """
    fewest = float(fewest_changes(level))
    if num_samples is not None:
        fewest = max(fewest, fewest / (num_samples * difference))
    return max(_quantiles(power, level) ** 2 * variance / difference**2, fewest)


def smallest_difference(
    variance: float, num_problems: int, power: float, level: float, num_samples: int | None = None
) -> float:
    """The difference in pass@1 (a share) that `num_problems` show with probability `power`;
    the same formula solved for the difference."""
    by_noise = _quantiles(power, level) * math.sqrt(variance / num_problems)
    return max(by_noise, smallest_significant(num_problems, num_samples, level=level))


def power_report(
    pilot: Pilot,
    what: str,
    *,
    difference: float,
    power: float,
    level: float,
    rng: np.random.Generator,
) -> str:
    """Two tables in plain text: problems needed, and smallest visible differences.

    Args:
        what: the pilot in words.
        difference: the difference to be seen, in percentage points.
    """
    num_problems = len(pilot.differences_P)
    slots_B_P = rng.integers(num_problems, size=(RESAMPLES, num_problems))
    lines = [
        f"pilot: {what}; measured difference {100 * pilot.differences_P.mean():+.1f} points",
        textwrap.fill(_variances(pilot), WIDTH),
        "",
        f"to see a difference of {difference:g} points with power {power:g} at level {level:g}, "
        "two-sided:",
        "",
    ]
    rows = [["samples per problem", "problems", "95 % interval", "answers per model"]]
    counts: list[int | None] = [*pilot.sample_counts]
    for count in counts if pilot.noise_P is None else [*counts, None]:
        value = problems_needed(float(pilot.variance(count)), difference / 100, power, level, count)
        one_B = pilot.variance(count, slots_B_P)
        ends = [
            problems_needed(float(one), difference / 100, power, level, count)
            for one in np.quantile(one_B, [0.025, 0.975])
        ]
        low, high = (math.ceil(end) for end in ends)
        needed = math.ceil(value)
        answers = "" if count is None else f"{needed * count:,}"
        name = "any number" if count is None else str(count)
        rows.append([name, f"{needed:,}", f"{low:,} to {high:,}", answers])
    lines += [aligned(rows), "", "smallest difference, in points, that is seen with that power:"]
    return "\n".join([*lines, "", _sizes(pilot, power, level), *_notes(pilot)])


def _sizes(pilot: Pilot, power: float, level: float) -> str:
    here = len(pilot.differences_P)
    sizes = {here: "this pilot", **{size: name for size, name in KNOWN.items() if size != here}}
    header = ["problems", *(f"n={count}" for count in pilot.sample_counts), ""]
    rows = [header]
    for size, name in sizes.items():
        seen = [
            smallest_difference(float(pilot.variance(count)), size, power, level, count)
            for count in pilot.sample_counts
        ]
        rows.append([f"{size:,}", *(f"{100 * one:.1f}" for one in seen), name])
    return aligned(rows)


def _variances(pilot: Pilot) -> str:
    if pilot.noise_P is None:
        return (
            "one sample per problem: the noise of sampling and differences between problems cannot "
            "be told apart, so the answer is for one sample only (eval.num_samples=2 tells more)"
        )
    between, single = (float(pilot.variance(count)) for count in (None, 1))
    return (
        f"standard deviation of one problem's difference: {100 * math.sqrt(between):.0f} points "
        f"between problems, {100 * math.sqrt(single - between):.0f} points by sampling one answer "
        "of each model"
    )


def _notes(pilot: Pilot) -> list[str]:
    few = len(pilot.differences_P) < 30
    small = ["", "fewer than 30 problems: a pilot this small knows its variance badly"]
    return small if few else []


def _quantiles(power: float, level: float) -> float:
    normal = NormalDist()
    return normal.inv_cdf(1 - level / 2) + normal.inv_cdf(power)
