"""Time and memory of a command and all the processes that it starts; a part of end_to_end.py."""

import contextlib
import os
import resource
import subprocess
import sys
import time
from pathlib import Path

import psutil


def watch(command: list[str], folder: Path, variables: dict[str, str]) -> dict[str, float]:
    """Run a command in `folder` to its end; its output goes to standard error.

    Returns:
        Seconds of clock and processor, cores that others used, and GiB of memory: of the tree at
        its worst moment, of the largest process, and of each program.

    Raises:
        CalledProcessError: it failed.
    """
    environment = {**os.environ, **variables}
    tree = 0
    marks: dict[str, int] = {}
    used, busy, started = children_seconds(), busy_seconds(), time.monotonic()
    with subprocess.Popen(command, cwd=folder, env=environment, stdout=sys.stderr) as process:
        try:
            root = psutil.Process(process.pid)
            while process.poll() is None:
                tree = max(tree, look(root, marks))
                time.sleep(0.1)
        finally:
            if process.returncode is None:
                process.terminate()
    seconds = time.monotonic() - started
    used, busy = children_seconds() - used, busy_seconds() - busy
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command[:2])
    return {
        "seconds": seconds,
        "cpu_seconds": used,
        "other_cores": max(busy - used, 0) / seconds,
        "tree_gib": max(tree, *marks.values()) / 2**30,
        "process_gib": max(marks.values()) / 2**30,
        **{f"{part}_gib": mark / 2**30 for part, mark in marks.items()},
    }


def children_seconds() -> float:
    """Processor time of all child processes that have ended, theirs included."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def busy_seconds() -> float:
    """Processor time of the whole machine since it started."""
    times = psutil.cpu_times()
    return float(times.user + times.nice + times.system)


def look(root: psutil.Process, marks: dict[str, int]) -> int:
    """Resident bytes of a process tree now; keeps each program's high-water mark in `marks`."""
    total = 0
    with contextlib.suppress(psutil.NoSuchProcess):
        for process in (root, *root.children(recursive=True)):
            with contextlib.suppress(psutil.NoSuchProcess, OSError):
                total += process.memory_info().rss
                status = Path(f"/proc/{process.pid}/status").read_text()
                lines = [line.split() for line in status.splitlines() if line.startswith("VmHWM")]
                part = program(process.cmdline())
                marks[part] = max([marks.get(part, 0), *(int(kib) * 1024 for _, kib, _ in lines)])
    return total


def program(command: list[str]) -> str:
    """`train.py` or `ssd.sample` of a Python command line; otherwise its first word."""
    if "-m" in command[:-1]:
        return command[command.index("-m") + 1]
    scripts = [word for word in command if word.endswith(".py")]
    return Path((scripts or command or ["?"])[0]).name
