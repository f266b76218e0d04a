"""How many threads compute here, beside the other programs of a machine that is shared."""

import math
import os
import time
from pathlib import Path

PROC_STAT = Path("/proc/stat")
OWN_GROUP, GROUPS = Path("/proc/self/cgroup"), Path("/sys/fs/cgroup")
LOOKS = (0.5, 2.0)
"""Seconds that two looks at other programs' work last: a short burst must not halve the threads of
a training that lasts hours."""

NOTED: set[int] = set()
"""Numbers of threads that this process has given a note of."""


def busy_cores(seconds: float = 0.5) -> float:
    """How many cores other programs keep busy for a moment; 0 if the system does not say."""
    if not PROC_STAT.is_file():
        return 0.0
    started, before = time.monotonic(), _idle_seconds()
    time.sleep(seconds)
    idle = (_idle_seconds() - before) / (time.monotonic() - started)
    return max(0.0, (os.cpu_count() or 1) - idle)


def _idle_seconds() -> float:
    """Seconds that all cores together have been idle or waiting for disks since the start."""
    fields = PROC_STAT.read_text(encoding="utf-8").splitlines()[0].split()
    return (int(fields[4]) + int(fields[5])) / os.sysconf("SC_CLK_TCK")


def thread_settings(processes: int = 1) -> dict[str, str]:
    """Variables for OpenMP when `processes` of ours share the CPU with other programs; those that
    the user has set are left out."""
    allowed = allowed_cores()
    free = allowed if "OMP_NUM_THREADS" in os.environ else free_cores()
    settings = {"OMP_NUM_THREADS": str(max(free // processes, 1))}
    if free < allowed:
        # Beside other programs a thread that waits actively takes the core from what it waits for.
        # On a free core active waiting pays: sleeping at once makes a training step on two quiet
        # cores 1.3 times as long.
        settings["OMP_WAIT_POLICY"] = "passive"
    return {name: value for name, value in settings.items() if name not in os.environ}


def allowed_cores() -> int:
    """How many cores this process may use: those that it is bound to, limited by the processor time
    of its container."""
    return math.ceil(min(len(os.sched_getaffinity(0)), core_quota(OWN_GROUP, GROUPS)))


def core_quota(own_group: Path, groups: Path) -> float:
    """Seconds of processor time per second that control groups (version 2) leave the process whose
    groups `own_group` lists; infinity where none limits it."""
    text = own_group.read_text(encoding="utf-8") if own_group.is_file() else ""
    paths = [line[len("0::/") :] for line in text.splitlines() if line.startswith("0::/")]
    quota = math.inf
    for path in paths:
        for folder in (groups / path, *(groups / path).parents):  # a group's limit holds below it
            limit = folder / "cpu.max"
            if limit.is_file():
                share, period = limit.read_text(encoding="utf-8").split()
                quota = min(quota, math.inf if share == "max" else int(share) / int(period))
    return quota


def free_cores() -> int:
    """How many of its cores other programs leave to this process, at least one; prints a note if
    there are fewer than it may use, once for each number."""
    allowed, cores = allowed_cores(), os.cpu_count() or 1
    free = allowed
    for seconds in LOOKS:
        busy = busy_cores(seconds)
        free = cores_beside(busy, cores=cores, allowed=allowed)
        if free == allowed:
            return free
    if free not in NOTED:  # once in a run, not at each of its stages
        NOTED.add(free)
        print(
            f"note: other programs keep {busy:.1f} of {cores} cores busy, so {free} of {allowed} "
            "threads compute; OMP_NUM_THREADS=N sets another number",
            flush=True,
        )
    return free


def cores_beside(busy: float, *, cores: int, allowed: int) -> int:
    """How many of the `allowed` cores to compute on where `busy` of all `cores` are taken.

    All threads of a computation wait for the slowest, so a core that is mostly taken is left out.
    """
    return max(1, min(allowed, round(cores - busy)))
