"""Everything a report says about one run, read from its folder and artifacts and nowhere else."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ssd.artifacts import Artifact, read_json
from ssd.errors import SSDError, one_line
from ssd.report.scores import Scores, read_scores
from ssd.run import COMMAND, SCORES, Run, load_run
from ssd.tracking import read_metrics

Manifest = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class StageResult:
    """One artifact of the run, finished or not."""

    label: str
    fingerprint: str
    manifest: Manifest | None
    """None while the artifact is unfinished."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What is known about one run."""

    run: Run
    command: list[str] | None
    scores: Scores | None
    corpus: StageResult | None
    """None where not even its place is known, as when the prompt file is gone."""
    checkpoint: StageResult | None
    answers: tuple[StageResult, ...]
    """Generations and verdicts behind the scores."""
    metrics: list[dict[str, Any]]
    """One line per optimizer step so far."""
    stale: tuple[str, ...]
    """Which scores do not belong to the run's settings, one sentence each."""
    missing: tuple[str, ...]
    """What the report lacks and how to get it, one sentence each."""

    @property
    def results(self) -> list[StageResult]:
        """Every artifact of the run, in the order in which they are made."""
        return [
            result for result in (self.corpus, self.checkpoint, *self.answers) if result is not None
        ]


def collect(run_dir: Path) -> Facts:
    """The facts of a run, however far it has come.

    Raises:
        ArtifactError: the folder holds no run, or one of its files is damaged.
        ConfigError: its configuration is not valid.
    """
    run = load_run(run_dir)
    scores = read_scores(run_dir)
    command = read_json(run_dir / COMMAND)["command"] if (run_dir / COMMAND).is_file() else None
    corpus = checkpoint = None
    metrics: list[dict[str, Any]] = []
    missing: list[str] = []
    try:
        corpus = _result("Corpus", run.corpus)
        checkpoint = _result("Checkpoint", run.checkpoint)
        metrics = read_metrics(run.checkpoint.folder)
    except (SSDError, OSError) as error:
        missing.append(
            f"The corpus cannot be located, and the checkpoint not without it: {one_line(error)}."
        )
    missing += [
        *_unfinished(run, "sample", corpus),
        *_unfinished(run, "train", checkpoint),
        *missing_scores(run, scores),
    ]
    if command is None:
        missing.append(f"There is no {COMMAND}, so the exact command of this run is unknown.")
    return Facts(
        run=run,
        command=command,
        scores=scores,
        corpus=corpus,
        checkpoint=checkpoint,
        answers=_answers(run, scores),
        metrics=metrics,
        stale=tuple(stale_scores(run, scores)),
        missing=tuple(missing),
    )


def missing_scores(run: Run, scores: Scores | None) -> list[str]:
    """What of the evaluation that the run is configured for has not been scored,
    one sentence each."""
    if "evaluate" not in run.config.stages and scores is None:
        return [
            "There are no scores: this run has no evaluate stage "
            f"(stages=[{', '.join(run.config.stages)}])."
        ]
    if scores is None:
        return [
            f"There is no {SCORES}: the evaluation has not finished. "
            "Run python -m ssd.evaluate RUN_DIR."
        ]
    scored = {benchmark.name: benchmark for benchmark in scores.benchmarks}
    absent = [name for name in run.config.eval.benchmarks if name not in scored]
    untuned = [name for name, benchmark in scored.items() if "tuned" not in benchmark.models]
    sentences = [f"{name} has not been scored." for name in absent]
    return sentences + [f"On {name} only the base model was evaluated." for name in untuned]


def stale_scores(run: Run, scores: Scores | None) -> list[str]:
    """Scores that do not belong to config.yaml,
    as after an edit or a rerun that has not come to its evaluation."""
    configured = run.config.eval.benchmarks
    return [
        f"The {role} scores on {benchmark.name} belong to other settings than config.yaml's: "
        "evaluate again."
        for benchmark in (scores.benchmarks if scores is not None else ())
        for role, model in benchmark.models.items()
        if benchmark.name in configured
        and not _belongs(run, role, benchmark.name, model.generations)
    ]


def _result(label: str, artifact: Artifact) -> StageResult:
    manifest = artifact.manifest() if artifact.done else None
    return StageResult(label=label, fingerprint=artifact.fingerprint, manifest=manifest)


def _unfinished(run: Run, stage: str, result: StageResult | None) -> list[str]:
    if result is None or result.manifest is not None or stage not in run.config.stages:
        return []
    return [f"The {result.label.lower()} is unfinished: run python -m ssd.{stage} RUN_DIR."]


def _belongs(run: Run, role: str, benchmark: str, fingerprint: str) -> bool:
    try:
        return run.generations(role, benchmark).fingerprint == fingerprint
    except (
        SSDError,
        OSError,
    ):  # the corpus cannot be located, which `collect` reports; nothing shows a mismatch
        return True


def _answers(run: Run, scores: Scores | None) -> tuple[StageResult, ...]:
    if scores is None:
        return ()
    return tuple(
        _result(
            f"{kind.capitalize()}, {benchmark.name}, {role}",
            Artifact(kind, {}, run.store / kind / fingerprint),
        )
        for benchmark in scores.benchmarks
        for role, model in benchmark.models.items()
        for kind, fingerprint in (("generations", model.generations), ("verdicts", model.verdicts))
    )
