"""Everything a report says about one run, read from its folder and artifacts and nowhere else."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ssd.arms import INTERVALS, UNIT
from ssd.artifacts.files import read_json
from ssd.artifacts.names import COMMAND, METRICS, SCORES
from ssd.artifacts.store import Artifact, stored
from ssd.config.choices import ObjectiveType
from ssd.config.settings import PowerConfig
from ssd.errors import UNREADABLE, ArtifactError, SSDError, one_line
from ssd.method.decoding import Decoding
from ssd.records.analysis import Analysis, read_analysis
from ssd.records.benchmark_scores import BenchmarkScores
from ssd.records.resampling import approximation
from ssd.records.scores import Scores, read_scores
from ssd.records.selection import Candidate
from ssd.report.run.watch import Round, collect_rounds
from ssd.run import Run, evidence, lineage, load_run
from ssd.run.cost import Cost, costs, scored_artifacts
from ssd.run.rounds import of_round
from ssd.run.tracking import read_metrics

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
    launched: float | None
    """When the command was last given, in epoch seconds."""
    scores: Scores | None
    corpus: StageResult | None
    """None if not even its folder is known, as when the prompt file is gone."""
    checkpoint: StageResult | None
    control: tuple[StageResult, ...]
    """Corpus and checkpoint of the control `t1`, where the run has it."""
    answers: tuple[StageResult, ...]
    """Generations and verdicts behind the scores."""
    analysed: StageResult | None
    """The analysis artifact; None if not even its folder is known."""
    analysis: Analysis | None
    """Its contents; None while it is unfinished, cannot be read, or was not requested."""
    rounds: tuple[Round, ...]
    """With scores of the run's own settings, this run first; empty where there is one round."""
    metrics: list[dict[str, Any]]
    """One line per optimizer step so far."""
    stale: tuple[str, ...]
    """Which scores do not belong to the run's settings, one sentence each."""
    missing: tuple[str, ...]
    """What the report lacks and how to add it, one sentence each."""

    @property
    def main(self) -> tuple[BenchmarkScores, ...]:
        """The scored benchmarks that a verdict goes by."""
        return self.scores.main if self.scores is not None else ()

    @property
    def held_out(self) -> Candidate | None:
        """The tuned model's chosen setting, where held-out problems chose it."""
        return self.scores.held_out if self.scores is not None else None

    @property
    def power(self) -> PowerConfig | None:
        """The power of whole answers that the corpus was chosen by, perhaps by another run; None
        where its tokens were tempered each by itself."""
        named = self._named_corpus
        if named is None:
            power = self.run.config.sampler.power
            return power if power.is_on else None
        return PowerConfig(**named["power"]) if "power" in named else None

    @property
    def approximation(self) -> str | None:
        """What is approximate about a finished corpus, in a sentence; None where nothing is."""
        manifest = self.corpus and self.corpus.manifest
        return approximation(manifest) if manifest else None

    @property
    def _named_corpus(self) -> dict[str, Any] | None:
        """The inputs of the corpus that `train.corpus` names."""
        manifest = self.corpus and self.corpus.manifest
        if self.run.config.train.corpus is None or not manifest:
            return None
        inputs: dict[str, Any] = manifest["inputs"]
        return inputs

    @property
    def sampled(self) -> Decoding:
        """How every token of the corpus was drawn, perhaps by another run; with a `power`, every
        token of its candidates."""
        config, inputs = self.run.config, self._named_corpus
        if inputs is not None:
            if inputs["temp"] is None:
                raise ArtifactError(
                    f"train.corpus={config.train.corpus} does not say at which temperature it was "
                    "drawn, which a report needs: import it again with --temp, --top-k and --top-p"
                )
            cut = inputs["truncation"]
            return Decoding(inputs["temp"], cut["top_k"], cut["top_p"])
        return Decoding.of(config.sampler.temp, config.truncation)

    @property
    def fitted(self) -> Decoding | None:
        """The decoding of the base model that the tuned one is fitted to, whose temperature T_eff
        multiplies; None where the objective, or the corpus, has no such target, and in later
        rounds, whose target is another model's."""
        objective = self.run.config.objective
        if objective.type is ObjectiveType.tail or self.run.config.rounds.number > 1:
            return None
        return lineage.fitted(objective, self.sampled if self.power is None else None)

    @property
    def results(self) -> list[StageResult]:
        """Every artifact of the run, in the order in which they are made."""
        results = (self.corpus, self.checkpoint, *self.control, *self.answers, self.analysed)
        return [result for result in results if result is not None]


