"""What a pilot says about the size of an evaluation: the tables that `power` prints.

P problems, B resamples.
"""

import math
import textwrap

import numpy as np

from ssd.evaluate.table import WIDTH, aligned
from ssd.method.pilot import Pilot, problems_needed, smallest_difference
from ssd.problems.benchmarks.registry import find_entry

REPORTED = {
    "lcb_v6": "LiveCodeBench v6, February to May 2025",
    "humaneval": "HumanEval",
    "lcb_v5_374": "LiveCodeBench v6, August 2024 to February 2025",
    "mbpp": "MBPP, test split",
}
"""Benchmarks that people report on, from the smallest."""
RESAMPLES = 2000
"""Number of resamples of the pilot's problems for the interval of the problems needed."""


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
        variance_B = pilot.variance(count, slots_B_P)
        ends = [
            problems_needed(float(variance), difference / 100, power, level, count)
            for variance in np.quantile(variance_B, [0.025, 0.975])
        ]
        low, high = (math.ceil(end) for end in ends)
        needed = math.ceil(value)
        answers = "" if count is None else f"{needed * count:,}"
        name = "any number" if count is None else str(count)
        rows.append([name, f"{needed:,}", f"{low:,} to {high:,}", answers])
    lines += [aligned(rows), "", "smallest difference, in points, that is seen with that power:"]
    lines += ["", _sizes(pilot, power, level)]
    if num_problems < 30:
        lines += ["", "fewer than 30 problems: a pilot this small knows its variance badly"]
    return "\n".join(lines)


def _sizes(pilot: Pilot, power: float, level: float) -> str:
    here = len(pilot.differences_P)
    titles = {find_entry(name).size: title for name, title in REPORTED.items()}
    sizes = {size: title for size, title in titles.items() if size and size != here}
    sizes = {here: "this pilot", **sizes}
    header = ["problems", *(f"n={count}" for count in pilot.sample_counts), ""]
    rows = [header]
    for size, name in sizes.items():
        differences = [
            smallest_difference(float(pilot.variance(count)), size, power, level, count)
            for count in pilot.sample_counts
        ]
        rows.append([f"{size:,}", *(f"{100 * difference:.1f}" for difference in differences), name])
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
