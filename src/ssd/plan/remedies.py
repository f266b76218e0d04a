"""What to change in a run that does not fit: every change is planned, alone and in combination."""

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from ssd.config.choices import (
    Accelerator,
    AdapterType,
    Dtype,
    EngineName,
    LongSamples,
    Recompute,
    Strategy,
)
from ssd.config.settings import SHARDED_8BIT, HardwareConfig, RunConfig
from ssd.errors import ConfigError
from ssd.plan.architecture import Architecture
from ssd.plan.choice import LESS_AND_LESS
from ssd.plan.engine import longest_context, sequence_bytes
from ssd.plan.workload import Workload
from ssd.runtime.devices import GIB, gib
from ssd.runtime.installation import local_engine

SHORTEST = 1024
"""Tokens of a row, a sample or an answer; shorter ones are never offered."""
TOGETHER = 3
"""Most changes that are combined, if fewer are not enough."""
OFFERED = 5
LONGER = {
    LongSamples.error: "a longer sample stops the run",
    LongSamples.skip: "longer samples are left out",
    LongSamples.truncate: "longer samples are cut off",
}


@dataclass(frozen=True, slots=True)
class Change:
    """One change of a configuration."""

    text: str
    """As it is typed."""
    settings: tuple[tuple[str, Any], ...]
    """Dotted names and values."""
    cost: str
    """The price of the change, in a few words."""


Family = list[Change]
"""Changes of one kind, the mildest first, of which one is enough."""
EIGHT_BIT = Change(
    "optimizer=adamw8bit",
    (("optimizer._target_", "bitsandbytes.optim.AdamW8bit"),),
    "moments in 8 bits",
)
SHARDED_EIGHT_BIT = Change(
    "optimizer=adamw8bit_sharded", (("optimizer._target_", SHARDED_8BIT),), "moments in 8 bits"
)


@dataclass(frozen=True, slots=True)
class Remedy:
    """Changes that together make a run fit."""

    changes: tuple[Change, ...]
    needed: float
    """Bytes that it then takes."""

    def __str__(self) -> str:
        typed = " ".join(change.text for change in self.changes)
        costs = ", ".join(change.cost for change in self.changes)
        return f"{typed} ({gib(self.needed)}; {costs})"


def find_remedies(
    config: RunConfig,
    families: list[Family],
    needed: Callable[[RunConfig], float],
    room: Callable[[RunConfig], float],
) -> list[Remedy]:
    """Changes from `families` under which `needed` bytes are no more than the `room` for them, in
    the order to try: `families` are in that order, and a combination counts as its last member.

    Of each set of families only the mildest changes are offered, and none that holds another offer
    whole.
    """
    fitting: list[tuple[int, Remedy]] = []
    for size in range(1, TOGETHER + 1):
        if size == TOGETHER and fitting:
            break
        for positions in itertools.combinations(range(len(families)), size):
            for changes in itertools.product(*(families[position] for position in positions)):
                if any(set(remedy.changes) <= set(changes) for _, remedy in fitting):
                    break  # what follows only goes further
                try:
                    candidate = changed(config, changes)
                except ConfigError:  # the settings do not go together
                    continue
                if (num_bytes := needed(candidate)) <= room(candidate):
                    fitting.append((positions[-1], Remedy(changes, num_bytes)))
                    break
    fitting.sort(key=lambda pair: (pair[0], len(pair[1].changes)))
    return [remedy for _, remedy in fitting][:OFFERED]


def changed(config: RunConfig, changes: tuple[Change, ...]) -> RunConfig:
    """`config` with other settings.

    Raises:
        ConfigError: they do not go together.
    """
    sections: dict[str, dict[str, Any]] = {}
    for change in changes:
        for setting, value in change.settings:
            section, _, name = setting.partition(".")
            sections.setdefault(section, {})[name] = value
    parts = {name: replace(getattr(config, name), **new) for name, new in sections.items()}
    return replace(config, **parts)


def training_families(config: RunConfig, workload: Workload, *, desperate: bool) -> list[Family]:
    """Changes that save training memory: first those that change no result, then those that do,
    last more hardware. With `desperate`, also limits that most samples exceed."""
    hardware, on_gpu = config.hardware, config.hardware.accelerator is Accelerator.gpu
    longest, tokens = workload.longest_tokens, hardware.micro_batch_tokens or config.train.seq_len
    copies = hardware.num_processes > 1 and not hardware.shards
    rows = _change("hardware.micro_batch_tokens", longest, "more and smaller passes")
    shards = _change("hardware.strategy", Strategy.fsdp, "communication in every layer")
    inputs = _change("hardware.offload_activations", True, "time: over the bus and back")
    offload = _change("hardware.cpu_offload", True, "much time: the optimizer steps on the CPU")
    nodes = [hardware.num_nodes << doubled for doubled in range(1, 6)]
    machines = [_change("hardware.num_nodes", count, "more machines") for count in nodes]
    return [
        _recomputing(hardware),
        [rows] * (longest < tokens),
        [shards] * copies,
        [inputs] * (on_gpu and not hardware.offload_activations),
        _eight_bit(config) * on_gpu,
        _shorter_samples(config, workload, most=False),
        _adapters(config),
        [offload] * (on_gpu and not hardware.cpu_offload),
        [*_gpus(("hardware.devices",), "more GPUs", hardware.devices or 1), *machines] * on_gpu,
        *([_shorter_samples(config, workload, most=True)] if desperate else []),
    ]