def collect(run_dir: Path, *, read_positions: bool = True) -> Facts:
    """The facts of a run, however far it has come.

    Args:
        read_positions: whether to read what the analysis holds, seconds for each run.

    Raises:
        ArtifactError: the folder holds no run, or one of its files is damaged.
        ConfigError: its configuration is not valid.
    """
    run = load_run(run_dir)
    scores = read_scores(run_dir)
    command_file = run_dir / COMMAND
    command = read_json(command_file)["command"] if command_file.is_file() else None
    corpus = checkpoint = None
    control: tuple[StageResult, ...] = ()
    missing: list[str] = []
    try:
        corpus = _result("Corpus", lineage.corpus(run))
        checkpoint = _result("Checkpoint", lineage.checkpoint(run))
        control = _control(run)
    except (SSDError, OSError) as error:
        missing.append(
            f"The corpus cannot be located, and the checkpoint not without it: {one_line(error)}."
        )
    metrics, unread_metrics = ([], []) if checkpoint is None else _metrics(lineage.checkpoint(run))
    analysed, analysis, unread = _analysis(run, read_positions)
    missing += [
        *unread_metrics,
        *_unfinished(run, "sample", corpus),
        *_unfinished(run, "train", checkpoint),
        *unread,
        *missing_scores(run, scores),
    ]
    if scores is not None and scores.intervals != INTERVALS:
        missing.append(
            "Intervals that cover: those of the scores are an earlier version's, too narrow for "
            "few problems and near 0 and 100%; ssd evaluate RUN_DIR makes them anew."
        )
    if command is None:
        missing.append(f"There is no {COMMAND}, so the exact command of this run is unknown.")
    return Facts(
        run=run,
        command=command,
        launched=command_file.stat().st_mtime if command_file.is_file() else None,
        scores=scores,
        corpus=corpus,
        checkpoint=checkpoint,
        control=control,
        answers=_answers(run, scores),
        analysed=analysed,
        analysis=analysis,
        rounds=collect_rounds(run, read_positions=read_positions),
        metrics=metrics,
        stale=tuple(stale_scores(run, scores)),
        missing=tuple(missing),
    )


def made_artifacts(facts: Facts) -> list[Artifact]:
    """Every artifact behind a run and its later rounds, finished or not, its analysis included."""
    artifacts = scored_artifacts(facts.run, facts.scores) + later_artifacts(facts)
    if facts.analysed is not None:
        artifacts.append(stored(facts.run.store, "analysis", facts.analysed.fingerprint))
    return artifacts


def later_artifacts(facts: Facts) -> list[Artifact]:
    """Those behind the scores of the rounds after the first, the first one's answers of the base
    model among them."""
    return [
        artifact
        for round_ in facts.rounds[1:]
        for artifact in scored_artifacts(of_round(facts.run, round_.number), round_.scores)
    ]


def run_costs(facts: Facts) -> list[Cost]:
    """Every finished artifact behind a run, with what it took."""
    return costs(made_artifacts(facts))


def missing_scores(run: Run, scores: Scores | None) -> list[str]:
    """The parts of the configured evaluation that have no scores, one sentence each."""
    if "evaluate" not in run.config.stages and scores is None:
        return [
            "There are no scores: this run has no evaluate stage "
            f"(stages=[{', '.join(run.config.stages)}])."
        ]
    if scores is None:
        return [f"There is no {SCORES}: the evaluation has not finished. Run ssd evaluate RUN_DIR."]
    scored = {benchmark.name: benchmark for benchmark in scores.benchmarks}
    settings = run.config.eval
    absent = [name for name in (*settings.benchmarks, *settings.regression) if name not in scored]
    untuned = [name for name, benchmark in scored.items() if "tuned" not in benchmark.models]
    sentences = [f"{name} has not been scored." for name in absent]
    return sentences + [f"On {name} only the base model was evaluated." for name in untuned]


