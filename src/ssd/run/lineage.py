"""The dependencies of a run's training. Everything that enters a fingerprint of corpus or
checkpoint stands here and nowhere else, so this module alone decides what can be reused. Hardware,
shard sizes and loggers enter none: they do not change what is computed.
"""

import dataclasses
from pathlib import Path
from typing import Any

from ssd.arms import BASE, TUNED, UNIT
from ssd.artifacts.fingerprints import fingerprint, hash_file, plain
from ssd.artifacts.names import ADAPTER, CHECKPOINTS, CORPUS, MODEL, SHARDS
from ssd.artifacts.store import Artifact, artifact, existing
from ssd.config.choices import (
    AdapterType,
    DataSource,
    EngineName,
    ObjectiveType,
    Schedule,
    SystemRole,
)
from ssd.config.run_name import between
from ssd.config.settings import (
    DataConfig,
    ModelConfig,
    ObjectiveConfig,
    PowerConfig,
    TrainConfig,
    TruncationConfig,
)
from ssd.errors import DataError
from ssd.method.decoding import Decoding
from ssd.problems.problem import prompt_file
from ssd.run.folder import Run
from ssd.run.rounds import accumulated, begun_from, drawn_by, of_round
from ssd.runtime.installation import local_engine

NOT_COMPUTED = (
    "corpus", "checkpoint_every", "keep_checkpoints", "keep_optimizer", "packing",
    "isolation_check",
)  # fmt: skip
"""Training settings that do not change the trained weights; the corpus enters by fingerprint."""


RESUMABLE = 2
"""Checkpoints that keep the optimizer's state while training goes on."""
TEMPLATE = ("model_kind", "reasoning_effort", "template_args", "system_role", "prompt_format")
"""Inputs of a corpus that decide a prompt's text."""


def corpus(run: Run) -> Artifact:
    """The self-samples: an existing corpus where `train.corpus` names one."""
    config = run.config
    if config.train.corpus is not None:
        return existing(Path(config.train.corpus), ("corpus",), "train.corpus")
    sampler, prompts = config.sampler, plain(config.data)
    if config.data.source is not DataSource.hub:
        prompts |= {"path": None, "sha256": hash_file(prompt_file(config.data))}
    return artifact(
        run.store,
        "corpus",
        {
            "weights": identity(*drawn_by(run)),
            "tokenizer": run.weights.tokenizer,
            "model_kind": config.model.kind,
            "prompts": prompts,
            **template_inputs(config.model),
            "dtype": config.model.dtype,
            "prompt_format": config.prompt_format,
            "temp": sampler.temp,
            "truncation": config.truncation,
            "num_samples": sampler.num_samples,
            "max_new_tokens": sampler.max_new_tokens,
            "max_model_len": sampler.max_model_len,
            "filters": sampler.filters,
            "engine": engine(*drawn_by(run)),
            "seed": config.seed,
            # Left out if null, so that corpora from before these settings keep their fingerprint.
            **({} if sampler.logprobs is None else {"logprobs": sampler.logprobs}),
            **({"power": sampler.power} if sampler.power.is_on else {}),
        },
    )


def template_inputs(model: ModelConfig) -> dict[str, object]:
    """What a chat template is rendered with. `reasoning_effort` stands by itself, and what is left
    at its default is left out, as in artifacts from before `template_args`."""
    arguments = dict(model.template_args)
    facts: dict[str, object] = {"reasoning_effort": arguments.pop("reasoning_effort", None)}
    if arguments:
        facts["template_args"] = arguments
    if model.system_role is not SystemRole.system:
        facts["system_role"] = model.system_role
    return facts


def checkpoint(run: Run) -> Artifact:
    """The tuned model."""
    config = run.config
    adapter = plain(config.adapter)
    if config.adapter.type is AdapterType.none:
        adapter = {"type": adapter["type"]}
    adapter.pop("merge", None)  # changes the export only
    drawn = corpus(run)
    fresh = begun_from(run)[1] == BASE
    return artifact(
        run.store,
        "checkpoint",
        {
            "corpus": drawn.fingerprint,
            # Otherwise the model that drew the corpus, which names it.
            "weights": run.weights.identity if fresh else drawn.inputs["weights"],
            "dtype": config.model.dtype,
            "optimizer": config.optimizer,
            "objective": objective_inputs(config.objective),
            "adapter": adapter,
            "train": train_inputs(config.train),
            "seed": config.seed,
            # Not their fingerprints: each corpus follows from the one of the round before.
            **({"accumulate": True} if len(accumulated(run)) > 1 else {}),
        },
    )


