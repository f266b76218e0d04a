"""Whether a run on a CPU certainly fits, and what it takes, answered without torch.

The plan proper builds the model on PyTorch's meta device, in a process that imports for some eight
seconds: as long as all of a small run that is up to date but for one stage. Of common architectures
the sizes follow from the configuration's fields alone; the tests hold them to those counted. If the
fields are not enough, or the run might not fit, the plan proper decides.
"""

import dataclasses
from pathlib import Path
from typing import Any

from ssd.config.choices import Attention
from ssd.config.settings import AdapterConfig, RunConfig
from ssd.errors import ModelError
from ssd.plan.architecture import Architecture, find_fields
from ssd.plan.choice import TIGHT, memory_of
from ssd.plan.engine import engine_bytes
from ssd.plan.hours import Hours, num_trainings, planned_run, run_hours
from ssd.plan.misfits import disk_needed, engine_room
from ssd.plan.work import disk_bytes, estimate
from ssd.plan.workload import find_workload
from ssd.runtime.devices import device_memory

FAMILIES = ("llama", "qwen2", "qwen3")


def surely_fits(config: RunConfig, capacity: float, free: float, num_trainings: int) -> bool:
    """Whether training, engine and disk of `config`, on a CPU, fit even under full fine-tuning.

    Args:
        capacity: bytes of one training process's memory.
        free: bytes of disk below `output_dir`.
    """
    model = _outlined(config)
    if model is None:
        return False
    full = _fully_tuned(config)
    return (
        memory_of(model, full, config.train.seq_len).needed <= TIGHT * capacity
        and engine_bytes(model, full) <= engine_room(model, full, capacity)
        and disk_needed(model, full, num_trainings) <= free
    )


def outlined_needs(config: RunConfig, folder: Path) -> tuple[Hours, float] | None:
    """Hours, and bytes of disk, of `config`'s run on a CPU under full fine-tuning; None where the
    plan proper has to count the model.

    Args:
        folder: the run's, whose corpus may be known.
    """
    model = _outlined(config)
    if model is None:
        return None
    full = _fully_tuned(config)
    run, workload = planned_run(full, folder), find_workload(full, folder)
    work = estimate(model, full, workload)
    capacity, _ = device_memory(full.hardware, full.plan.device_memory_gib)
    hours = run_hours(model, run, workload, work, capacity)
    return hours, sum(disk_bytes(model, full, num_trainings(run)).values())


def _outlined(config: RunConfig) -> Architecture | None:
    if config.hardware.attention not in (Attention.auto, Attention.varlen):
        return None
    try:
        return outline(*find_fields(config.model))
    except ModelError:  # the plan says so, with the remedy
        return None


def _fully_tuned(config: RunConfig) -> RunConfig:
    """Without an adapter, whose parameters an outline does not count."""
    return dataclasses.replace(config, adapter=AdapterConfig())


def outline(fields: dict[str, Any], source: str) -> Architecture | None:
    """The sizes of a dense model of the Llama family; None of others."""
    if fields.get("model_type") not in FAMILIES:
        return None
    hidden, heads = fields["hidden_size"], fields["num_attention_heads"]
    head = fields.get("head_dim") or hidden // heads
    query, key = heads * head, (fields.get("num_key_value_heads") or heads) * head
    linear = 2 * hidden * (query + key) + 3 * hidden * fields["intermediate_size"]
    normed = fields["model_type"] == "qwen3"
    biased = fields["model_type"] == "qwen2" or fields.get("attention_bias", False)
    biases = (query + 2 * key) * biased
    layer = linear + biases + 2 * hidden + 2 * head * normed
    layers = fields["num_hidden_layers"]
    matrix = fields["vocab_size"] * hidden
    tied = fields.get("tie_word_embeddings", False)
    root = matrix * (1 if tied else 2) + hidden
    return Architecture(
        source=source,
        num_parameters=layers * layer + root,
        num_trainable=layers * layer + root,
        num_active=layers * layer + root,
        num_experts=0,
        num_active_experts=0,
        num_cast=layers * linear + matrix,
        num_linear=layers * linear,
        num_adapter=0,
        num_expert_adapter=0,
        num_layers=layers,
        layer_parameters=layer,
        root_parameters=root,
        vocab_size=fields["vocab_size"],
        hidden_size=hidden,
        query_size=query,
        key_size=key,
        num_heads=heads,
        norms_queries=normed,
        mlp_size=fields["intermediate_size"],
        experts_per_token=0,
        windows=(None,) * layers,
        cached=(key,) * layers,
        delta_net=None,
        max_length=fields.get("max_position_embeddings"),
        attention="ssd_varlen",
    )
