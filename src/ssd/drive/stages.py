"""Which stages a run asks for, round after round, and which of them are up to date."""

from ssd.arms import BASE, INTERVALS
from ssd.artifacts.names import MANIFEST, REPORT_PAGE, SCORES
from ssd.config.choices import STAGES
from ssd.errors import ArtifactError
from ssd.evaluate.generate import is_whole
from ssd.records.scores import VERSION, read_scores, stored_version
from ssd.report.run.watch import collect_rounds, stopped
from ssd.run import Run, evidence, lineage
from ssd.run.rounds import all_rounds, drawn_by

DRAW = ("sample", "train", "evaluate")
"""The stages that draw tokens or train."""


def planned(run: Run) -> list[tuple[Run, str]]:
    """Every stage that is asked for of one round, in order; the control `t1` is trained after the
    run itself, and before that sampled, by its own model, in all rounds but the first."""
    stages = [name for name in STAGES[1:] if name in run.config.stages]
    trainings = list(lineage.trainings(run).values()) if "evaluate" in stages else [run]
    each = {"train": trainings}
    if drawn_by(run)[1] != BASE:
        each["sample"] = trainings
    return [(owner, name) for name in stages for owner in each.get(name, [run])]


def all_planned(run: Run) -> list[tuple[Run, str]]:
    """The same of all rounds of a run, as far as it is known to go."""
    return [each for round_ in rounds_ahead(run) for each in planned(round_)]


def rounds_ahead(run: Run) -> list[Run]:
    """The rounds of a run, without those after one at which its rule has stopped."""
    rounds, drop = all_rounds(run), run.config.rounds.max_drop
    found = () if drop is None else collect_rounds(run, read_positions=False)
    return rounds[: len(found)] if stopped(found, drop) else rounds


def pending(run: Run) -> list[str]:
    """The stages of all rounds that will draw tokens or train, in order; `train` once for each
    training.

    Raises:
        ArtifactError: a training has no corpus and none is to be sampled.
    """
    stale = [
        (owner, name)
        for owner, name in all_planned(run)
        if name in DRAW and not is_current(owner, name)
    ]
    trainings = [owner for owner, name in stale if name == "train"]
    have_corpora = all(lineage.corpus(training).done for training in trainings)
    if "sample" not in run.config.stages and not have_corpora:
        raise ArtifactError(
            "stages=[train] has no corpus to train on: add sample to stages, or set "
            "train.corpus=FOLDER"
        )
    return [name for _, name in stale]


def is_made(run: Run, stage: str) -> bool:
    """Whether a stage's artifacts are finished; False if it updates the run folder too."""
    answers = drawn_by(run)[1] == BASE and "evaluate" in run.config.stages
    if stage == "sample" and answers and not is_whole(run, BASE):
        return False
    return stage in ("sample", "train", "analyse") and is_current(run, stage)


def is_current(run: Run, stage: str) -> bool:
    """Whether a stage's result is there and belongs to this configuration."""
    if stage == "sample":
        return all(lineage.corpus(training).done for training in lineage.sampled(run))
    if stage == "train":
        return lineage.checkpoint(run).done
    if stage == "evaluate":
        return scores_are_current(run)
    if stage == "analyse":
        return evidence.analysis(run, evidence.reported_steps(run)).done
    return report_is_current(run)


def report_is_current(run: Run) -> bool:
    """Whether the report is newer than everything it describes that exists, in later rounds too."""
    report, scores = run.folder / REPORT_PAGE, run.folder / SCORES
    if not report.is_file() or not scores.is_file():
        return False
    sources = []
    for round_ in all_rounds(run):
        analysis = evidence.finished_analysis(round_)
        sources += [] if analysis is None else [analysis.folder / MANIFEST]
        sources += [path for path in (round_.folder / SCORES,) if path.is_file()]
    return report.stat().st_mtime > max(path.stat().st_mtime for path in sources)


def scores_are_current(run: Run) -> bool:
    """Whether scores.json was made from exactly this run's verdicts and settings, with today's
    intervals."""
    if stored_version(run.folder) != VERSION:
        return False
    scores = read_scores(run.folder)
    if scores is None or scores.inputs != evidence.score_inputs(run):
        return False
    if scores.intervals != INTERVALS:
        return False
    verdicts = {model.verdicts for scored in scores.benchmarks for model in scored.models.values()}
    return all((run.store / "verdicts" / name / MANIFEST).is_file() for name in verdicts)