def stale_scores(run: Run, scores: Scores | None) -> list[str]:
    """Scores that do not belong to config.yaml, as after an edit or a rerun that has not reached
    its evaluation, one sentence each."""
    if scores is None:
        return []
    try:
        current = evidence.score_inputs(run)
    except (SSDError, OSError):
        return []  # the corpus cannot be located, which `collect` reports; nothing shows a mismatch
    answers: dict[str, str] = current["verdicts"]
    stored: dict[str, str] = scores.inputs["verdicts"]
    sentences = [
        f"The {model} scores on {benchmark} belong to other settings than config.yaml's: "
        "evaluate again."
        for model, benchmark in (place.split("/", 1) for place in stored)
        if answers.get(f"{model}/{benchmark}") != stored[f"{model}/{benchmark}"]
    ]
    changed = [name for name in current if current[name] != scores.inputs.get(name)]
    if changed and not sentences:
        names = ", ".join("answers" if name == "verdicts" else f"eval.{name}" for name in changed)
        return [
            f"The scores belong to other settings than config.yaml's ({names}): evaluate again."
        ]
    return sentences


def _metrics(checkpoint: Artifact) -> tuple[list[dict[str, Any]], list[str]]:
    """The metrics of a training so far, or the reason why they cannot be read."""
    try:
        if checkpoint.done:
            checkpoint.intact(METRICS)
        return read_metrics(checkpoint.folder), []
    except ArtifactError as error:
        return [], [f"The metrics of the training are left out: {one_line(error)}."]


def _result(label: str, artifact: Artifact) -> StageResult:
    manifest = artifact.manifest() if artifact.done else None
    return StageResult(label=label, fingerprint=artifact.fingerprint, manifest=manifest)


def _unfinished(run: Run, stage: str, result: StageResult | None) -> list[str]:
    if result is None or result.manifest is not None or stage not in run.config.stages:
        return []
    return [f"The {result.label.lower()} is unfinished: run ssd {stage} RUN_DIR."]


def _analysis(
    run: Run, read_positions: bool
) -> tuple[StageResult | None, Analysis | None, list[str]]:
    """The analysis artifact, its contents, and the reasons why it cannot be read."""
    has_stage = "analyse" in run.config.stages
    try:
        artifact = evidence.analysis(run, evidence.reported_steps(run))
    except (SSDError, OSError) as error:
        absent = [f"The analysis cannot be located: {one_line(error)}."] if has_stage else []
        return None, None, absent
    if not artifact.done:
        result = StageResult(label="Analysis", fingerprint=artifact.fingerprint, manifest=None)
        return (result if has_stage else None), None, _unfinished(run, "analyse", result)
    try:
        analysis = read_analysis(artifact.intact()) if read_positions else None
        return _result("Analysis", artifact), analysis, []
    except UNREADABLE as error:
        damaged = (
            f"The analysis {artifact.folder} is damaged ({one_line(error)}): "
            "delete it and run ssd analyse RUN_DIR."
        )
        return None, None, [damaged]


def _control(run: Run) -> tuple[StageResult, ...]:
    unit = lineage.trainings(run).get(UNIT)
    if unit is None:
        return ()
    return (
        _result(f"Corpus, {UNIT}", lineage.corpus(unit)),
        _result(f"Checkpoint, {UNIT}", lineage.checkpoint(unit)),
    )


def _answers(run: Run, scores: Scores | None) -> tuple[StageResult, ...]:
    if scores is None:
        return ()
    return tuple(
        _result(
            f"{kind.capitalize()}, {benchmark.name}, {arm}", stored(run.store, kind, fingerprint)
        )
        for benchmark in scores.benchmarks
        for arm, model in benchmark.models.items()
        for kind, fingerprint in (("generations", model.generations), ("verdicts", model.verdicts))
    )
