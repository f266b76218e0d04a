"""Processes that are killed at moments drawn from a seed, and what they leave running."""

import contextlib
import os
import time
from collections.abc import Callable
from pathlib import Path
from random import Random

MARK = "SSD_TEST_MARK"
"""Environment variable that every process below a marked one inherits."""


def marked(mark: str) -> dict[int, str]:
    """Running processes that carry a mark, with their command lines."""
    processes = {}
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # ended meanwhile
            variables = (folder / "environ").read_bytes().split(b"\0")
            if f"{MARK}={mark}".encode() in variables:
                command = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode()
                processes[int(folder.name)] = command
    return processes


def require_none_left(mark: str, seconds: float = 60) -> None:
    """Fail if a marked process still runs after so many seconds."""
    deadline = time.monotonic() + seconds
    while (left := marked(mark)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not left, f"left running: {left}"


def children(pid: int) -> list[int]:
    """The processes that a process has started and that still run."""
    with contextlib.suppress(OSError):
        return [
            int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        ]
    return []


def done_steps(folder: Path) -> int:
    """Steps of the training in a checkpoint's folder that have logged their metrics."""
    file = folder / "metrics.jsonl"
    lines = file.read_text().splitlines() if file.is_file() else []
    return max(0, len(lines) - 1)  # the first is of the model before training


def wait_for_moment(
    random: Random, num_steps: int, done_steps: Callable[[], int], runs: Callable[[], bool]
) -> str:
    """Wait for a moment of a training: mostly a random step and up to 0.1 s more, now and then any
    of its first eight seconds. Returns at once when it no longer runs; says what was drawn."""
    begun, early = time.monotonic(), random.random() < 0.2
    step = random.randint(done_steps(), num_steps)
    seconds, delay = random.uniform(0, 8), random.uniform(0, 0.1)
    drawn = f"after {seconds:.2f} s" if early else f"{delay:.3f} s after step {step}"

    def waits() -> bool:
        return time.monotonic() - begun < seconds if early else done_steps() < step

    while runs() and waits() and time.monotonic() - begun < 240:
        time.sleep(0.002)
    time.sleep(0 if early else delay)
    return drawn


def ignored(pid: int, number: int) -> None:
    """Send a signal to a process that may be gone."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)
