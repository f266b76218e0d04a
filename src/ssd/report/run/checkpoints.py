"""The checkpoints that a run's trainings export, each with its own facts and scores."""

import dataclasses
from dataclasses import dataclass
from pathlib import Path

from ssd.arms import TUNED, UNIT
from ssd.records.benchmark_scores import BenchmarkScores, ModelScores
from ssd.report.run.facts import Facts
from ssd.run import lineage


@dataclass(frozen=True, slots=True)
class Export:
    """One exported checkpoint of a run."""

    facts: Facts
    """Facts of the run that trained it: for the control `t1`, those of the control's run."""
    model: str
    """`tuned` or `t1`."""
    step: int | None
    """Training step; None for the final model."""

    @property
    def folder(self) -> Path:
        """Holds `model/`, `adapter/` or both, where it was exported."""
        return lineage.trained_folder(self.facts.run, TUNED, self.step)

    @property
    def scored(self) -> list[tuple[BenchmarkScores, ModelScores]]:
        """This checkpoint's score on each benchmark; none if those stored belong to other
        settings."""
        scores = self.facts.scores
        if scores is None or self.facts.stale:
            return []
        return [
            (benchmark, arm)
            for benchmark in scores.benchmarks
            for arm in benchmark.models.values()
            if (arm.model, arm.setting.checkpoint_step) == (self.model, self.step)
        ]


def exports(facts: Facts) -> list[Export]:
    """The final model of each training of the run, and the earlier steps that are reported."""
    if facts.checkpoint is None:
        return []
    trained = {TUNED: facts}
    if facts.control:
        corpus, checkpoint = facts.control
        control = lineage.control(facts.run)
        trained[UNIT] = dataclasses.replace(
            facts, run=control, corpus=corpus, checkpoint=checkpoint
        )
    benchmarks = facts.scores.benchmarks if facts.scores is not None else ()
    arms = [
        arm for benchmark in benchmarks for arm in benchmark.models.values() if arm.model in trained
    ]
    steps = [(model, None) for model in trained] + [
        (arm.model, arm.setting.checkpoint_step) for arm in arms
    ]
    return [Export(trained[model], model, step) for model, step in dict.fromkeys(steps)]
