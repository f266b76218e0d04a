"""The report of one run by sections: settings and provenance here, results in their own modules."""

import shlex

from omegaconf import OmegaConf

from ssd.artifacts import plain
from ssd.config import AdapterType, RunConfig
from ssd.method.decoding import Setting
from ssd.report.render import formats
from ssd.report.render.document import Block, Code, Document, Paragraph, Section, Table
from ssd.report.run.analysis import why
from ssd.report.run.arms import scores
from ssd.report.run.breakdown import controls, groups, regression, selection
from ssd.report.run.cost import cost
from ssd.report.run.facts import Facts, StageResult
from ssd.report.run.stages import sampling, training
from ssd.report.run.summary import summary


def document(facts: Facts) -> Document:
    """Everything about one run: the answer, the scores it rests on, why, and how it was made."""
    config = facts.run.config
    return Document(
        title=config.run_name,
        subtitle=f"Simple self-distillation of {config.model.name}: "
        f"T_train {config.sampler.temp:g}, truncation {formats.truncation(config.truncation)}, "
        f"T_eval {formats.tuned_temp(facts.main, config.eval.temp)}.",
        sections=[
            summary(facts),
            *scores(facts),
            *controls(facts),
            *selection(facts),
            *groups(facts),
            *regression(facts),
            *why(facts),
            settings(facts),
            *sampling(facts),
            *training(facts),
            *cost(facts),
            provenance(facts),
        ],
    )


def settings(facts: Facts) -> Section:
    """The settings that make the method; the whole configuration is folded below them."""
    config = facts.run.config
    weights = f"{facts.run.weights.source} ({facts.run.weights.identity})"
    rows = [
        ["Recipe", config.recipe],
        ["Model", f"{config.model.name} ({config.model.kind.value}, {config.model.dtype.value})"],
        ["Weights", weights],
        *_sampling_rows(config),
        *_training_rows(config),
        *_decoding_rows(config),
        ["Seed", str(config.seed)],
    ]
    whole = OmegaConf.to_yaml(OmegaConf.create(plain(config)))
    return Section(
        "Settings",
        [
            Table(
                caption="Settings of this run", columns=["Setting", "Value"], align="ll", rows=rows
            ),
            Code(caption="The whole configuration", text=whole, folded=True),
        ],
    )


def provenance(facts: Facts) -> Section:
    """What the numbers were made from, with which libraries, and how to make them again."""
    blocks: list[Block] = []
    if facts.command is not None:
        blocks.append(
            Code(
                caption="The exact command that reproduces this run", text=shlex.join(facts.command)
            )
        )
    if facts.results:
        blocks += [_artifact_table(facts.results), *_library_tables(facts.results)]
    return Section("Provenance", blocks or [Paragraph("Nothing is recorded yet.")])


def _sampling_rows(config: RunConfig) -> list[list[str]]:
    data, sampler = config.data, config.sampler
    prompts = f"{data.name}, split {data.split}, " + (
        "all" if data.limit is None else f"at most {data.limit:,}"
    )
    drawn = (
        f"T_train {sampler.temp:g}, truncation {formats.truncation(config.truncation)}, "
        f"{sampler.num_samples} per prompt, at most {sampler.max_new_tokens:,} tokens"
    )
    rows = [
        ["Prompts", prompts],
        ["Prompt format", config.prompt_format.name],
        ["Sampling", drawn],
        ["Filters", ", ".join(sampler.filters) or "none"],
    ]
    given = config.train.corpus
    return (
        rows
        if given is None
        else [["Corpus", f"an existing one, {given}; it was not sampled by this run"]]
    )


def _training_rows(config: RunConfig) -> list[list[str]]:
    train, optimizer, adapter = config.train, config.optimizer, config.adapter
    lora = f"low-rank adapters, rank {adapter.rank}, alpha {adapter.alpha}"
    batches = (
        f"{train.max_steps:,} steps of {train.global_batch_size:,} samples, "
        f"at most {train.seq_len:,} tokens each; "
        f"loss averaged per {config.objective.norm.value}; {train.precision.value}"
    )
    schedule = (
        f"{optimizer._target_}, learning rate {optimizer.lr:g} to {train.min_lr:g} by cosine "
        f"after {train.warmup_steps:,} warm-up steps, weight decay {optimizer.weight_decay:g}"
    )
    return [
        ["Trained", lora if adapter.type is AdapterType.lora else "all parameters"],
        ["Batches", batches],
        ["Optimizer", schedule],
    ]


def _decoding_rows(config: RunConfig) -> list[list[str]]:
    settings = config.eval
    tuned = Setting.of(settings.temp, settings.truncation)
    choice = {
        "T": [f"{temp:g}" for temp in settings.temps],
        "truncation": [formats.truncation(one) for one in settings.truncations],
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


def _artifact_table(results: list[StageResult]) -> Table:
    return Table(
        caption="Artifacts, each by the fingerprint of all it depends on",
        columns=["Artifact", "Fingerprint", "Finished"],
        align="lll",
        rows=[
            [
                result.label,
                result.fingerprint,
                result.manifest["finished"] if result.manifest is not None else "unfinished",
            ]
            for result in results
        ],
    )


def _library_tables(results: list[StageResult]) -> list[Table]:
    found: dict[str, list[str]] = {}
    for result in results:
        for library, version in (result.manifest or {}).get("libraries", {}).items():
            found.setdefault(library, []).append(version)
    rows = [[library, ", ".join(sorted(set(versions)))] for library, versions in found.items()]
    caption = "Library versions, several where artifacts were made with different ones"
    return (
        [Table(caption=caption, columns=["Library", "Version"], align="ll", rows=rows)]
        if rows
        else []
    )
