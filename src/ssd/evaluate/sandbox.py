"""Running untrusted programs: one interface, two backends, a fresh interpreter per program.

`namespaces` puts it into new user, network, process, IPC and mount namespaces (util-linux
`unshare`): no network, no sight of other processes, and one kill ends everything it started.
`process` lacks these. Both have a private empty folder, a clean environment, resource limits, a
wall clock and a cap on output.

What neither has: the program may read and write what the user may,
and memory is limited per process, not in sum.
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
from typing import BinaryIO, Protocol

from ssd.config import SandboxName
from ssd.errors import HardwareError

PASSED, FAILED, ERROR, TIMEOUT, MEMORY, OUTPUT = (
    "passed",
    "failed",
    "error",
    "timeout",
    "memory",
    "output",
)
"""Every status of a program; `failed` is a failed assertion,
`error` any other way not to reach the end."""
NAMESPACES, PROCESS = "namespaces", "process"

UNSHARE = (
    "--user",
    "--map-root-user",
    "--net",
    "--pid",
    "--fork",
    "--kill-child",
    "--ipc",
    "--mount",
)
MOUNT = 'mount -t tmpfs -o size=64m,nr_inodes=4096,mode=700 tmpfs "$HOME" && unset PWD && exec "$@"'
"""Makes the private folder a small file system in memory: it cannot fill the disk,
and leaves nothing to remove."""
HARNESS = Path(__file__).with_name("harness.py").read_text(encoding="utf-8")
NUM_PROCESSES = 256
"""Processes a program may have beyond those the user has already (RLIMIT_NPROC counts per user)."""
NUM_CREATED = 512
"""Processes and threads a program may create in its process namespace,
counted because root has no RLIMIT_NPROC."""
FILE_BYTES = 16 * 2**20
OUTPUT_BYTES = 16 * 2**20
TAIL_BYTES = 4096
DETAIL_CHARS = 300
STARTED = b"+"
"""First byte of the report, written by the harness before it runs the program."""
START_SECONDS = 60.0
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
    """A child process per program, behind a command that isolates it
    where `prefix` is not empty."""

    name: str
    prefix: tuple[str, ...]
    timeout: float
    """Wall-clock seconds from the program's first line on."""
    memory_mib: int
    num_processes: int

    def run(self, program: str) -> Outcome:
        """Run a program to its end or its limit;
        nothing it started outlives the call in `namespaces`.

        Raises:
            HardwareError: the interpreter did not come up, which says nothing about the program.
        """
        token = secrets.token_hex(16).encode()
        with private_folder() as folder, tempfile.TemporaryFile() as source:
            source.write(token + b"\n" + program.encode("utf-8", "replace"))
            source.seek(0)
            report, report_write = os.pipe()
            with open(report, "rb", buffering=0) as reader:
                try:
                    process = self._start(folder, source.fileno(), report_write)
                finally:
                    os.close(report_write)
                ending = wait(process, reader, self.timeout)
        if not ending.report:
            raise HardwareError(
                f"a sandboxed program did not start ({last_line(ending.errors) or ending.limit})"
            )
        if ending.limit is None and ending.code == 0 and ending.report == STARTED + token:
            return Outcome(PASSED, "", self.name)
        status, detail = explain(ending, self.timeout)
        return Outcome(status, detail[:DETAIL_CHARS], self.name)

    def _start(self, folder: str, stdin: int, report: int) -> "subprocess.Popen[bytes]":
        num_created = NUM_CREATED if self.prefix else 0
        limits = (
            report,
            self.memory_mib * 2**20,
            FILE_BYTES,
            self.num_processes,
            num_created,
            self.timeout,
        )
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
        HardwareError: programs do not start under these limits,
            or namespaces do not start on this machine.
    """
    plain = SubprocessSandbox(
        name=PROCESS,
        prefix=(),
        timeout=timeout,
        memory_mib=memory_mib,
        num_processes=NUM_PROCESSES + count_threads(),
    )
    reason = fault(plain)
    if reason is not None:
        raise HardwareError(
            f"an empty program does not run under eval.memory_mib={memory_mib} ({reason}): "
            f"raise it, or check that {sys.executable} -I runs in an empty environment"
        )
    if name is SandboxName.none:
        return plain
    unshare = shutil.which("unshare")
    reason = "util-linux unshare is not installed"
    if unshare is not None:
        isolated = dataclasses.replace(
            plain, name=NAMESPACES, prefix=(unshare, *UNSHARE, "sh", "-c", MOUNT, "sh")
        )
        reason = fault(isolated)
        if reason is None:
            return isolated
    raise HardwareError(
        f"eval.sandbox={name.value} needs Linux namespaces, which do not start here ({reason}): "
        "allow unprivileged user namespaces, or set eval.sandbox=none, and generated code can use "
        "the network, see and signal your other processes, and leave processes behind"
    )


def fault(sandbox: SubprocessSandbox) -> str | None:
    """Why an empty program does not pass, or None where it does."""
    try:
        outcome = dataclasses.replace(sandbox, timeout=START_SECONDS).run("")
    except HardwareError as error:
        return str(error)
    return None if outcome.status == PASSED else outcome.detail


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
            # shutil.rmtree recurses, and a program can nest folders beyond
            # Python's recursion limit.
            subprocess.run(["rm", "-rf", "--", folder], stderr=subprocess.DEVNULL, check=False)


@dataclass(frozen=True, slots=True)
class Ending:
    """What is left of a child process."""

    code: int
    limit: str | None
    """`timeout` or `output` where the sandbox ended it."""
    report: bytes
    errors: bytes
    """The end of its standard error."""


def wait(process: "subprocess.Popen[bytes]", report: BinaryIO, timeout: float) -> Ending:
    """Drain a child's pipes until it ends or meets a limit,
    then kill what is left of its process group.

    Memory is bounded: of each pipe a few kilobytes are kept.
    The clock starts with the first byte of the report.
    """
    assert process.stdout is not None and process.stderr is not None
    started, limit, num_bytes = False, None, 0
    deadline = time.monotonic() + START_SECONDS
    streams = (process.stdout, process.stderr, report)
    kept = {stream.fileno(): b"" for stream in streams}
    with process.stdout, process.stderr, selectors.DefaultSelector() as selector:
        for stream in streams:
            os.set_blocking(stream.fileno(), False)
            selector.register(stream, selectors.EVENT_READ)
        while limit is None and not has_ended(process.pid):
            remaining = deadline - time.monotonic()
            patience = max(0.0, min(remaining, POLL_SECONDS))
            for key, _ in selector.select(patience) if selector.get_map() else []:
                chunk = os.read(key.fd, 2**16)
                num_bytes += len(chunk)
                kept[key.fd] = (kept[key.fd] + chunk)[-TAIL_BYTES:]
                if not chunk:
                    selector.unregister(key.fileobj)
            if not selector.get_map():  # every pipe is closed, so the end is near
                time.sleep(0.001)
            if kept[report.fileno()] and not started:
                started, deadline = True, time.monotonic() + timeout
            limit = TIMEOUT if remaining <= 0 else OUTPUT if num_bytes > OUTPUT_BYTES else None
        # Before the process is reaped, because until then nobody else can have its group's number.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        code = process.wait()
        for stream in streams:
            with contextlib.suppress(
                BlockingIOError
            ):  # what a pipe held at the end, 64 KiB at most
                kept[stream.fileno()] = (kept[stream.fileno()] + os.read(stream.fileno(), 2**16))[
                    -TAIL_BYTES:
                ]
        return Ending(code, limit, kept[report.fileno()], kept[process.stderr.fileno()])


def has_ended(pid: int) -> bool:
    """Whether a child has ended, without reaping it."""
    return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


def explain(ending: Ending, timeout: float) -> tuple[str, str]:
    """Status and detail of a program that has not passed."""
    code = ending.code
    if ending.limit == TIMEOUT:
        return TIMEOUT, f"still running after {timeout:g} s"
    if ending.limit == OUTPUT:
        return OUTPUT, f"printed more than {OUTPUT_BYTES // 2**20} MiB"
    if code == 0:
        return ERROR, "left with exit code 0 before the end of the tests"
    if code == 128 + signal.SIGXCPU:
        return TIMEOUT, "used up its CPU time"
    if code > 128 or code < 0:
        return ERROR, f"ended by signal {code - 128 if code > 0 else -code}"
    detail = last_line(ending.errors) or f"exit code {code}"
    if detail == "MemoryError":
        return MEMORY, detail
    return FAILED if detail.startswith("AssertionError") else ERROR, detail


def last_line(output: bytes) -> str:
    """The last line with text."""
    lines = output.decode("utf-8", "replace").split("\n")
    return next((line.strip() for line in reversed(lines) if line.strip()), "")
