"""Running untrusted programs: one interface, and two backends that start a fresh interpreter per program.

`namespaces` puts it into new user, network, process, IPC and mount namespaces (util-linux `unshare`): no network, no
sight of other processes, and one kill ends everything it started. `process` lacks these. Both have a private empty
folder, a clean environment, resource limits, a wall clock and a cap on output.

What neither has: the program may read and write what the user may, and memory is limited per process, not in sum.
"""

import contextlib
import dataclasses
import os
import secrets
import selectors
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from ssd.config import SandboxName
from ssd.errors import HardwareError

PASSED, FAILED, ERROR, TIMEOUT, MEMORY, OUTPUT = "passed", "failed", "error", "timeout", "memory", "output"
"""Every status of a program; `failed` is a failed assertion, `error` any other way not to reach the end."""
NAMESPACES, PROCESS = "namespaces", "process"

UNSHARE = ("--user", "--map-root-user", "--net", "--pid", "--fork", "--kill-child", "--ipc", "--mount")
MOUNT = 'mount -t tmpfs -o size=64m,nr_inodes=4096,mode=700 tmpfs "$PWD" && cd "$PWD" && exec "$@"'
"""The private folder becomes a small file system in memory: a program cannot fill the disk, nor leave files to remove."""
HARNESS = Path(__file__).with_name("harness.py").read_text(encoding="utf-8")
NUM_PROCESSES = 256
"""Processes a program may have beyond those the user has already (RLIMIT_NPROC counts per user)."""
NUM_CREATED = 512
"""Processes and threads a program may create in its process namespace, counted because root has no RLIMIT_NPROC."""
FILE_BYTES = 16 * 2**20
OUTPUT_BYTES = 16 * 2**20
TAIL_BYTES = 4096
DETAIL_CHARS = 300
POLL_SECONDS = 0.05


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a program ended, and under which backend."""

    status: str
    detail: str
    backend: str


class Sandbox(Protocol):
    """Runs programs, from several threads at once."""

    @property
    def name(self) -> str:
        """The backend, named in every result."""
        ...

    def run(self, program: str) -> Outcome:
        """Run a program; `passed` means that it has run to its last line within the limits."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class SubprocessSandbox:
    """A child process per program, behind a command that isolates it where `prefix` is not empty."""

    name: str
    prefix: tuple[str, ...]
    timeout: float
    """Wall-clock seconds, the start of the interpreter included (about 0.03 s)."""
    memory_mib: int
    num_processes: int

    def run(self, program: str) -> Outcome:
        """Run a program to its end or its limit; nothing it started outlives the call in `namespaces`."""
        token = secrets.token_hex(16).encode()
        with private_folder() as folder, tempfile.TemporaryFile() as source:
            source.write(token + b"\n" + program.encode("utf-8", "replace"))
            source.seek(0)
            report, report_write = os.pipe()
            try:
                process = self._start(folder, source.fileno(), report_write)
            except BaseException:
                os.close(report)
                raise
            finally:
                os.close(report_write)
            try:
                limit, tail = wait(process, time.monotonic() + self.timeout)
                os.set_blocking(report, False)
                with contextlib.suppress(BlockingIOError):
                    if limit is None and process.returncode == 0 and os.read(report, 64) == token:
                        return Outcome(PASSED, "", self.name)
            finally:
                os.close(report)
        status, detail = explain(limit, process.returncode, tail, self.timeout)
        return Outcome(status, detail[:DETAIL_CHARS], self.name)

    def _start(self, folder: str, stdin: int, report: int) -> "subprocess.Popen[bytes]":
        num_created = NUM_CREATED if self.prefix else 0
        limits = (report, self.memory_mib * 2**20, FILE_BYTES, self.num_processes, num_created, self.timeout)
        return subprocess.Popen(
            [*self.prefix, sys.executable, "-I", "-c", HARNESS, *map(str, limits)],
            stdin=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=folder,
            env={
                "PATH": os.environ.get("PATH", os.defpath),
                "LANG": os.environ.get("LANG", "C.UTF-8"),
                "HOME": folder,
                "TMPDIR": folder,
            },
            start_new_session=True,
            pass_fds=(report,),
        )


