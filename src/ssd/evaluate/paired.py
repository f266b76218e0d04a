"""One model of several runs, paired by problem."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from ssd.errors import ArtifactError, DataError
from ssd.evaluate.power import arm_verdicts, stored_benchmarks
from ssd.evaluate.scores import Estimator, benchmark_scores
from ssd.records.benchmark_scores import BenchmarkScores
from ssd.records.verdicts import Verdict
from ssd.run import load_run

MUST_AGREE = ("grading", "extraction", "release", "window")
"""What two scores of a benchmark must share to be compared."""


def paired_runs(
    folders: Mapping[str, Path], arm: str, benchmark: str | None = None
) -> list[BenchmarkScores]:
    """Scores of one arm of several runs on each benchmark that all have: the runs take the place of
    arms, the first minus each of the others.

    Args:
        folders: run folders by the name that each gets in the scores; two or more.
        arm: the model of each run.
        benchmark: the one benchmark to compare on; all shared ones when None.

    Raises:
        ArtifactError: a run has no scores, not of this arm, or the runs share no benchmark.
        DataError: they answered different problems, or were graded differently.
    """
    runs = {name: load_run(folder) for name, folder in folders.items()}
    stored = {name: stored_benchmarks(folder, benchmark) for name, folder in folders.items()}
    first, *_ = runs
    shared = [title for title in stored[first] if all(title in own for own in stored.values())]
    if not shared:
        theirs = "; ".join(f"{name}: {', '.join(own)}" for name, own in stored.items())
        raise ArtifactError(f"the runs share no benchmark ({theirs}): set eval.benchmarks alike")
    settings = runs[first].config.eval
    k = [k for k in settings.k if all(k in run.config.eval.k for run in runs.values())] or [1]
    compared = []
    for title in shared:
        scored = {name: own[title] for name, own in stored.items()}
        verdicts = {name: arm_verdicts(run, scored[name], arm) for name, run in runs.items()}
        require_alike(scored, verdicts)
        answers = {name: scores.models[arm] for name, scores in scored.items()}
        estimator = Estimator(
            k=k, reference=first, resample=settings.resample,
            num_resamples=settings.bootstrap, seed=runs[first].config.seed,
        )  # fmt: skip
        compared.append(benchmark_scores(scored[first], answers, verdicts, estimator))
    return compared


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
