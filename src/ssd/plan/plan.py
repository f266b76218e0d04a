"""The plan of a run: what it would need, from its configuration alone."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ssd.artifacts.fingerprints import plain
from ssd.config.settings import RunConfig
from ssd.plan.architecture import Architecture, find_architecture
from ssd.plan.choice import TIGHT, choose_engines, choose_hardware, memory_of
from ssd.plan.enforcement import identity
from ssd.plan.engine import engine_bytes, engine_capacity
from ssd.plan.hours import Hours, num_trainings, planned_run, run_hours
from ssd.plan.memory import Memory, host_bytes, memory, num_trained
from ssd.plan.misfits import find_misfits, training_remedies
from ssd.plan.work import Work, disk_bytes, estimate, longest_row, mean_row
from ssd.plan.workload import Workload, find_workload
from ssd.runtime.devices import GIB, device_memory
from ssd.runtime.hardware import assume


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Everything that the table shows."""

    config: RunConfig
    """With hardware resolved."""
    open_config: RunConfig
    """The configuration with `auto` and null still in place where memory decides."""
    model: Architecture
    workload: Workload
    work: Work
    row_tokens: int
    """Of the longest micro-batch."""
    memory: Memory
    """Of one process with it."""
    mean_row_tokens: int
    """Of a micro-batch where all samples have mean length."""
    mean_memory: Memory
    capacity: float
    """Bytes of one device."""
    capacity_source: str
    engine: float
    """Bytes of one device that the engine needs at least."""
    engine_capacity: float
    """Bytes of one device that the engine may take."""
    host: dict[str, float]
    """Bytes of the first machine's main memory, by use."""
    hours: Hours
    """The time of everything that is generated and trained."""
    disk: dict[str, float]
    """Bytes, by use."""
    misfits: dict[str, str]
    """What cannot fit, and the message that says so."""
    tight: str | None
    """A warning if training fits with little room to spare."""

    def numbers(self) -> dict[str, Any]:
        """The contents of plan.json: counts, bytes and seconds."""
        model, work, workload = self.model, self.work, self.workload
        return {
            "identity": identity(self.open_config, self.capacity),
            "model": self.config.model.name,
            "parameters": {
                "total": model.num_parameters,
                "trained": num_trained(model, self.config.adapter),
                "active": model.num_active,
            },
            "processes": self.config.hardware.num_processes,
            "memory": {
                "row_tokens": self.row_tokens,
                "items": [plain(item) for item in self.memory.items],
                "needed_bytes": round(self.memory.needed),
                "mean_row_tokens": self.mean_row_tokens,
                "mean_needed_bytes": round(self.mean_memory.needed),
                "device_bytes": round(self.capacity),
                "fits": self.memory.needed <= self.capacity,
                "engine_bytes": round(self.engine),
                "engine_fits": self.engine <= self.engine_capacity,
                "main_memory_bytes": {name: round(size) for name, size in self.host.items()},
            },
            "training": {
                "num_samples": workload.num_samples,
                "tokens_per_sample": workload.mean_tokens,
                "is_upper_bound": workload.is_upper_bound,
                "num_steps": work.num_steps,
                "epochs": work.epochs,
                "tokens_per_step": work.tokens_per_step,
                "num_tokens": work.num_tokens,
                "flop_per_token": work.flop_per_token,
                "tokens_per_second_per_device": work.tokens_per_second,
                "seconds": work.seconds,
            },
            "run": {
                "parts": [{**plain(part), "seconds": part.seconds} for part in self.hours.parts],
                "seconds": self.hours.seconds,
            },
            "disk_bytes": {name: round(size) for name, size in self.disk.items()},
            "hardware": plain(self.config.hardware),
            "misfits": self.misfits,
        }


def make_plan(
    config: RunConfig, folder: Path, free_disk: float | None = None, trainings: int | None = None
) -> Plan:
    """Plan the run of `config` in `folder`; fetches nothing but, for a model that is neither on
    this disk nor in the shipped table, its config.json.

    Args:
        free_disk: bytes free for the run, where the disk is to be judged too.
        trainings: how many of the run's are still to be done, where it is known.

    Raises:
        SSDError: the model's sizes, the corpus or the prompts cannot be found.
    """
    open_config = replace(config, hardware=assume(config.hardware))
    attention = open_config.hardware.attention
    model = find_architecture(config.model, config.train, attention, config.adapter)
    workload = find_workload(config, folder)
    capacity, source = device_memory(open_config.hardware, config.plan.device_memory_gib)
    config = replace(open_config, hardware=choose_hardware(model, open_config, workload, capacity))
    # What fits is judged with the engines that were chosen, whatever training can still give way.
    engines = choose_engines(model, open_config, workload, capacity)
    needed = memory_of(model, config, workload.longest_tokens)
    mean_tokens = round(mean_row(config, workload.mean_tokens))
    work, run = estimate(model, config, workload), planned_run(config, folder)
    trainings = num_trainings(run) if trainings is None else trainings
    return Plan(
        config=config,
        open_config=open_config,
        model=model,
        workload=workload,
        work=work,
        row_tokens=longest_row(config, workload.longest_tokens),
        memory=needed,
        mean_row_tokens=mean_tokens,
        mean_memory=memory(model, config, mean_tokens),
        capacity=capacity,
        capacity_source=source,
        engine=engine_bytes(model, config),
        engine_capacity=engine_capacity(config, capacity),
        host=host_bytes(model, config, needed),
        hours=run_hours(model, run, workload, work, capacity),
        disk=disk_bytes(model, config, num_trainings(run)),
        misfits=find_misfits(model, engines, workload, capacity, free_disk, trainings),
        tight=_tight(model, open_config, workload, needed, capacity),
    )


def _tight(
    model: Architecture, open_config: RunConfig, workload: Workload, needed: Memory, capacity: float
) -> str | None:
    if not TIGHT * capacity < needed.needed <= capacity:
        return None
    remedies = training_remedies(model, open_config, workload, capacity)
    more = "".join(f"; more room with {remedies[0]}" for _ in remedies[:1])
    return f"tight: {needed.needed / GIB:.1f} of {capacity / GIB:.1f} GiB on each device{more}"
