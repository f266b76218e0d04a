"""The artifacts that answer a run's question (answers, verdicts, the analysis), found by their
dependencies; and the dependencies of its scores."""

from pathlib import Path
from typing import Any

from ssd.arms import BASE
from ssd.artifacts.fingerprints import plain
from ssd.artifacts.names import SELECTION
from ssd.artifacts.store import Artifact, artifact, existing
from ssd.config.settings import TruncationConfig
from ssd.errors import ArtifactError
from ssd.method.decoding import Setting
from ssd.problems.benchmarks.registry import asked_by, benchmark_identity, find_entry
from ssd.problems.extraction import CHANNELS, THINK
from ssd.records.selection import Choice, read_choice
from ssd.run import lineage, protocol
from ssd.run.folder import Run
from ssd.run.protocol import ALL


def generations(
    run: Run, model: str, benchmark: str, how: Setting | None = None, part: str = ALL
) -> Artifact:
    """Answers of a model to a part of a benchmark; under its first candidate setting where
    `how` is None."""
    settings = run.config.eval
    how = how or protocol.candidates(run, model)[0]
    return artifact(
        run.store,
        "generations",
        {
            "model": lineage.identity(run, model, how.checkpoint_step),
            "tokenizer": run.weights.tokenizer,
            "model_kind": run.config.model.kind,
            **lineage.template_inputs(run.config.eval_model),
            "dtype": run.config.model.dtype,
            "benchmark": benchmark_identity(benchmark, settings.files),
            "limit": settings.limit,
            "part": None if part == ALL else {"name": part, "share": settings.validation_share},
            "prompt_format": asked_by(settings, benchmark)[1],
            "temp": how.temp,
            "truncation": {"top_k": how.top_k, "top_p": how.top_p},
            "num_samples": protocol.num_samples(run, benchmark, part),
            "max_new_tokens": settings.max_new_tokens,
            "max_model_len": settings.max_model_len,
            "engine": lineage.engine(run, model),
            "seed": run.config.seed,
        },
    )


def verdicts(
    run: Run, model: str, benchmark: str, how: Setting | None = None, part: str = ALL
) -> Artifact:
    """The verdicts on these answers."""
    settings, marks = run.config.eval, run.config.model.reasoning
    form = find_entry(benchmark).form(settings.grading)
    return artifact(
        run.store,
        "verdicts",
        {
            "generations": generations(run, model, benchmark, how, part).fingerprint,
            "extraction": form.rule_name(settings.extraction),
            "grading": settings.grading,
            "sandbox": settings.sandbox,
            "timeout": settings.timeout,
            "memory_mib": settings.memory_mib,
            # Left out if earlier versions knew them, whose verdicts keep their fingerprint.
            **({} if marks in (None, THINK, CHANNELS) else {"reasoning": marks}),
        },
    )


def probe(run: Run) -> Artifact:
    """The completions that the analysis reads token by token: named by `analyse.probe`, or the
    base model's answers to the first benchmark, or the corpus where there are none.

    Raises:
        ArtifactError: `analyse.probe` names no finished corpus or generations.
    """
    folder = run.config.analyse.probe
    if folder is not None:
        return existing(Path(folder), ("corpus", "generations"), "analyse.probe")
    benchmark, part = protocol.reported_on(run)[0]
    answers = generations(run, BASE, benchmark, part=part)
    return answers if answers.done else lineage.corpus(run)


def analysis(run: Run, steps: dict[str, int | None]) -> Artifact:
    """The analysis of the token distributions of the models in `steps`, which gives the training
    step of each. The loss is against the distribution that training fits, the corpus's own unless
    the objective names another; without one (temperature None) the loss has no parts."""
    config, fitted = run.config, lineage.target(run)
    settings = config.analyse
    return artifact(
        run.store,
        "analysis",
        {
            "probe": probe(run).fingerprint,
            "num_samples": settings.num_samples,
            "max_tokens": settings.max_tokens,
            "dtype": settings.dtype,
            "models": {model: lineage.identity(run, model, step) for model, step in steps.items()},
            "temp": None if fitted is None else fitted.temp,
            "truncation": TruncationConfig()
            if fitted is None
            else TruncationConfig(top_k=fitted.top_k, top_p=fitted.top_p),
            "eval_truncation": config.eval.truncation,
        },
    )


def finished_analysis(run: Run) -> Artifact | None:
    """The analysis of the reported models if it is finished; None also while the reported settings
    have not been chosen."""
    chooses = any(len(_tried_steps(run, model)) > 1 for model in protocol.models(run))
    if chooses and _choice(run) is None:
        return None
    reported = analysis(run, reported_steps(run))
    return reported if reported.done else None


def score_inputs(run: Run) -> dict[str, Any]:
    """The dependencies of scores.json, besides those of its answers and verdicts."""
    settings = run.config.eval
    first = {
        f"{model}/{name}": verdicts(run, model, name).fingerprint
        for model in protocol.models(run)
        for name, _ in protocol.reported_on(run)
    }
    names = ("benchmarks", "regression", "temps", "truncations", "checkpoint_steps", "controls")
    also = ("selection", "validation", "validation_share", "k", "bootstrap", "resample")
    return {
        "verdicts": first,
        **{name: plain(getattr(settings, name)) for name in (*names, *also)},
    }


def chosen_settings(run: Run) -> dict[str, Setting]:
    """The reported setting of each model: its only one, or the chosen one.

    Raises:
        ArtifactError: there is a choice and it has not been made for this configuration.
    """
    if not protocol.selects(run):
        return {model: protocol.candidates(run, model)[0] for model in protocol.models(run)}
    choice = _choice(run)
    if choice is None:
        raise ArtifactError(
            f"{run.folder / SELECTION} does not hold this configuration's choice: "
            f"run ssd evaluate {run.folder}, which makes it"
        )
    return choice.chosen


def reported_steps(run: Run) -> dict[str, int | None]:
    """The existing models, each with its reported training step: that of all its candidate
    settings, or of the chosen one. None stands for the final model, and for the base model.

    Raises:
        ArtifactError: there is a choice of steps and it has not been made.
    """
    steps: dict[str, int | None] = {}
    for model in protocol.models(run):
        if model != BASE and not lineage.checkpoint(lineage.trainings(run)[model]).done:
            continue
        candidate_steps = _tried_steps(run, model)
        if len(candidate_steps) > 1:
            candidate_steps = {chosen_settings(run)[model].checkpoint_step}
        (steps[model],) = candidate_steps
    return steps


def _choice(run: Run) -> Choice | None:
    choice = read_choice(run.folder)
    return choice if choice is not None and choice.inputs == score_inputs(run) else None


def _tried_steps(run: Run, model: str) -> set[int | None]:
    return {how.checkpoint_step for how in protocol.candidates(run, model)}
