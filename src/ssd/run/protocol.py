"""The comparisons of a run: which models, under which settings, on which problems."""

import dataclasses

from ssd.arms import BASE, SWEPT, TUNED, UNIT
from ssd.config.choices import HASH_SPLIT, SelectionMode
from ssd.config.settings import RunConfig
from ssd.method.decoding import Setting
from ssd.run import lineage
from ssd.run.folder import Run

MODELS = (BASE, UNIT, TUNED)
"""The frozen model, the control trained on its samples of temperature 1, and the tuned model."""
ALL, VALIDATION, TEST = "all", "validation", "test"
"""Parts of a benchmark: the whole; the problems held out to choose on; the rest."""


def without_training(config: RunConfig) -> RunConfig:
    """The configuration without the stages that nothing asks for where the base model alone is
    evaluated: training, its corpus, and the analysis of what it changed."""
    if TUNED in config.eval.arms or "evaluate" not in config.stages:
        return config
    idle = {"train", "analyse"} | ({"sample"} if "train" in config.stages else set())
    stages = [name for name in config.stages if name not in idle]
    return dataclasses.replace(config, stages=stages)


def models(run: Run) -> list[str]:
    """The models that this run evaluates; trained ones only if there is or will be a checkpoint."""
    if TUNED not in run.config.eval.arms:
        return [BASE]
    if "train" not in run.config.stages and not lineage.checkpoint(run).done:
        return [BASE]
    return [name for name in MODELS if name == BASE or name in lineage.trainings(run)]


def candidates(run: Run, model: str) -> list[Setting]:
    """The candidate settings of a model. The first wins ties, so the run's own come first."""
    settings = run.config.eval
    truncations = settings.truncations or [settings.truncation]
    temps = settings.temps or [settings.temp]
    final = run.config.train.max_steps
    typed: list[int | None] = [*settings.checkpoint_steps] or [settings.checkpoint_step]
    steps = [None if step == final else step for step in typed]
    own: list[Setting] = []
    if model == BASE:
        own, steps = [Setting.of(settings.base_temp, settings.base_truncation)], [None]
        if SWEPT not in settings.controls:
            return own
    grid = [
        Setting(temp, cut.top_k, cut.top_p, step)
        for step in steps
        for cut in truncations
        for temp in temps
    ]
    return list(dict.fromkeys([*own, *grid]))


def selects(run: Run) -> bool:
    """Whether there is anything to choose."""
    return any(len(candidates(run, model)) > 1 for model in models(run))


def chosen_on(run: Run) -> list[tuple[str, str]]:
    """The (benchmark, part) pairs whose problems choose."""
    settings = run.config.eval
    if settings.selection is SelectionMode.test:
        return [(name, ALL) for name in settings.benchmarks]
    if settings.validation != HASH_SPLIT:
        return [(settings.validation, ALL)]
    return [(name, VALIDATION) for name in settings.benchmarks]


def reported_on(run: Run) -> list[tuple[str, str]]:
    """The (benchmark, part) pairs whose scores are reported."""
    settings = run.config.eval
    held_out = (
        selects(run)
        and settings.selection is SelectionMode.heldout
        and settings.validation == HASH_SPLIT
    )
    part = TEST if held_out else ALL
    return [(name, part) for name in settings.benchmarks] + [
        (name, ALL) for name in settings.regression
    ]


def num_samples(run: Run, benchmark: str, part: str) -> int:
    """Answers per problem of a part of a benchmark."""
    settings = run.config.eval
    if (benchmark, part) in reported_on(run):
        return settings.num_samples
    return settings.num_validation_samples or settings.num_samples
