"""One model of several runs, paired by problem: the first run minus each of the others.

    python -m ssd.compare RUN_DIR RUN_DIR [RUN_DIR ...]

A run's own scores compare its arms; this compares runs, such as two training temperatures. The
intervals and p-values are those of a run's scores (docs/statistics.md).
"""

import argparse
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ssd.arms import RESAMPLED, TUNED
from ssd.errors import ArtifactError, ConfigError, DataError
from ssd.evaluate.power import arm_verdicts, stored_benchmarks
from ssd.evaluate.scores import benchmark_scores
from ssd.evaluate.table import WIDTH, arm_block, pass_names
from ssd.method.significance import visible_sentence
from ssd.records.verdicts import Verdict
from ssd.report.study.collection import run_names
from ssd.report.study.rows import short_names
from ssd.run import load_run
from ssd.runtime.stage import reporting_errors

SAME = ("grading", "extraction", "release", "window")
"""What two scores of a benchmark must share to be compared."""


def compare(folders: Sequence[Path], arm: str, benchmark: str | None) -> str:
    """The table that the command prints.

    Raises:
        ConfigError: fewer than two runs, or one of them twice.
        ArtifactError: a run has no scores, not of this arm, or the runs share no benchmark.
        DataError: they answered different problems, or were graded differently.
    """
    if len({folder.resolve() for folder in folders}) != len(folders) or len(folders) < 2:
        raise ConfigError("compare takes two run folders or more, each once")
    names = short_names(list(run_names(folders).values()))
    runs = [load_run(folder) for folder in folders]
    stored = [stored_benchmarks(folder, benchmark) for folder in folders]
    shared = [one for one in stored[0] if all(one in other for other in stored)]
    if not shared:
        theirs = "; ".join(f"{n}: {', '.join(one)}" for n, one in zip(names, stored, strict=True))
        raise ArtifactError(f"the runs share no benchmark ({theirs}): set eval.benchmarks alike")
    settings = runs[0].config.eval
    k = [one for one in settings.k if all(one in run.config.eval.k for run in runs)] or [1]
    compared: dict[str, Any] = {}
    for title in shared:
        found = dict(zip(names, (one[title] for one in stored), strict=True))
        verdicts = {
            name: arm_verdicts(run, title, one["models"], arm)
            for run, (name, one) in zip(runs, found.items(), strict=True)
        }
        require_alike(title, found, verdicts)
        scores = benchmark_scores(
            verdicts, k, reference=names[0], resample=settings.resample,
            num_resamples=settings.bootstrap, rng=np.random.default_rng(runs[0].config.seed),
        )  # fmt: skip
        decoded = {name: one["models"][arm] for name, one in found.items()}
        models = {name: decoded[name] | one for name, one in scores["models"].items()}
        compared[title] = found[names[0]] | scores | {"models": models}
    notes = [
        *(length_note(title, names[0], one["comparisons"]) for title, one in compared.items()),
        *(visible_note(title, one) for title, one in compared.items()),
        f"{arm} of each run; percent with 95 % intervals {RESAMPLED[settings.resample.value]}; "
        "differences are paired by problem, in points; p-values are not adjusted for their number",
    ]
    wrapped = [textwrap.fill(note, WIDTH, subsequent_indent="  ") for note in notes]
    return "\n".join([arm_block(compared, reference=names[0]), "", *wrapped])


def require_alike(title: str, found: dict[str, Any], verdicts: dict[str, list[Verdict]]) -> None:
    """Refuse scores that do not measure the same.

    Raises:
        DataError: runs answered different problems, or were graded differently.
    """
    for fact in SAME:
        values = {name: one[fact] for name, one in found.items()}
        if len(set(values.values())) > 1:
            told = ", ".join(f"{value} in {name}" for name, value in values.items())
            raise DataError(f"{title} cannot be compared: {fact} is {told}")
    answered = [{(one.problem_id, one.sample_index) for one in rows} for rows in verdicts.values()]
    if any(one != answered[0] for one in answered):
        told = ", ".join(
            f"{one['num_problems']} x {one['num_samples']} in {name}" for name, one in found.items()
        )
        raise DataError(
            f"{title} cannot be compared: the runs answered other problems or another number of "
            f"times ({told}): set eval.limit, eval.num_samples and eval.validation alike"
        )


def length_note(title: str, first: str, comparisons: dict[str, Any]) -> str:
    """How much longer the first run's answers are, in a sentence."""
    changes = []
    for name, change in comparisons.items():
        value, low, high = (
            f"{change['mean_tokens'][end]:+z.0f}" for end in ("value", "low", "high")
        )
        changes.append(f"{value} [{low}, {high}] tokens longer than those of {name}")
    return f"{title}: mean answers of {first} are {', '.join(changes)}"


def visible_note(title: str, scores: dict[str, Any]) -> str:
    """What these answers could show of each other run, in a sentence."""
    problems, samples = scores["num_problems"], scores["num_samples"]
    metric = pass_names(next(iter(scores["models"].values())))[0]
    k = int(metric.removeprefix("pass@"))
    sentences = []
    for name, change in scores["comparisons"].items():
        ends = change[metric]["low"], change[metric]["high"]
        sentences.append(f"against {name} {visible_sentence(*ends, problems, samples, k)}")
    return f"{title} {metric}: {problems} x {samples} answers {'; '.join(sentences)}"


def main() -> None:
    """Command line of this module."""
    parser = argparse.ArgumentParser(
        prog="python -m ssd.compare",
        description="Compare one model of several runs on their reported problems: the first run "
        "minus each of the others, paired by problem, with intervals and p-values.",
    )
    parser.add_argument("folders", type=Path, nargs="+", metavar="RUN_DIR",
                        help="run folder with scores.json; two or more")  # fmt: skip
    parser.add_argument("--arm", default=TUNED, metavar="NAME",
                        help="tuned (default), base, or a control that all runs have")  # fmt: skip
    parser.add_argument("--benchmark", metavar="NAME", help="one benchmark; all shared by default")
    given = parser.parse_args()
    with reporting_errors():
        print(compare(given.folders, given.arm, given.benchmark))


if __name__ == "__main__":
    main()
