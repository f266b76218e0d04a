"""How many problems and samples it takes to see a difference: the command and its verdicts.

python -m ssd.evaluate power RUN_DIR --benchmark humaneval --difference 3
"""

import argparse
from pathlib import Path

import numpy as np

from ssd.artifacts.names import SCORES, VERDICTS
from ssd.errors import ArtifactError, ConfigError, DataError, did_you_mean
from ssd.evaluate.power_report import power_report
from ssd.evaluate.scores import passed_matrix
from ssd.method.pilot import measure
from ssd.records.benchmark_scores import BenchmarkScores
from ssd.records.scores import read_scores
from ssd.records.verdicts import Verdict, read_verdicts
from ssd.run import Run, load_run


def stored_benchmarks(run_dir: Path, benchmark: str | None) -> dict[str, BenchmarkScores]:
    """The benchmarks of a run's scores, or the one that is named.

    Raises:
        ArtifactError: the run has no scores, or none of that benchmark.
    """
    scores = read_scores(run_dir)
    if scores is None:
        raise ArtifactError(
            f"{run_dir} has no {SCORES}: run python -m ssd.evaluate {run_dir} first"
        )
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
    path = run.store / "verdicts" / scored.models[arm].verdicts / VERDICTS
    if not path.is_file():
        raise ArtifactError(f"{path} is gone: run python -m ssd.evaluate {run.folder} again")
    return read_verdicts(path)


def parser() -> argparse.ArgumentParser:
    """The command line of `python -m ssd.evaluate power`."""
    command = argparse.ArgumentParser(
        prog="python -m ssd.evaluate power",
        description="How many problems and samples it takes to see a difference, from the variance "
        "of a finished run's verdicts.",
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
        ("power", 0.8, "probability of seeing it, in (0, 1)"),
        ("level", 0.05, "significance level of the two-sided test, in (0, 1)"),
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
        pairs = {"the given verdicts": [read_verdicts(folder / VERDICTS) for folder in folders]}
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