def corpora(run: Run) -> list[Artifact]:
    """Everything that a training reads: its corpus, or those of all rounds so far."""
    return [corpus(earlier) for earlier in accumulated(run)]


def train_inputs(train: TrainConfig) -> dict[str, object]:
    """What a checkpoint depends on; a cosine schedule is left out, as in checkpoints from before
    there were others."""
    inputs = {name: value for name, value in plain(train).items() if name not in NOT_COMPUTED}
    inputs.pop("decay_steps")
    if train.schedule is Schedule.cosine:
        inputs.pop("schedule")
    if train.schedule is Schedule.constant:
        inputs.pop("min_lr")
    if train.schedule is Schedule.wsd:
        inputs["decay_steps"] = train.num_decay_steps
    return inputs


def objective_inputs(objective: ObjectiveConfig) -> dict[str, object]:
    """What a checkpoint depends on. Settings at their default are left out, all but the oldest, so
    that checkpoints from before them keep their fingerprint."""
    usual = plain(ObjectiveConfig())
    return {
        name: value
        for name, value in plain(objective).items()
        if name == "norm" or value != usual[name]
    }


def target(run: Run) -> Decoding | None:
    """The decoding of the base model that the trained model is fitted to: how the run's corpus,
    which may be another run's, was drawn, unless `objective=soft` names another. None where the
    corpus is of a power distribution, which no decoding draws token by token."""
    config, inputs = run.config, corpus(run).inputs
    if "power" in inputs:
        return fitted(config.objective, None)
    cut = plain(inputs.get("truncation", config.truncation) or {})
    return fitted(config.objective, Decoding(inputs.get("temp", config.sampler.temp), **cut))


def fitted(objective: ObjectiveConfig, drawn: Decoding | None) -> Decoding | None:
    """The same for a corpus that was `drawn` so."""
    if objective.temp is not None and objective.truncation is not None:
        return Decoding.of(objective.temp, objective.truncation)
    if drawn is None:
        return None
    temp = drawn.temp if objective.temp is None else objective.temp
    if objective.truncation is None:
        return dataclasses.replace(drawn, temp=temp)
    return Decoding.of(temp, objective.truncation)


def objective(run: Run) -> ObjectiveConfig:
    """The run's objective; of `soft`, with the target that it takes from the corpus."""
    settings = run.config.objective
    if settings.type is not ObjectiveType.soft:
        return settings
    fitted = target(run)
    assert fitted is not None  # `require_target` has refused it
    cut = TruncationConfig(top_k=fitted.top_k, top_p=fitted.top_p)
    return dataclasses.replace(settings, temp=fitted.temp, truncation=cut)


def control(run: Run) -> Run:
    """The run of the control `t1`: samples of temperature 1 without truncation and their plain
    cross-entropy, else the same.

    Without the shift of temperature and the truncation the expected gradient is zero (paper,
    appendix B), so this model's gain is what any fine-tuning on own samples gives. With
    `objective=soft` not only the expected gradient would be zero, and nothing be trained.
    """
    first = of_round(run, 1)
    config = first.config
    changed = dataclasses.replace(
        config,
        sampler=dataclasses.replace(config.sampler, temp=1.0, power=PowerConfig()),
        truncation=TruncationConfig(),
        objective=ObjectiveConfig(norm=config.objective.norm),
        train=dataclasses.replace(config.train, corpus=None),
        eval=dataclasses.replace(config.eval, controls=[]),
        run_name=f"{config.run_name}{between(config.run_name)}{UNIT}",
    )
    unit = Run(folder=first.folder / UNIT, config=changed, weights=run.weights)
    return of_round(unit, run.config.rounds.number)


def trainings(run: Run) -> dict[str, Run]:
    """Every run whose training this evaluation needs, by the model it makes."""
    has_control = UNIT in run.config.eval.controls
    return {TUNED: run, **({UNIT: control(run)} if has_control else {})}


def sampled(run: Run) -> list[Run]:
    """Every run whose corpus one engine draws for this one: its own and, as long as the base model
    draws, the control's, where they are not given."""
    shares = drawn_by(run)[1] == BASE and "evaluate" in run.config.stages
    needed = trainings(run).values() if shares else [run]
    return [training for training in needed if training.config.train.corpus is None]


def identity(run: Run, model: str, step: int | None = None) -> str:
    """The identity of the weights that answer."""
    if model == BASE:
        return run.weights.identity
    unmerged = adapter_folder(run, model, step) is not None
    identity = checkpoint(trainings(run)[model]).fingerprint
    return identity + ("" if step is None else f"@{step}") + ("+adapter" if unmerged else "")


