"""The values that `auto` and null in `hardware` become on GPUs: those that fit the cards.

8-bit moments and adapters are never chosen, only suggested, because they change the results.
"""

import dataclasses
import itertools
from typing import Any

from ssd.config.choices import Accelerator, Recompute
from ssd.config.settings import HardwareConfig, PoolConfig, RunConfig
from ssd.plan.architecture import Architecture
from ssd.plan.engine import (
    SEQUENCES,
    engine_bytes,
    engine_capacity,
    engine_speed,
    sequences_in_flight,
)
from ssd.plan.memory import Memory, memory
from ssd.plan.work import dense_utilization, longest_row
from ssd.plan.workload import Workload

TIGHT = 0.9
"""Share of a device's memory above which what fits is called tight: activations are an estimate,
and allocators leave gaps."""
LESS_AND_LESS = (Recompute.none, Recompute.selective, Recompute.full)
"""Kinds of recomputation, from the one that keeps most in memory to the one that keeps least."""
ROWS = tuple(1 << power for power in range(16, 9, -1))
"""Tokens of a micro-batch that are tried, longest first."""
BUSY_ROW = 8192
"""From here on a longer row gains less than less recomputation does: at 4B on one H200 full
recomputation ran 9,450 tokens per second in rows of 16,384 and 9,780 in rows of 65,536, none 11,010
in rows of 8,192."""


def choose_hardware(
    model: Architecture, config: RunConfig, workload: Workload, capacity: float
) -> HardwareConfig:
    """`config.hardware` with every value set that depends on memory; on a CPU none does."""
    if config.hardware.accelerator is not Accelerator.gpu:
        return config.hardware
    config = choose_engines(model, config, workload, capacity)
    hardware = config.hardware
    unlimited = with_hardware(config, max_num_seqs=SEQUENCES)
    fitting = sequences_in_flight(model, unlimited, capacity, workload.mean_tokens)
    compiles = hardware.compile_engine
    return dataclasses.replace(
        _choose_training(model, config, workload.longest_tokens, capacity),
        max_num_seqs=hardware.max_num_seqs or max(1, int(fitting)),
        compile_engine=True if compiles is None else compiles,
    )


def choose_engines(
    model: Architecture, config: RunConfig, workload: Workload, capacity: float
) -> RunConfig:
    """`config` with engines over so many GPUs, and so many of them, that all of its GPUs together
    draw fastest. Where none fits, with the one that takes least of a GPU."""
    hardware = config.hardware
    devices = hardware.devices or 1
    if hardware.accelerator is not Accelerator.gpu:
        return config
    if hardware.pool.is_elsewhere:  # how many a cluster holds is for the cluster to say
        here = with_hardware(config, replicas=None, pool=PoolConfig())
        best = choose_engines(model, here, workload, capacity).hardware
        return with_hardware(config, tensor_parallel_size=best.tensor_parallel_size)
    candidates = [
        with_hardware(
            config,
            tensor_parallel_size=spread,
            replicas=hardware.replicas or max(1, devices // spread),
        )
        for spread in _spreads(model, hardware, devices)
    ]

    def speed(candidate: RunConfig) -> float:
        context = workload.context_tokens / 2
        return engine_speed(model, candidate, capacity, context)[0] or 0.0

    fitting = [
        candidate
        for candidate in candidates
        if engine_bytes(model, candidate) <= engine_capacity(candidate, capacity)
    ]
    return max(fitting, key=speed, default=candidates[-1])  # the first of those equally fast


def _spreads(model: Architecture, hardware: HardwareConfig, devices: int) -> list[int]:
    """GPUs that one engine can be spread over, the fewest first: attention heads are divided
    evenly, and engines for which a number is set have to find their place."""
    if hardware.tensor_parallel_size is not None:
        return [hardware.tensor_parallel_size]
    most = max(1, devices // hardware.num_replicas)
    return [spread for spread in range(1, most + 1) if model.num_heads % spread == 0]


def _choose_training(
    model: Architecture, config: RunConfig, longest_sample: int, capacity: float
) -> HardwareConfig:
    """The first candidate that fits with room to spare, or else the one that takes least memory."""
    for hardware in _candidates(config, longest_sample, model.num_layers):
        candidate = dataclasses.replace(config, hardware=hardware)
        if memory_of(model, candidate, longest_sample).needed <= TIGHT * capacity:
            return hardware
    return least_memory(config, longest_sample).hardware


def _candidates(config: RunConfig, longest_sample: int, num_layers: int) -> list[HardwareConfig]:
    """Recomputation and rows, the best first: rows that keep a GPU busy, then the recomputation
    that takes least time, then long rows. A value that the user has set is the only choice."""
    hardware = config.hardware
    longest = min(longest_sample, config.train.seq_len)
    everything = longest_row(with_hardware(config, micro_batch_tokens=ROWS[0]), longest)
    rows = [row for row in ROWS if longest < row < everything]  # no step has longer ones
    rows = [everything, *rows, *([longest] if longest < everything else [])]
    if hardware.micro_batch_tokens is not None:
        rows = [hardware.micro_batch_tokens]
    candidates = [
        dataclasses.replace(
            hardware,
            activation_checkpointing=recompute,
            recompute_layers=layers,
            micro_batch_tokens=row,
        )
        for (recompute, layers), row in itertools.product(_recomputing(hardware, num_layers), rows)
    ]

    def rank(candidate: HardwareConfig) -> tuple[float, ...]:
        row = candidate.micro_batch_tokens or 0
        return -min(row, BUSY_ROW), -dense_utilization(candidate, num_layers), -row

    return sorted(candidates, key=rank)


def _recomputing(hardware: HardwareConfig, num_layers: int) -> list[tuple[Recompute, int | None]]:
    """Kinds of recomputation and numbers of layers. Not the last layer: it would run backward at
    once, so that recomputing it saves nothing."""
    kind, layers = hardware.activation_checkpointing, hardware.recompute_layers
    if kind is not Recompute.auto:
        return [(kind, layers)]
    numbers = range(num_layers) if layers is None else [layers]
    if hardware.offload_activations:  # which only full recomputation leaves something to
        return [(Recompute.full, number) for number in numbers if number]
    # Full recomputation first, so that it is chosen unless the other was measured to be faster.
    kinds = itertools.product((Recompute.full, Recompute.selective), numbers)
    return [(kind, number) if number else (Recompute.none, 0) for kind, number in kinds]


def least_memory(config: RunConfig, longest_sample: int) -> RunConfig:
    """`config` with the open training settings set to those that take least memory."""
    hardware = config.hardware
    if hardware.accelerator is not Accelerator.gpu:
        return config
    recompute = hardware.activation_checkpointing
    rows = hardware.micro_batch_tokens or min(longest_sample, config.train.seq_len)
    kind = Recompute.full if recompute is Recompute.auto else recompute
    return with_hardware(config, activation_checkpointing=kind, micro_batch_tokens=rows)


def with_hardware(config: RunConfig, **settings: Any) -> RunConfig:
    """`config` with other settings of its hardware."""
    return dataclasses.replace(config, hardware=dataclasses.replace(config.hardware, **settings))


def memory_of(model: Architecture, config: RunConfig, longest_sample: int) -> Memory:
    """What each process of `config` needs for the longest micro-batch it can meet."""
    longest = min(longest_sample, config.train.seq_len)
    return memory(model, config, longest_row(config, longest))
