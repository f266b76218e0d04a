"""Child processes: run to their end, sent a cluster's signals, ended with all they started."""

import contextlib
import ctypes
import os
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ssd.errors import REPORTED, RESUMABLE, PreemptedError, ReportedError, StageError
from ssd.runtime.reporting import PREEMPTION_SIGNALS, REASON

LOOK_SECONDS = 5.0
"""Seconds between two checks of a running stage."""
LINGER_SECONDS = 120.0
"""Seconds that a stage's process may outlive its whole result; W&B may still be sending."""
KILL_SECONDS = 10.0
"""Seconds that a killed process may take to release its memory."""
PR_SET_PDEATHSIG = 1
LIBC = ctypes.CDLL(None) if sys.platform == "linux" else None


def run_child(
    command: list[str],
    what: str,
    environment: dict[str, str] | None = None,
    *,
    is_whole: Callable[[], bool] = lambda: False,
) -> None:
    """Run a child process to its end, and pass it a cluster's signals to stop.

    Args:
        is_whole: whether the process's result is there. If it is and the process still lives
            `LINGER_SECONDS` later, it is ended, and that counts as its success.

    Raises:
        ReportedError: it failed and said why.
        PreemptedError: it was asked to stop, and did.
        StageError: it crashed or was killed.
    """
    # Within this process's own folder, so that its parent also finds the grandchildren.
    own = Path(os.environ[REASON]).parent if REASON in os.environ else None
    above = own if own is not None and own.is_dir() else None
    with tempfile.TemporaryDirectory(prefix="ssd-", dir=above) as folder:
        reason = Path(folder) / "reason"
        variables = {
            **(os.environ if environment is None else environment),
            REASON: str(reason),
            "SPT_NOENV": "1",  # or vLLM's processes write their titles over what `end_all` reads
        }
        process = subprocess.Popen(command, preexec_fn=_prepare, env=variables)
        code, stopped = _wait(process, what, is_whole, Path(folder))
        message = reason.read_text(encoding="utf-8") if reason.is_file() else what
    if code == RESUMABLE or stopped:
        raise PreemptedError(
            f"{what} stopped: the same command goes on from what is finished", what
        )
    if code == REPORTED:
        raise ReportedError(message, what)
    if code < 0:
        name = signal.Signals(-code).name
        hint = " (often for want of memory)" if -code == signal.SIGKILL else ""
        raise StageError(
            f"{what} was ended by {name}{hint}: the same command goes on from what is finished",
            what,
        )
    if code > 0:
        raise StageError(
            f"{what} failed with exit code {code}, see above: "
            "the same command goes on from what is finished",
            what,
        )


def _wait(
    process: subprocess.Popen[bytes], what: str, is_whole: Callable[[], bool], folder: Path
) -> tuple[int, bool]:
    """The exit code of a child process whose leftovers `folder` marks, and whether it was asked to
    stop meanwhile."""
    signals: list[int] = []

    def pass_on(number: int, _: Any) -> None:
        signals.append(number)
        process.send_signal(number)

    previous = {number: signal.signal(number, pass_on) for number in PREEMPTION_SIGNALS}
    try:
        code = _wait_or_end(process, what, is_whole)
    except BaseException:
        process.terminate()
        process.wait()
        raise
    finally:
        end_all(folder)
        for number, handler in previous.items():
            signal.signal(number, handler)
    return code, bool(signals)


def _wait_or_end(process: subprocess.Popen[bytes], what: str, is_whole: Callable[[], bool]) -> int:
    """The exit code of a process; 0 for one that had to be ended after its work was done."""
    finished_since: float | None = None
    while True:
        with contextlib.suppress(subprocess.TimeoutExpired):
            return process.wait(LOOK_SECONDS)
        if finished_since is None:
            finished_since = time.monotonic() if is_whole() else None
        elif time.monotonic() - finished_since > LINGER_SECONDS:
            print(
                f"{what}: its result is whole, and its process {process.pid} still ran "
                f"{LINGER_SECONDS:.0f} s later: it was ended",
                flush=True,
            )
            process.kill()
            process.wait()
            return 0


def end_all(folder: Path) -> None:
    """Kill the processes that a child has left, and wait until they are gone: an engine's processes
    outlive a killed stage and would keep a GPU's memory. They are found by an environment variable
    that the child passes on; it names a file in `folder`."""
    mark = f"{REASON}={folder}/".encode()
    for environment in Path("/proc").glob("[0-9]*/environ"):
        # Processes end meanwhile, and those of other users are not ours to read.
        with contextlib.suppress(OSError):
            variables = environment.read_bytes().split(b"\0")
            if any(variable.startswith(mark) for variable in variables):
                _kill(int(environment.parent.name))


def _kill(pid: int) -> None:
    process = os.pidfd_open(pid)
    try:
        signal.pidfd_send_signal(process, signal.SIGKILL)
        select.select([process], [], [], KILL_SECONDS)
    finally:
        os.close(process)


def _prepare() -> None:
    # Submitit asks a job to stop by SIGUSR2, which SLURM sends to every process of the job and
    # which would end a stage without its checkpoint. The driver answers it, and stops the stage.
    signal.signal(signal.SIGUSR2, signal.SIG_IGN)
    # Without this a killed pipeline leaves a stage behind that holds the artifact's lock.
    end_with_parent()


def end_with_parent() -> None:
    """Let this process be asked to stop when the one that started it ends, however it ends."""
    if LIBC is not None:
        LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
