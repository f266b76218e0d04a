"""The driver's side of the plan: fills in what memory decides about hardware, and refuses a run
that cannot fit before anything of it starts.

Imports no torch: the memory model runs in a process of its own. That takes some eight seconds. On a
CPU nothing is open, so it starts only if a stage has work to do whose sizes might not fit.
"""

import shutil
import sys
from pathlib import Path
from typing import Any

from ssd.artifacts.files import read_json
from ssd.artifacts.fingerprints import fingerprint, plain
from ssd.artifacts.names import CONFIG, PLAN, PLANNED, WEIGHTS
from ssd.config.choices import Accelerator, Recompute
from ssd.config.settings import RunConfig
from ssd.errors import HardwareError
from ssd.plan.choice import with_hardware
from ssd.plan.hours import Hours, Part, time_text
from ssd.plan.outline import outlined_needs, surely_fits
from ssd.run.folder import write_config
from ssd.runtime.children import run_child
from ssd.runtime.devices import UNKNOWN, device_memory, gib

NEEDS = {
    "training": {"train"},
    "disk": {"train"},
    "engine": {"sample", "evaluate"},
    "analysis": {"sample", "train", "evaluate"},
}
"""The stages whose memory or disk may not be enough."""
OPEN = (
    "activation_checkpointing", "recompute_layers", "micro_batch_tokens", "tensor_parallel_size",
    "replicas", "max_num_seqs", "compile_engine",
)  # fmt: skip
"""Settings of hardware that memory decides on GPUs."""


def print_plan(config: RunConfig, folder: Path, *more: str) -> None:
    """Let a child process print what the run needs and write plan.json."""
    # A plan alone leaves the configuration of a run that is already there as it is.
    path = folder / (PLANNED if (folder / WEIGHTS).is_file() else CONFIG)
    write_config(path, config)
    run_child([sys.executable, "-m", "ssd.plan", str(path), *more], "stage plan")


def settle(config: RunConfig, folder: Path, pending: list[str]) -> RunConfig:
    """`config` with nothing open in its hardware, which is resolved but for what memory decides;
    prints the plan where `stages` asks for it.

    Args:
        pending: stages that are not up to date, `train` once for each training.

    Raises:
        HardwareError: something cannot fit, and `plan.enforce` is true.
    """
    on_gpu = config.hardware.accelerator is Accelerator.gpu
    asks, trainings = "plan" in config.stages, pending.count("train")
    free = shutil.disk_usage(config.output_dir).free
    capacity, source = device_memory(config.hardware, config.plan.device_memory_gib)
    if source == UNKNOWN and pending and config.plan.enforce:
        raise HardwareError(
            "nvidia-smi does not tell how much memory this machine's GPUs have: set "
            "plan.device_memory_gib"
        )
    if on_gpu and pending and not asks:
        print(f"each GPU has {gib(capacity)} ({source})", flush=True)
    asks_nothing = not asks and not on_gpu
    if asks_nothing and (not pending or surely_fits(config, capacity, free, trainings)):
        return config
    numbers = None if asks else _known_plan(config, folder, capacity, free)
    if numbers is None:
        quiet = () if asks else ("--quiet",)
        print_plan(config, folder, f"--free-disk={free}", f"--trainings={trainings}", *quiet)
        (folder / PLANNED).unlink(missing_ok=True)  # the run's own configuration follows
        numbers = read_json(folder / PLAN)
    _refuse(config, numbers["misfits"], pending)
    values = {name: numbers["hardware"][name] for name in OPEN}
    if on_gpu and not asks:
        print("hardware", *(f"{name}={value}" for name, value in values.items()), flush=True)
    values["activation_checkpointing"] = Recompute(values["activation_checkpointing"])
    return with_hardware(config, **values)


def needs(config: RunConfig, folder: Path) -> str:
    """Time and disk of the whole run of `config`, which `settle` has settled, in words. On a CPU
    outlined where that can be, else what the plan has written to `folder`."""
    found = None
    if config.hardware.accelerator is Accelerator.cpu:
        found = outlined_needs(config, folder)
    if found is None:
        numbers = read_json(folder / PLAN)
        stored = numbers["run"]["parts"]
        # Each has its seconds too, which follow from the rest.
        fields = [{name: part[name] for name in part if name != "seconds"} for part in stored]
        parts = tuple(Part(**each) for each in fields)
        found = Hours(parts, ""), sum(numbers["disk_bytes"].values())
    hours, disk = found
    if hours.seconds is None:
        return f"an unknown time; {gib(disk)} of disk"
    time = f"{'about ' * (not hours.is_upper_bound)}{time_text(hours)}"
    return f"{time} at full speed, without starts, grading and analysis; {gib(disk)} of disk"


def identity(config: RunConfig, capacity: float) -> str:
    """What a plan depends on, except the corpus, whose samples are never longer than planned."""
    settings = plain(config)
    for name in ("logger", "report", "run_name"):
        settings.pop(name)
    settings["stages"] = [stage for stage in config.stages if stage != "plan"]
    return fingerprint({**settings, "capacity": capacity})


def _known_plan(
    config: RunConfig, folder: Path, capacity: float, free: float
) -> dict[str, Any] | None:
    """The numbers of an earlier plan of the same run in which everything fitted, or None."""
    path = folder / PLAN
    numbers: dict[str, Any] = read_json(path) if path.is_file() else {}
    fits = numbers.get("identity") == identity(config, capacity) and not numbers["misfits"]
    return numbers if fits and sum(numbers["disk_bytes"].values()) < free else None


def _refuse(config: RunConfig, misfits: dict[str, str], pending: list[str]) -> None:
    messages = [message for what, message in misfits.items() if NEEDS[what] & set(pending)]
    if messages and config.plan.enforce:
        raise HardwareError(f"{'; '.join(messages)}; plan.enforce=false goes on anyway")
    for message in messages:
        print(f"warning: {message}; going on, because plan.enforce=false", flush=True)
