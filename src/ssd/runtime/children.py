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
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from ssd.errors import REPORTED, RESUMABLE, PreemptedError, ReportedError, StageError
from ssd.runtime.reporting import PREEMPTION_SIGNALS, REASON

LOOK_SECONDS = 5.0
"""Seconds between two checks of a running stage."""
LINGER_SECONDS = 120.0
"""Seconds that a stage's process may outlive its whole result; W&B may still be sending."""
ENDING_SECONDS = 20.0
"""Seconds that a process which works beside another one gets to close what it has opened."""
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
    with _own_folder() as folder:
        reason, variables = _marked(folder, os.environ if environment is None else environment)
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


class Companion:
    """A child process that works beside this one and writes what it prints to a log; it ends with
    this process at the latest."""

    def __init__(
        self,
        command: list[str],
        environment: Mapping[str, str],
        *,
        cores: Collection[int] | None = None,
        pass_fds: Sequence[int] = (),
    ) -> None:
        """Start it, bound to some of the CPU's cores unless None, with open files passed on."""
        self.folder = _own_folder()
        self.log = Path(self.folder.name) / "log"
        self.reason, variables = _marked(self.folder.name, environment)

        def prepare() -> None:
            _prepare()
            if cores is not None:  # before any library counts the cores and starts threads
                os.sched_setaffinity(0, cores)

        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                command,
                preexec_fn=prepare,
                env=variables,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=pass_fds,
            )

    def end(self, seconds: float) -> int:
        """Kill what is left of it, and of what it started, after so many seconds in which it may
        end by itself; its exit code. Its folder stays until `forget`."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(seconds)
        end_all(Path(self.folder.name))
        return self.process.wait()

    def forget(self) -> None:
        """Delete its folder, with log and reason."""
        self.folder.cleanup()


def _own_folder() -> tempfile.TemporaryDirectory[str]:
    # Within this process's own folder, so that its parent also finds the grandchildren.
    own = Path(os.environ[REASON]).parent if REASON in os.environ else None
    above = own if own is not None and own.is_dir() else None
    return tempfile.TemporaryDirectory(prefix="ssd-", dir=above)


def _marked(folder: str, environment: Mapping[str, str]) -> tuple[Path, dict[str, str]]:
    """The file for a child's reason, and its environment, by which `end_all` finds it."""
    reason = Path(folder) / "reason"
    # Without SPT_NOENV vLLM's processes write their titles over what `end_all` reads.
    return reason, {**environment, REASON: str(reason), "SPT_NOENV": "1"}


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
    that the child passes on; it names a file in `folder`. This process itself is left alone."""
    mark = f"{REASON}={folder}/".encode()
    for environment in Path("/proc").glob("[0-9]*/environ"):
        # Processes end meanwhile, and those of other users are not ours to read.
        with contextlib.suppress(OSError):
            variables = environment.read_bytes().split(b"\0")
            pid = int(environment.parent.name)
            if pid != os.getpid() and any(variable.startswith(mark) for variable in variables):
                _kill(pid)


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
