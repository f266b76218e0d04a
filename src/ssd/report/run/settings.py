"""The settings that make the method, and below them the whole configuration."""

from omegaconf import OmegaConf

from ssd.artifacts.fingerprints import plain
from ssd.config.choices import AdapterType, ObjectiveType, Schedule, TrainFrom
from ssd.config.settings import ObjectiveConfig, RoundsConfig, RunConfig, TrainConfig
from ssd.method.decoding import Decoding, Setting
from ssd.report.render import formats
from ssd.report.render.document import Code, Section, Table
from ssd.report.run.facts import Facts
from ssd.run import lineage

TRAINED = {
    AdapterType.none: "all parameters",
    AdapterType.lora: "low-rank adapters, rank {rank}, alpha {alpha}",
    AdapterType.qlora: "low-rank adapters on 4-bit weights, rank {rank}, alpha {alpha}",
}


def settings(facts: Facts) -> list[Section]:
    """A row per setting that a reader asks for."""
    config = facts.run.config
    weights = f"{facts.run.weights.source} ({facts.run.weights.identity})"
    kind = f"{config.model.kind.value}, {config.model.dtype.value}"
    rows = [
        ["Recipe", config.recipe],
        [
            "Model",
            f"{formats.model(config.model)} ({kind})",
        ],
        ["Weights", weights],
        *_template_rows(config),
        *_sampling_rows(config),
        *_training_rows(config),
        *([["Round", round_words(config.rounds)]] if config.rounds.count > 1 else []),
        *_decoding_rows(config),
        ["Seed", str(config.seed)],
    ]
    whole = OmegaConf.to_yaml(OmegaConf.create(plain(config)))
    caption = "Settings of this run"
    return [
        Section(
            "Settings",
            [
                Table(caption=caption, columns=["Setting", "Value"], sides="ll", rows=rows),
                Code(caption="The whole configuration", text=whole, folded=True),
            ],
        )
    ]


def round_words(rounds: RoundsConfig) -> str:
    """`2 of 3: samples of the model of round 1, training from the base model`."""
    earlier = f"the model of round {rounds.number - 1}"
    drawn = "the base model" if rounds.number == 1 else earlier
    start = "the base model" if rounds.train_from is TrainFrom.base else drawn
    on = " on the samples of all rounds so far" if rounds.accumulate and rounds.number > 1 else ""
    return f"{rounds.number} of {rounds.count}: samples of {drawn}, training from {start}{on}"


def _template_rows(config: RunConfig) -> list[list[str]]:
    arguments = [("Chat template", config.model.template_args)]
    if config.eval_model != config.model:
        arguments.append(("Chat template, benchmarks", config.eval_model.template_args))
    return [
        [label, ", ".join(f"{name}={value}" for name, value in values.items()) or "no arguments"]
        for label, values in arguments
        if config.model.template_args or config.eval.template_args
    ]


def _sampling_rows(config: RunConfig) -> list[list[str]]:
    data, sampler = config.data, config.sampler
    power = sampler.power if sampler.power.is_on else None
    prompts = f"{data.name}, split {data.split}, " + (
        "all" if data.limit is None else f"at most {data.limit:,}"
    )
    drawn = (
        f"{formats.sampling(Decoding.of(sampler.temp, config.truncation), power)}, "
        f"{sampler.num_samples} per prompt, at most {sampler.max_new_tokens:,} tokens"
    )
    corpus = config.train.corpus
    if corpus is not None:
        return [["Corpus", f"an existing one, {corpus}; it was not sampled by this run"]]
    return [
        ["Prompts", prompts],
        ["Prompt format", config.prompt_format.name],
        ["Sampling", drawn],
        ["Filters", ", ".join(sampler.filters) or "none"],
    ]


def objective_words(objective: ObjectiveConfig) -> str:
    """An objective with the settings that are not its usual ones, but for its norm."""
    settings = [
        f"{name} {value}"
        for name, value in lineage.objective_inputs(objective).items()
        if name not in ("norm", "type", "truncation")
    ]
    if objective.truncation is not None:
        settings.append(f"truncation {formats.truncation(objective.truncation)}")
    return objective.type.value + (f" ({'; '.join(settings)})" if settings else "")


def _training_rows(config: RunConfig) -> list[list[str]]:
    train, optimizer, adapter = config.train, config.optimizer, config.adapter
    trained = TRAINED[adapter.type].format(rank=adapter.rank, alpha=adapter.alpha)
    usual = config.objective.type is ObjectiveType.cross_entropy
    loss = "" if usual else f" {objective_words(config.objective)}"
    batches = (
        f"{train.max_steps:,} steps of {train.global_batch_size:,} samples, "
        f"at most {train.seq_len:,} tokens each; "
        f"loss{loss} averaged per {config.objective.norm.value}; "
        f"{train.precision.value}"
    )
    schedule = (
        f"{optimizer._target_}, learning rate {optimizer.lr:g}{_after_warmup(train)}, "
        f"weight decay {optimizer.weight_decay:g}"
    )
    return [["Trained", trained], ["Batches", batches], ["Optimizer", schedule]]


def _after_warmup(train: TrainConfig) -> str:
    after, lowest = f"after {train.warmup_steps:,} warm-up steps", f"to {train.min_lr:g}"
    return {
        Schedule.cosine: f" {lowest} by cosine {after}",
        Schedule.linear: f" {lowest} in a straight line {after}",
        Schedule.constant: f" {after}, constant",
        Schedule.wsd: f" {after}, {lowest} in the last {train.num_decay_steps:,} steps",
    }[train.schedule]


def _decoding_rows(config: RunConfig) -> list[list[str]]:
    settings = config.eval
    tuned = Setting.of(settings.temp, settings.truncation)
    choice = {
        "T": [f"{temp:g}" for temp in settings.temps],
        "truncation": [formats.truncation(rule) for rule in settings.truncations],
        "step": [f"{step:,}" for step in settings.checkpoint_steps],
    }
    chosen = "; ".join(
        f"{name} of {', '.join(values)}" for name, values in choice.items() if values
    )
    base = Setting.of(settings.base_temp, settings.base_truncation)
    return [
        ["Decoding, tuned", f"chosen: {chosen}" if chosen else formats.decoding(tuned)],
        ["Decoding, base", formats.decoding(base)],
    ]
