"""One model of several runs, paired by problem: the first run minus each of the others.

    python -m ssd.compare RUN_DIR RUN_DIR [RUN_DIR ...]

A run's own scores compare its arms; this compares runs, such as two training temperatures. The
intervals and p-values are those of a run's scores (docs/statistics.md).
"""

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from ssd.arms import RESAMPLED, TUNED
from ssd.errors import ArtifactError, ConfigError, DataError
from ssd.evaluate.power import arm_verdicts, stored_benchmarks
from ssd.evaluate.scores import Estimator, benchmark_scores
from ssd.evaluate.table import arm_block, wrapped
from ssd.method.significance import visible_sentence
from ssd.records.benchmark_scores import BenchmarkScores
from ssd.records.verdicts import Verdict
from ssd.report.render import formats
from ssd.report.study.collection import run_names
from ssd.report.study.rows import short_names
from ssd.run import load_run
from ssd.runtime.reporting import reporting_errors

MUST_AGREE = ("grading", "extraction", "release", "window")
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
    shared = [title for title in stored[0] if all(title in scored for scored in stored)]
    if not shared:
        theirs = "; ".join(f"{n}: {', '.join(own)}" for n, own in zip(names, stored, strict=True))
        raise ArtifactError(f"the runs share no benchmark ({theirs}): set eval.benchmarks alike")
    settings = runs[0].config.eval
    k = [k for k in settings.k if all(k in run.config.eval.k for run in runs)] or [1]
    compared = []
    for title in shared:
        scored = dict(zip(names, (own[title] for own in stored), strict=True))
        verdicts = {
            name: arm_verdicts(run, scored[name], arm)
            for name, run in zip(names, runs, strict=True)
        }
        require_alike(scored, verdicts)
        answers = {name: scores.models[arm] for name, scores in scored.items()}
        estimator = Estimator(
            k=k, reference=names[0], resample=settings.resample,
            num_resamples=settings.bootstrap, rng=np.random.default_rng(runs[0].config.seed),
        )  # fmt: skip
        compared.append(benchmark_scores(scored[names[0]], answers, verdicts, estimator))
    notes = [
        *(length_note(names[0], scored) for scored in compared),
        *(visible_note(scored) for scored in compared),
        f"{arm} of each run; percent with 95 % intervals {RESAMPLED[settings.resample.value]}; "
        "differences are paired by problem, in points; p-values are not adjusted for their number",
    ]
    return "\n".join([arm_block(compared, reference=names[0]), "", wrapped(notes)])


def require_alike(
    scored: Mapping[str, BenchmarkScores], verdicts: Mapping[str, Sequence[Verdict]]
) -> None:
    """Refuse a benchmark's scores of several runs if they do not measure the same thing.

    Raises:
        DataError: runs answered different problems, or were graded differently.
    """
    title = next(iter(scored.values())).name
    for fact in MUST_AGREE:
        values = {name: getattr(scores, fact) for name, scores in scored.items()}
        if len(set(values.values())) > 1:
            each = ", ".join(f"{value} in {name}" for name, value in values.items())
            raise DataError(f"{title} cannot be compared: {fact} is {each}")
    answered = [{(row.problem_id, row.sample_index) for row in rows} for rows in verdicts.values()]
    if any(places != answered[0] for places in answered):
        sizes = ", ".join(
            f"{scores.num_problems} x {scores.num_samples} in {name}"
            for name, scores in scored.items()
        )
        raise DataError(
            f"{title} cannot be compared: the runs answered other problems or another number of "
            f"times ({sizes}): set eval.limit, eval.num_samples and eval.validation alike"
        )


def length_note(first: str, scored: BenchmarkScores) -> str:
    """How much longer the first run's answers are, in a sentence."""
    changes = [
        f"{formats.tokens(change.mean_tokens)} tokens longer than those of {name}"
        for name, change in scored.comparisons.items()
    ]
    return f"{scored.name}: mean answers of {first} are {', '.join(changes)}"


def visible_note(scored: BenchmarkScores) -> str:
    """What these answers could show of each other run, in a sentence."""
    size, k = (scored.num_problems, scored.num_samples), scored.k
    sentences = []
    for name, comparison in scored.comparisons.items():
        change = comparison.pass_at[k]
        sentences.append(f"against {name} {visible_sentence(change.low, change.high, *size, k)}")
    return f"{scored.name} pass@{k}: {size[0]} x {size[1]} answers {'; '.join(sentences)}"


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
    options = parser.parse_args()
    with reporting_errors():
        print(compare(options.folders, options.arm, options.benchmark))


if __name__ == "__main__":
    main()
