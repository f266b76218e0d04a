"""The cost of a run: every artifact behind its scores, and the wall time of each."""

from dataclasses import dataclass

from ssd.artifacts.store import Artifact, stored
from ssd.errors import SSDError
from ssd.records.scores import Scores
from ssd.run import evidence, lineage, protocol
from ssd.run.folder import Run


@dataclass(frozen=True, slots=True)
class Cost:
    """One finished artifact."""

    kind: str
    fingerprint: str
    seconds: float
    """Wall time of the process that made it."""


def costs(artifacts: list[Artifact]) -> list[Cost]:
    """The wall times of the finished artifacts among these, each counted once."""
    finished = {(each.kind, each.fingerprint): each for each in artifacts if each.done}
    return [
        Cost(*place, float(artifact.manifest().get("wall_seconds", 0.0)))
        for place, artifact in finished.items()
    ]


def scored_artifacts(run: Run, scores: Scores | None) -> list[Artifact]:
    """Every artifact behind a run's scores, finished or not, with the answers that chose and those
    of the controls. Artifacts that cannot be located, as without the prompt file, are left out."""
    try:
        artifacts = [
            locate(training)
            for training in lineage.trainings(run).values()
            for locate in (lineage.corpus, lineage.checkpoint)
        ]
        artifacts += _choosing(run)
    except (SSDError, OSError):
        artifacts = []
    benchmarks = scores.benchmarks if scores is not None else ()
    models = [model for scored in benchmarks for model in scored.models.values()]
    return artifacts + [
        stored(run.store, kind, fingerprint)
        for model in models
        for kind, fingerprint in (("generations", model.generations), ("verdicts", model.verdicts))
    ]


def _choosing(run: Run) -> list[Artifact]:
    """Answers and verdicts that every candidate setting was chosen by."""
    if not protocol.selects(run):
        return []
    return [
        locate(run, model, name, how, part)
        for model in protocol.models(run)
        for how in protocol.candidates(run, model)
        for name, part in protocol.chosen_on(run)
        for locate in (evidence.generations, evidence.verdicts)
    ]