def load_sandbox(name: SandboxName, *, timeout: float, memory_mib: int) -> Sandbox:
    """The sandbox that `eval.sandbox` names, tried out with an empty program.

    Raises:
        HardwareError: programs do not start under these limits, or namespaces do not start on this machine.
    """
    plain = SubprocessSandbox(
        name=PROCESS, prefix=(), timeout=timeout, memory_mib=memory_mib, num_processes=NUM_PROCESSES + count_threads()
    )
    outcome = plain.run("")
    if outcome.status != PASSED:
        raise HardwareError(
            f"an empty program does not run ({outcome.status}: {outcome.detail}): raise eval.timeout={timeout} or "
            f"eval.memory_mib={memory_mib}"
        )
    if name is SandboxName.none:
        return plain
    unshare = shutil.which("unshare")
    reason = "util-linux unshare is not installed"
    if unshare is not None:
        isolated = dataclasses.replace(plain, name=NAMESPACES, prefix=(unshare, *UNSHARE, "sh", "-c", MOUNT, "sh"))
        outcome = isolated.run("")
        if outcome.status == PASSED:
            return isolated
        reason = outcome.detail
    raise HardwareError(
        f"eval.sandbox={name.value} needs Linux namespaces, which do not start here ({reason}): allow unprivileged user "
        "namespaces, or set eval.sandbox=none, and generated code can use the network, see and signal your other "
        "processes, and leave processes behind"
    )


def count_threads() -> int:
    """Threads that this user runs now, which RLIMIT_NPROC counts; 0 where /proc does not say."""
    total = 0
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # a process that has just ended
            if entry.stat().st_uid == os.getuid():
                total += len(os.listdir(entry / "task"))
    return total


@contextlib.contextmanager
def private_folder() -> Iterator[str]:
    """An empty folder, gone afterwards."""
    folder = tempfile.mkdtemp(prefix="ssd-program-")
    try:
        yield folder
    finally:
        try:
            os.rmdir(folder)
        except OSError:
            # shutil.rmtree recurses, and a program can nest folders beyond Python's recursion limit.
            subprocess.run(["rm", "-rf", "--", folder], stderr=subprocess.DEVNULL, check=False)


def wait(process: "subprocess.Popen[bytes]", deadline: float) -> tuple[str | None, bytes]:
    """Drain a program's output until it ends, then kill what is left of its process group.

    Returns:
        The limit it ran into (`timeout`, `output`) or None, and the last bytes of its standard error.
    """
    assert process.stdout is not None and process.stderr is not None
    limit, tail, num_bytes = None, b"", 0
    with process.stdout, process.stderr, selectors.DefaultSelector() as selector:
        for stream in (process.stdout, process.stderr):
            os.set_blocking(stream.fileno(), False)
            selector.register(stream, selectors.EVENT_READ)
        while not has_ended(process.pid):
            remaining = deadline - time.monotonic()
            if remaining <= 0:
                limit = TIMEOUT
                break
            if not selector.get_map():  # both streams are closed, so the end is near
                time.sleep(min(remaining, 0.001))
                continue
            for key, _ in selector.select(min(remaining, POLL_SECONDS)):
                chunk = os.read(key.fd, 2**16)
                num_bytes += len(chunk)
                if not chunk:
                    selector.unregister(key.fileobj)
                elif key.fileobj is process.stderr:
                    tail = (tail + chunk)[-TAIL_BYTES:]
            if num_bytes > OUTPUT_BYTES:
                limit = OUTPUT
                break
        # Before the process is reaped, because until then nobody else can have its group's number.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        with contextlib.suppress(BlockingIOError):  # what a pipe held at the end, 64 KiB at most
            tail = (tail + os.read(process.stderr.fileno(), 2**16))[-TAIL_BYTES:]
    return limit, tail


def has_ended(pid: int) -> bool:
    """Whether a child has ended, without reaping it."""
    return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


def explain(limit: str | None, code: int, tail: bytes, timeout: float) -> tuple[str, str]:
    """Status and detail of a program that has not passed."""
    if limit == TIMEOUT:
        return TIMEOUT, f"still running after {timeout:g} s"
    if limit == OUTPUT:
        return OUTPUT, f"printed more than {OUTPUT_BYTES // 2**20} MiB"
    if code == 0:
        return ERROR, "left with exit code 0 before the end of the tests"
    if code > 128 or code < 0:
        name = signal_name(code - 128 if code > 128 else -code)
        return (TIMEOUT, "used up its CPU time") if name == "SIGXCPU" else (ERROR, f"ended by {name}")
    lines = tail.decode("utf-8", "replace").split("\n")
    detail = next((line.strip() for line in reversed(lines) if line.strip()), f"exit code {code}")
    if detail == "MemoryError":
        return MEMORY, detail
    return FAILED if detail.startswith("AssertionError") else ERROR, detail


def signal_name(number: int) -> str:
    """`SIGKILL` for 9; a program may also choose an exit code that is no signal's."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"exit code {128 + number}"