def _eight_bit(config: RunConfig) -> Family:
    """Those of one process, and those that shard, where the first do not."""
    return [EIGHT_BIT, SHARDED_EIGHT_BIT] * (not config.optimizer.is_8bit)


def engine_families(model: Architecture, config: RunConfig) -> list[Family]:
    """Changes that let an engine start."""
    hardware = config.hardware
    if hardware.accelerator is not Accelerator.gpu:
        return [_cache_sizes(model, config), _shorter_answers(model, config)]
    devices, setting = hardware.devices or 1, "hardware.tensor_parallel_size"
    spread = hardware.engine_devices
    return [
        _gpus((setting,), "an engine over more of the GPUs", spread, devices),
        _shorter_answers(model, config),
        _gpus(("hardware.devices", setting), "more GPUs", devices),
    ]


def disk_families(config: RunConfig) -> list[Family]:
    """Changes that make a training's checkpoints smaller."""
    fewer = _change("train.keep_checkpoints", 1, "earlier steps cannot be evaluated")
    return [
        [fewer] * (config.train.keep_checkpoints != 1),
        _eight_bit(config),
        _adapters(config),
    ]


def analysis_families(config: RunConfig) -> list[Family]:
    """Changes that make the compared models smaller."""
    half = _change("analyse.dtype", Dtype.bfloat16, "small changes drown in rounding")
    return [[half]] if config.analyse.dtype is Dtype.float32 else []


def _change(setting: str, value: Any, cost: str) -> Change:
    return _changes({setting: value}, cost)


def _changes(settings: dict[str, Any], cost: str) -> Change:
    words = {n: "null" if value is None else str(value).lower() for n, value in settings.items()}
    text = " ".join(f"{name}={word}" for name, word in words.items())
    return Change(text, tuple(settings.items()), cost)


def _gpus(settings: tuple[str, ...], cost: str, above: int, most: int = 8) -> Family:
    """More GPUs than there are, in each of the settings."""
    counts = [count for count in (2, 4, 8) if above < count <= most]
    return [_changes(dict.fromkeys(settings, count), cost) for count in counts]


def _adapters(config: RunConfig) -> Family:
    kind, setting = config.adapter.type, "adapter.type"
    on_gpu = config.hardware.accelerator is Accelerator.gpu
    cost = "other numbers: adapters learn less"
    lora = Change("adapter=lora", ((setting, AdapterType.lora),), cost)
    qlora = Change("adapter=qlora", ((setting, AdapterType.qlora),), f"{cost}, on 4-bit weights")
    lora_helps = kind is AdapterType.none
    return [lora] * lora_helps + [qlora] * (on_gpu and kind is not AdapterType.qlora)


def _recomputing(hardware: HardwareConfig) -> Family:
    """Recomputation in all layers: the configured kind, then kinds that keep less."""
    kind, setting = hardware.activation_checkpointing, "hardware.activation_checkpointing"
    kinds = () if kind is Recompute.auto else LESS_AND_LESS[LESS_AND_LESS.index(kind) + 1 :]
    costs = {Recompute.selective: "little time", Recompute.full: "about a third more time"}
    if hardware.recompute_layers is None:
        return [_change(setting, kind, costs[kind]) for kind in kinds]
    everywhere: dict[str, Any] = {"hardware.recompute_layers": None}
    return [_changes(everywhere, "more time")] * (kind is not Recompute.none) + [
        _changes({setting: kind} | everywhere, costs[kind]) for kind in kinds
    ]


def _shorter_samples(config: RunConfig, workload: Workload, *, most: bool) -> Family:
    """Lower limits on the length of samples: those of twice the mean stay whole, or, if nothing
    else helps, few do."""
    train = config.train
    mean = 0.0 if workload.is_upper_bound else workload.mean_tokens
    cost = LONGER[train.long_samples] + ", and most are longer" * most
    return [
        _change("train.seq_len", length, cost)
        for length in _halvings(train.seq_len)
        if (length >= 2 * mean) is not most
    ]


def _shorter_answers(model: Architecture, config: RunConfig) -> Family:
    """Shorter contexts of sampling and evaluation, with answers at most half as long."""
    family = []
    for length in _halvings(longest_context(model, config)):
        settings = {}
        for name, stage in (("sampler", config.sampler), ("eval", config.eval)):
            if (stage.max_model_len or model.max_length or 0) > length:
                settings[f"{name}.max_model_len"] = length
                if stage.max_new_tokens > length // 2:
                    settings[f"{name}.max_new_tokens"] = length // 2
        family.append(_changes(settings, "answers end sooner"))
    return family


def _cache_sizes(model: Architecture, config: RunConfig) -> Family:
    """The cache that one sequence takes, in whole GiB, where another size is set."""
    if local_engine(config.sampler.engine) is not EngineName.vllm:
        return []
    size = math.ceil(sequence_bytes(model, 1, longest_context(model, config)) / GIB)
    now = config.hardware.kv_cache_gib
    cost = "memory" if size > now else "fewer sequences at once"
    return [] if size == now else [_change("hardware.kv_cache_gib", size, cost)]


def _halvings(length: int) -> list[int]:
    shorter = (length >> times for times in range(1, 8))
    return [tokens for tokens in shorter if tokens >= SHORTEST]
