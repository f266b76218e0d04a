"""Whether a run's training, engine and disk can fit, and which changes would make them fit."""

from dataclasses import dataclass

from ssd.config.choices import STAGES, Accelerator, Dtype, EngineName
from ssd.config.settings import RunConfig
from ssd.plan.architecture import Architecture
from ssd.plan.choice import TIGHT, least_memory, memory_of
from ssd.plan.engine import (
    BF16,
    RESERVE,
    engine_bytes,
    engine_capacity,
    longest_context,
    sequence_bytes,
)
from ssd.plan.memory import FP32
from ssd.plan.remedies import (
    Remedy,
    analysis_families,
    disk_families,
    engine_families,
    find_remedies,
    training_families,
)
from ssd.plan.work import disk_bytes
from ssd.plan.workload import Workload
from ssd.runtime.devices import GIB, gib

TRAINING, ENGINE, DISK, ANALYSIS = "training", "engine", "disk", "analysis"
LEFT_FREE = 2**30
"""Of a disk, for samples, answers and logs."""


@dataclass(frozen=True, slots=True)
class Misfit:
    """One part of a run that does not fit."""

    what: str
    """`training`, `engine`, `disk` or `analysis`."""
    message: str
    """What it needs, what there is, and what would make it fit, in the order to try."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Room:
    """What there is."""

    memory: float
    """Bytes of one device."""
    disk: float | None
    """Bytes free below `output_dir`; None where the run is planned for another machine."""


def find_misfits(
    model: Architecture,
    config: RunConfig,
    workload: Workload,
    room: Room,
    num_trainings: int,
) -> list[Misfit]:
    """The parts of `config` that cannot fit; its hardware may still hold `auto` and null."""
    checks = (
        _training(model, config, workload, room.memory),
        _engine(model, config, room.memory),
        _analysis(model, config, room.memory),
        None if room.disk is None else _disk(model, config, room.disk, num_trainings),
    )
    return [misfit for misfit in checks if misfit is not None]


def training_remedies(
    model: Architecture, config: RunConfig, workload: Workload, capacity: float
) -> list[Remedy]:
    """Changes that make a training fit, with room to spare."""

    def needed(candidate: RunConfig) -> float:
        return training_bytes(model, candidate, workload)

    for desperate in (False, True):
        families = training_families(config, workload, desperate=desperate)
        remedies = find_remedies(config, families, needed, lambda _: TIGHT * capacity)
        if remedies:
            break
    return remedies


def training_bytes(model: Architecture, config: RunConfig, workload: Workload) -> float:
    """The least bytes that training takes on a device."""
    longest = workload.longest_tokens
    return memory_of(model, least_memory(config, longest), longest).needed


def _training(
    model: Architecture, config: RunConfig, workload: Workload, capacity: float
) -> Misfit | None:
    needed = training_bytes(model, config, workload)
    if needed <= capacity:
        return None
    remedies = [str(remedy) for remedy in training_remedies(model, config, workload, capacity)]
    what = "GPU" if config.hardware.accelerator is Accelerator.gpu else "process"
    remedies.append(f"more than {gib(needed)} for each {what}")
    there = f"each {what} has {gib(capacity)}"
    return Misfit(TRAINING, _message("training", needed, there, remedies))


def _engine(model: Architecture, config: RunConfig, capacity: float) -> Misfit | None:
    def needed(candidate: RunConfig) -> float:
        return engine_bytes(model, candidate)

    def room(candidate: RunConfig) -> float:
        return engine_capacity(candidate, capacity) if cache_suffices(model, candidate) else 0.0

    size, there = needed(config), engine_capacity(config, capacity)
    context = longest_context(model, config)
    if size <= room(config):
        return None
    remedies = [
        str(remedy)
        for remedy in find_remedies(config, engine_families(model, config), needed, room)
    ]
    remedies.append("a smaller model")
    place = f"it may take {gib(there)}"
    if not cache_suffices(model, config):
        place = f"hardware.kv_cache_gib={config.hardware.kv_cache_gib} does not hold the sequence"
    name = f"the engine, with the cache of one sequence of {context:,} tokens,"
    return Misfit(ENGINE, _message(name, size, place, remedies))


def cache_suffices(model: Architecture, config: RunConfig) -> bool:
    """Whether the key-value cache of a fixed size, which vLLM has on a CPU, holds one sequence."""
    hardware = config.hardware
    if hardware.accelerator is Accelerator.gpu or config.sampler.engine is not EngineName.vllm:
        return True
    needed = sequence_bytes(model, 1, longest_context(model, config))
    return needed <= hardware.kv_cache_gib * GIB


def _analysis(model: Architecture, config: RunConfig, capacity: float) -> Misfit | None:
    """The models that are compared are loaded one at a time, over all GPUs or into main memory."""
    hardware = config.hardware
    devices = hardware.devices or 1
    on_gpu = hardware.accelerator is Accelerator.gpu
    there = capacity if on_gpu else capacity * devices
    stages = [stage for stage in config.stages if stage != "plan"] or STAGES

    def needed(candidate: RunConfig) -> float:
        width = FP32 if candidate.analyse.dtype is Dtype.float32 else BF16
        shares = devices if on_gpu else 1
        return width * model.num_parameters / shares + RESERVE[hardware.accelerator]

    if "analyse" not in stages or needed(config) <= there:
        return None
    families = analysis_families(config)
    remedies = [str(remedy) for remedy in find_remedies(config, families, needed, lambda _: there)]
    remedies.append("leave analyse out of stages")
    return Misfit(
        ANALYSIS,
        _message("the analysis", needed(config), f"there are {gib(there)}", remedies),
    )


def _disk(model: Architecture, config: RunConfig, free: float, num_trainings: int) -> Misfit | None:
    def needed(candidate: RunConfig) -> float:
        return LEFT_FREE + sum(disk_bytes(model, candidate, num_trainings).values())

    if needed(config) <= free:
        return None
    remedies = [
        str(remedy)
        for remedy in find_remedies(config, disk_families(config), needed, lambda _: free)
    ]
    remedies = ["free some, or set output_dir=OTHER_FOLDER", *remedies]
    there = f"{config.output_dir} has {gib(free)} free"
    return Misfit(DISK, _message("the disk for training", needed(config), there, remedies))


def _message(what: str, needed: float, there: str, remedies: list[str]) -> str:
    listed = "; ".join(f"{number}. {text}" for number, text in enumerate(remedies, start=1))
    return (
        f"{what} does not fit: {gib(needed)} are needed, {there}; "
        f"what fits, in the order to try: {listed}"
    )