def engine(run: Run, model: str) -> EngineName:
    """The engine that draws a model's answers: a server holds the base model alone."""
    name = run.config.sampler.engine
    return name if model == BASE else local_engine(name)


def trained_folder(run: Run, model: str, step: int | None = None) -> Path:
    """Holds `model/`, `adapter/` or both, of a step of a training."""
    folder = checkpoint(trainings(run)[model]).folder
    return folder if step is None else step_folder(folder, step)


def model_folder(run: Run, model: str, step: int | None = None) -> Path:
    """The transformers checkpoint that generation loads."""
    if model == BASE or adapter_folder(run, model, step) is not None:
        return Path(run.weights.path)
    return trained_folder(run, model, step) / MODEL


def start_folder(run: Run) -> Path:
    """The checkpoint that the run's training begins with."""
    return model_folder(*begun_from(run))


def teacher_folder(run: Run) -> Path | None:
    """The checkpoint of the model that drew the run's samples, where training does not begin with
    it."""
    folder = model_folder(*drawn_by(run))
    return None if folder == start_folder(run) else folder


def adapter_folder(run: Run, model: str, step: int | None = None) -> Path | None:
    """The adapter that generation puts onto `model_folder`; None where it is merged."""
    adapter = run.config.adapter
    merged = adapter.type is AdapterType.none or adapter.merge
    return None if model == BASE or merged else trained_folder(run, model, step) / ADAPTER


def require_tokenizer(run: Run, samples: Artifact, setting: str) -> None:
    """Raise `DataError` unless stored completions are in the model's own tokens; print a note where
    a corpus is of another model or prompt. The message names `setting`."""
    config = run.config
    there, here = _origin(samples.inputs), _origin(_own_inputs(run))
    both = f"it has {_words(there)}; this run has {_words(here)}"
    if there["tokenizer"] != here["tokenizer"]:
        raise DataError(
            f"{setting}={samples.folder} was made with another tokenizer than "
            f"{config.model.name}'s ({both}): name one that this model made, or choose the model "
            "that made it"
        )
    if samples.kind == "corpus" and there != here:
        print(f"note: {setting}={samples.folder} is of another model or prompt: {both}", flush=True)


def _own_inputs(run: Run) -> dict[str, Any]:
    """The inputs of the corpus that a run would sample, without its prompts, which need not be
    there."""
    config = run.config
    nowhere = DataConfig(name="", source=DataSource.hub, hub_name="none")
    train = dataclasses.replace(config.train, corpus=None)
    samples = dataclasses.replace(config, data=nowhere, train=train)
    return corpus(dataclasses.replace(run, config=samples)).inputs


def _origin(inputs: dict[str, Any]) -> dict[str, Any]:
    """The model, the tokenizer and the template behind stored completions: the template as its
    prompt format's name and a hash of all that decides a prompt's text."""
    template = fingerprint({name: inputs.get(name) for name in TEMPLATE})
    name = (inputs.get("prompt_format") or {}).get("name")
    return {
        "model": inputs.get("weights") or inputs.get("model") or "unknown",
        "tokenizer": inputs.get("tokenizer"),
        "template": f"{name}-{template[:8]}",
    }


def _words(parts: dict[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in parts.items())


def require_unchanged(samples: Artifact, setting: str | None = None) -> None:
    """Refuse stored completions that are not as they were written.

    Args:
        setting: names the folder; None where the run's own store holds it.

    Raises:
        ArtifactError: a file is missing or has changed; says how to get it back.
    """
    samples.intact(CORPUS if samples.kind == "corpus" else f"{SHARDS}/", setting=setting)


def require_model(run: Run, model: str, step: int | None = None) -> None:
    """Refuse a trained model that is not as it was exported. The base model's files are no
    artifact: a hash of a local folder, or a commit of the hub, is its identity.

    Raises:
        ArtifactError: a file is missing or has changed.
    """
    if model != BASE:
        checkpoint_ = checkpoint(trainings(run)[model])
        folder = adapter_folder(run, model, step) or model_folder(run, model, step)
        checkpoint_.intact(f"{folder.relative_to(checkpoint_.folder)}/")


def step_folder(checkpoint: Path, step: int) -> Path:
    """The folder of a training's checkpoint after `step` optimizer steps."""
    return checkpoint / CHECKPOINTS / f"step-{step:06d}"


def step_folders(checkpoint: Path) -> dict[int, Path]:
    """Every whole checkpoint of a training, by step."""
    folders = sorted((checkpoint / CHECKPOINTS).glob("step-*"))
    return {int(path.name.removeprefix("step-")): path for path in folders}
