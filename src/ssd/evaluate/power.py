"""How many problems and samples it takes to see a difference, from the verdicts of a pilot.

ssd evaluate power RUN_DIR --benchmark humaneval --difference 3

P problems, B resamples.
"""

import argparse
import math
import textwrap
from pathlib import Path

import numpy as np

from ssd.artifacts.names import MANIFEST, SCORES, VERDICTS
from ssd.artifacts.store import existing, stored
from ssd.errors import ArtifactError, ConfigError, DataError, did_you_mean
from ssd.evaluate.scores import passed_matrix
from ssd.evaluate.table import WIDTH, aligned
from ssd.method.pilot import Pilot, measure, problems_needed, smallest_difference
from ssd.method.significance import LEVEL, POWER, visible_difference, visible_sentence
from ssd.problems.benchmarks.registry import find_entry
from ssd.records.benchmark_scores import BenchmarkScores
from ssd.records.scores import read_scores
from ssd.records.verdicts import Verdict, read_verdicts
from ssd.run import Run, load_run
from ssd.runtime.command_line import command_line

REPORTED = {
    "lcb_v6": "LiveCodeBench v6, February to May 2025",
    "humaneval": "HumanEval",
    "lcb_v5_374": "LiveCodeBench v6, August 2024 to February 2025",
    "mbpp": "MBPP, test split",
}
"""Benchmarks that people report on, from the smallest."""
RESAMPLES = 2000
"""Number of resamples of the pilot's problems for the interval of the problems needed."""


def stored_benchmarks(run_dir: Path, benchmark: str | None) -> dict[str, BenchmarkScores]:
    """The benchmarks of a run's scores, or the one that is named.

    Raises:
        ArtifactError: the run has no scores, or none of that benchmark.
    """
    scores = read_scores(run_dir)
    if scores is None:
        raise ArtifactError(f"{run_dir} has no {SCORES}: run ssd evaluate {run_dir} first")
    stored = {scored.name: scored for scored in scores.benchmarks}
    if benchmark is not None and benchmark not in stored:
        raise ArtifactError(
            f"--benchmark={benchmark} has no scores in {run_dir}: "
            f"{did_you_mean(benchmark, list(stored))}"
        )
    return stored if benchmark is None else {benchmark: stored[benchmark]}


def arm_verdicts(run: Run, scored: BenchmarkScores, arm: str) -> list[Verdict]:
    """The verdicts of one arm of a benchmark.

    Raises:
        ArtifactError: there is no such arm, or its verdicts are gone.
    """
    if arm not in scored.models:
        raise ArtifactError(
            f"{run.folder} has no scores of {arm} on {scored.name}, "
            f"but of {', '.join(scored.models)}"
        )
    verdicts = stored(run.store, "verdicts", scored.models[arm].verdicts)
    if not verdicts.done:
        raise ArtifactError(f"{verdicts.folder} is gone: run ssd evaluate {run.folder} again")
    return read_verdicts(verdicts.intact(VERDICTS) / VERDICTS)


def folder_verdicts(folder: Path) -> list[Verdict]:
    """The verdicts in a folder, as they were written where it has a manifest.

    Raises:
        ArtifactError: they have changed.
    """
    if (folder / MANIFEST).is_file():
        existing(folder, ("verdicts",), "--arms").intact(VERDICTS, setting="--arms")
    return read_verdicts(folder / VERDICTS)


def parser() -> argparse.ArgumentParser:
    """The command line of `ssd evaluate power`."""
    command = command_line(
        "evaluate power",
        "How many problems and samples it takes to see a difference, from the variance of a "
        "finished run's verdicts.",
        "outputs/main/defaults  # 3 points with probability 0.8 at level 0.05",
        "outputs/main/defaults --benchmark humaneval --difference 5",
    )
    command.add_argument(
        "run_dir", type=Path, metavar="RUN_DIR", help="run folder with scores.json"
    )
    command.add_argument("--benchmark", metavar="NAME", help="one benchmark; all by default")
    command.add_argument(
        "--arms", nargs=2, default=("base", "tuned"), metavar=("ONE", "OTHER"),
        help="arms of scores.json, or folders of verdicts; base and tuned by default",
    )  # fmt: skip
    for name, value, what in (
        ("difference", 3.0, "the difference to be seen, in percentage points"),
        ("power", POWER, "probability of seeing it, in (0, 1)"),
        ("level", LEVEL, "significance level of the two-sided test, in (0, 1)"),
    ):
        command.add_argument(
            f"--{name}", type=float, default=value, help=f"{what}; {value:g} by default"
        )
    return command


def run_power(arguments: list[str]) -> None:
    """Print the report that the command line asks for.

    Raises:
        SSDError: a number is out of range, the verdicts are missing, or those of a benchmark that
            is named hold no variance.
    """
    options = parser().parse_args(arguments)
    if not options.difference > 0:
        raise ConfigError(f"--difference must be positive, got {options.difference:g}")
    for name in ("power", "level"):
        if not 0 < getattr(options, name) < 1:
            raise ConfigError(f"--{name} must lie in (0, 1), got {getattr(options, name):g}")
    folders = [Path(arm) for arm in options.arms]
    if all((folder / VERDICTS).is_file() for folder in folders):
        pairs = {"the given verdicts": [folder_verdicts(folder) for folder in folders]}
    else:
        run = load_run(options.run_dir)
        pairs = {
            name: [arm_verdicts(run, scored, arm) for arm in options.arms]
            for name, scored in stored_benchmarks(options.run_dir, options.benchmark).items()
        }
    for name, verdicts in pairs.items():
        try:
            print(report(name, verdicts, options), end="\n\n")
        except DataError as error:
            if len(pairs) == 1 and options.benchmark is not None:
                raise
            print(f"{name}: {error}", end="\n\n")  # the others may still answer


def report(name: str, pair: list[list[Verdict]], options: argparse.Namespace) -> str:
    """The report on one benchmark's two arms.

    Raises:
        DataError: the arms answered different problems, or the pilot holds no variance.
    """
    problems = [{verdict.problem_id for verdict in verdicts} for verdicts in pair]
    if problems[0] != problems[1]:
        raise DataError(
            f"{' and '.join(options.arms)} answered different problems: name two arms of one run"
        )
    first_P_G, second_P_G = (passed_matrix(verdicts) for verdicts in pair)
    counts = " and ".join(
        str(count) for count in dict.fromkeys((first_P_G.shape[1], second_P_G.shape[1]))
    )
    samples = "one sample" if counts == "1" else f"{counts} samples"
    return power_report(
        measure(first_P_G, second_P_G),
        f"{' and '.join(options.arms)} on {name}, {len(first_P_G)} problems with {samples} each",
        difference=options.difference,
        power=options.power,
        level=options.level,
        rng=np.random.default_rng(0),
    )


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
        "these answers " + visible_sentence(*pilot.ends, num_problems, pilot.num_samples, 1),
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
            visible_difference(*pilot.ends, here, count, power=power, level=level)
            if (size, count) == (here, pilot.num_samples)  # what the report says of this run
            else smallest_difference(float(pilot.variance(count)), size, power, level, count)
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
