"""What to change where a training does not fit its devices: each change is planned in its turn."""

from dataclasses import replace
from typing import Any

from ssd.config import Accelerator, AdapterType, HardwareConfig, Recompute, RunConfig, Strategy
from ssd.errors import ConfigError
from ssd.plan.architecture import Architecture
from ssd.plan.devices import GIB
from ssd.plan.memory import Memory, memory
from ssd.plan.work import longest_row

Change = tuple[str, str, Any]
"""An override as it is typed, the setting it changes, and the value."""
EIGHT_BIT = "bitsandbytes.optim.AdamW8bit"
SHORTEST_ROW = 1024
MOST_PAIRS = 4


def memory_of(model: Architecture, config: RunConfig, longest_sample: int) -> Memory:
    """What each process of `config` needs for the longest micro-batch it can meet."""
    longest = min(longest_sample, config.train.seq_len)
    return memory(model, config, longest_row(config, longest))


def remedies(
    model: Architecture, config: RunConfig, longest_sample: int, capacity: float
) -> list[str]:
    """Overrides that make the training fit into `capacity` bytes, each alone and with what it then
    needs; where none does, some pairs of them."""
    tried = families(config, longest_sample)
    alone = _fitting(model, config, tried, longest_sample, capacity)
    if alone:
        return alone
    pairs: list[str] = []
    for position, family in enumerate(tried, start=1):
        for text, setting, value in family:
            try:
                candidate = changed(config, setting, value)
            except ConfigError:
                continue
            rest = tried[position:]
            found = _fitting(model, candidate, rest, longest_sample, capacity)
            pairs += [f"{text} with {other}" for other in found]
    return pairs[:MOST_PAIRS]


def _fitting(
    model: Architecture,
    config: RunConfig,
    tried: list[list[Change]],
    longest_sample: int,
    capacity: float,
) -> list[str]:
    """The first change of each family that fits."""
    found = []
    for family in tried:
        for text, setting, value in family:
            try:
                candidate = changed(config, setting, value)
            except ConfigError:  # the settings do not go together
                continue
            needed = memory_of(model, candidate, longest_sample).needed
            if needed <= capacity:
                found.append(f"{text} ({needed / GIB:.1f} GiB)")
                break
    return found


def changed(config: RunConfig, setting: str, value: Any) -> RunConfig:
    """`config` with one dotted setting changed.

    Raises:
        ConfigError: it does not go with the other settings.
    """
    section, _, name = setting.partition(".")
    return replace(config, **{section: replace(getattr(config, section), **{name: value})})


def families(config: RunConfig, longest_sample: int) -> list[list[Change]]:
    """Changes worth trying; of each family, mildest first, one is enough."""
    hardware = config.hardware
    found = [_recomputing(hardware), _shorter_rows(config, longest_sample)]
    if hardware.accelerator is Accelerator.gpu:
        found += _more_hardware(hardware)
        if not config.optimizer.is_8bit:
            found.append([("optimizer=adamw8bit", "optimizer._target_", EIGHT_BIT)])
    if config.adapter.type is AdapterType.none:
        found.append([("adapter=lora", "adapter.type", AdapterType.lora)])
    if config.adapter.type is not AdapterType.qlora and hardware.accelerator is Accelerator.gpu:
        found.append([("adapter=qlora", "adapter.type", AdapterType.qlora)])
    lengths = [config.train.seq_len >> halvings for halvings in range(1, 8)]
    found.append(
        [_numbered("train.seq_len", length) for length in lengths if length >= SHORTEST_ROW]
    )
    return found


def _numbered(setting: str, value: int) -> Change:
    return f"{setting}={value}", setting, value


def _recomputing(hardware: HardwareConfig) -> list[Change]:
    order = list(Recompute)
    stronger = order[order.index(hardware.activation_checkpointing) + 1 :]
    setting = "hardware.activation_checkpointing"
    return [(f"{setting}={one.value}", setting, one) for one in stronger]


def _shorter_rows(config: RunConfig, longest_sample: int) -> list[Change]:
    capacity = config.hardware.micro_batch_tokens or config.train.seq_len
    if longest_sample >= capacity:
        return []
    return [_numbered("hardware.micro_batch_tokens", longest_sample)]


def _more_hardware(hardware: HardwareConfig) -> list[list[Change]]:
    devices = hardware.devices or 1
    offload, strategy = "hardware.cpu_offload", "hardware.strategy"
    copies = hardware.num_processes > 1 and not hardware.shards
    return [
        [(f"{strategy}=fsdp", strategy, Strategy.fsdp)] if copies else [],
        [_numbered("hardware.devices", count) for count in (2, 4, 8) if count > devices],
        [_numbered("hardware.num_nodes", hardware.num_nodes << doubled) for doubled in range(1, 6)],
        [] if hardware.cpu_offload else [(f"{offload}=true", offload, True)],
    ]
