"""Whether a run's training, engine and disk can fit, and which changes would make them fit."""

from collections.abc import Sequence
from functools import partial

from ssd.config.choices import STAGES, Accelerator, Dtype, EngineName
from ssd.config.settings import RunConfig
from ssd.plan.architecture import Architecture
from ssd.plan.choice import TIGHT, least_memory, memory_of
from ssd.plan.engine import (
    BF16,
    RESERVE,
    cache_room,
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
from ssd.runtime.devices import gib
from ssd.runtime.installation import local_engine

TRAINING, ENGINE, DISK, ANALYSIS = "training", "engine", "disk", "analysis"
LEFT_FREE = 2**30
"""Of a disk, for samples, answers and logs."""


def find_misfits(
    model: Architecture,
    config: RunConfig,
    workload: Workload,
    capacity: float,
    free_disk: float | None,
    num_trainings: int,
) -> dict[str, str]:
    """The parts of `config` that cannot fit, each with what it needs, what there is, and what would
    make it fit, in the order to try; its hardware may still hold `auto` and null.

    Args:
        capacity: bytes of one device.
        free_disk: bytes free below `output_dir`; None where the run is planned for another machine.
    """
    messages = {
        TRAINING: _training(model, config, workload, capacity),
        ENGINE: _engine(model, config, capacity),
        ANALYSIS: _analysis(model, config, capacity),
        DISK: None if free_disk is None else _disk(model, config, free_disk, num_trainings),
    }
    return {what: message for what, message in messages.items() if message is not None}


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
) -> str | None:
    needed = training_bytes(model, config, workload)
    if needed <= capacity:
        return None
    what = "GPU" if config.hardware.accelerator is Accelerator.gpu else "process"
    remedies = training_remedies(model, config, workload, capacity)
    last = f"more than {gib(needed)} for each {what}"
    return _message("training", needed, f"each {what} has {gib(capacity)}", [*remedies, last])


def _engine(model: Architecture, config: RunConfig, capacity: float) -> str | None:
    spread, on_gpu = config.hardware.engine_devices, config.hardware.accelerator is Accelerator.gpu
    splits_heads = on_gpu and local_engine(config.sampler.engine) is EngineName.vllm
    if splits_heads and model.num_heads % spread:
        fewer = max(number for number in range(1, spread) if model.num_heads % number == 0)
        return (
            f"hardware.tensor_parallel_size={spread} does not divide the model's {model.num_heads} "
            f"attention heads: set hardware.tensor_parallel_size={fewer}, or leave it null"
        )
    needed = partial(engine_bytes, model)
    if not config.draws_here:
        return None

    def room(candidate: RunConfig) -> float:
        return engine_room(model, candidate, capacity)

    if needed(config) <= room(config):
        return None
    remedies = find_remedies(config, engine_families(model, config), needed, room)
    there = f"it may take {gib(engine_capacity(config, capacity))}"
    if not room(config):
        there = f"hardware.kv_cache_gib={config.hardware.kv_cache_gib} does not hold the sequence"
    context = longest_context(model, config)
    name = f"the engine, with the cache of one sequence of {context:,} tokens,"
    return _message(name, needed(config), there, [*remedies, "a smaller model"])


def engine_room(model: Architecture, config: RunConfig, capacity: float) -> float:
    """Bytes of a device of `capacity` bytes that the engine may take; 0 where the key-value cache
    of a fixed size, which vLLM has on a CPU, does not hold one sequence."""
    hardware = config.hardware
    has_cache = local_engine(config.sampler.engine) is EngineName.vllm
    if hardware.accelerator is not Accelerator.gpu and has_cache:
        sequence = sequence_bytes(model, 1, longest_context(model, config))
        if sequence > cache_room(model, config, capacity):
            return 0.0
    return engine_capacity(config, capacity)


def _analysis(model: Architecture, config: RunConfig, capacity: float) -> str | None:
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
    remedies = find_remedies(config, analysis_families(config), needed, lambda _: there)
    remedy = "leave analyse out of stages"
    return _message("the analysis", needed(config), f"there are {gib(there)}", [*remedies, remedy])


def disk_needed(model: Architecture, config: RunConfig, num_trainings: int) -> float:
    """Bytes that must be free on the disk."""
    return LEFT_FREE + sum(disk_bytes(model, config, num_trainings).values())


def _disk(model: Architecture, config: RunConfig, free: float, num_trainings: int) -> str | None:
    def needed(candidate: RunConfig) -> float:
        return disk_needed(model, candidate, num_trainings)

    if needed(config) <= free:
        return None
    remedies = find_remedies(config, disk_families(config), needed, lambda _: free)
    there = f"{config.output_dir} has {gib(free)} free"
    remedy = "free some, or set output_dir=OTHER_FOLDER"
    return _message("the disk for training", needed(config), there, [remedy, *remedies])


def _message(what: str, needed: float, there: str, remedies: Sequence[Remedy | str]) -> str:
    listed = "; ".join(f"{number}. {text}" for number, text in enumerate(remedies, start=1))
    return (
        f"{what} does not fit: {gib(needed)} are needed, {there}; "
        f"what fits, in the order to try: {listed}"
    )
