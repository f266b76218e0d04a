"""The plan of a run: what it would need, from its configuration alone."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ssd.artifacts import plain
from ssd.config import RunConfig
from ssd.plan.architecture import Architecture, find_architecture
from ssd.plan.devices import GIB, assume, device_memory
from ssd.plan.hours import Hours, num_trainings, planned_run, run_hours
from ssd.plan.memory import Memory, host_bytes, memory, num_trained
from ssd.plan.remedies import memory_of, remedies
from ssd.plan.work import Work, disk_bytes, estimate, longest_row, mean_row
from ssd.plan.workload import Workload, find_workload

PLAN = "plan.json"
TIGHT = 0.9
"""Share of a device's memory above which what fits is called tight: activations are an estimate,
and allocators leave gaps."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Everything that the table shows."""

    config: RunConfig
    """With hardware resolved."""
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
    host: dict[str, float]
    """Bytes of the first machine's main memory, by use."""
    hours: Hours
    """The time of everything that is generated and trained."""
    disk: dict[str, float]
    """Bytes, by use."""
    warnings: tuple[str, ...]

    def numbers(self) -> dict[str, Any]:
        """The contents of plan.json: counts, bytes and seconds."""
        model, work, workload = self.model, self.work, self.workload
        return {
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
            "warnings": list(self.warnings),
        }


def make_plan(config: RunConfig, folder: Path) -> Plan:
    """Plan the run of `config` in `folder`; fetches nothing but, for a model that is neither on
    this disk nor in the shipped table, its config.json.

    Raises:
        SSDError: the model's sizes, the corpus or the prompts cannot be found.
    """
    config = replace(config, hardware=assume(config.hardware))
    hardware = config.hardware
    model = find_architecture(config.model, config.train, hardware.attention, config.adapter)
    workload = find_workload(config, folder)
    capacity, source = device_memory(hardware, config.plan.device_memory_gib)
    needed = memory_of(model, config, workload.longest_tokens)
    mean_tokens = round(mean_row(config, workload.mean_tokens))
    work, run = estimate(model, config, workload), planned_run(config, folder)
    return Plan(
        config=config,
        model=model,
        workload=workload,
        work=work,
        row_tokens=longest_row(config, workload.longest_tokens),
        memory=needed,
        mean_row_tokens=mean_tokens,
        mean_memory=memory(model, config, mean_tokens),
        capacity=capacity,
        capacity_source=source,
        host=host_bytes(model, config, needed),
        hours=run_hours(model, run, workload, work, capacity),
        disk=disk_bytes(model, config, num_trainings(run)),
        warnings=tuple(_warnings(model, config, workload, needed, capacity)),
    )


def _warnings(
    model: Architecture, config: RunConfig, workload: Workload, needed: Memory, capacity: float
) -> list[str]:
    if needed.needed <= TIGHT * capacity:
        return []
    longest = workload.longest_tokens
    found = remedies(model, config, longest, TIGHT * capacity)
    size = f"{needed.needed / GIB:.1f} GiB"
    if needed.needed <= capacity:
        more = f"; more room with {', or '.join(found)}" if found else ""
        return [f"tight: {size} of {capacity / GIB:.1f} GiB on each device{more}"]
    found.append(f"devices of more than {size} (plan.device_memory_gib)")
    return [
        f"does not fit: {size} on each device of {capacity / GIB:.1f} GiB; change one of: "
        f"{', or '.join(found)}"
    ]
