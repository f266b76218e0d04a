"""One warm interpreter, seen from the grader: started, given jobs, watched, ended."""

import contextlib
import io
import itertools
import json
import os
import pickle
import select
import shutil
import socket
import subprocess
import tempfile
import time
from dataclasses import dataclass
from typing import Any

from ssd.sandbox import backends, endings
from ssd.sandbox.backends import Backend
from ssd.sandbox.inside import jobs, wire

START_SECONDS = 60.0
GRACE_SECONDS = 20.0
"""Seconds without a heartbeat after which a worker counts as dead."""
MOST_REPLY = 2**16
"""Bytes of a reply."""
LEAVE_SECONDS = 2.0
"""Seconds that a worker gets to end by itself."""
NUMBERS = itertools.count(os.getpid())
ENVIRONMENT = {
    "PATH": "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin",
    "LANG": "C.UTF-8",
    "PYTHONHASHSEED": "0",  # sets are printed in the same order by every worker
    "OPENBLAS_NUM_THREADS": "1",
    "MALLOC_ARENA_MAX": "2",
}


class WorkerFault(Exception):
    """A worker did not start or did not answer; this is no verdict on a program."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One job: a candidate with its limits, and the tests or the standard input."""

    code: str
    before: str = ""
    timeout: float
    call_timeout: float | None = None
    memory: int
    """Bytes."""
    payload: bytes
    """Pickled (judge, data, names), or the standard input."""
    judged: bool
    any_exit: bool = False
    """Whether a program's `sys.exit` counts as exit code 0 whatever it is given."""

    def program(self) -> bytes:
        """What the candidate's process reads."""
        fields = {"before": self.before, "code": self.code, "any_exit": self.any_exit}
        return pickle.dumps(fields, protocol=5)

    def numbers(self) -> jobs.Numbers:
        """What process 1 of a worker reads."""
        texts = (self.code.encode("utf-8", "replace"), self.before.encode(), self.payload)
        heavy = any(jobs.HEAVY.encode() in text for text in texts)
        return jobs.Numbers(heavy, self.judged, self.timeout, self.call_timeout, self.memory)


def judge_payload(judge: str, data: Any, names: tuple[str, ...]) -> bytes:
    """What the judge's process reads."""
    return pickle.dumps((judge, data, names), protocol=5)


class Worker:
    """A worker process; not for two threads at once.

    Raises:
        WorkerFault: it did not start, with the reason.
    """

    def __init__(self, backend: Backend) -> None:
        self.backend = backend
        self.folder = None if backend.isolated else tempfile.mkdtemp(prefix="ssd-worker-")
        self.connection, theirs = socket.socketpair()
        self.connection.settimeout(START_SECONDS)
        self.process: subprocess.Popen[bytes] | None = None
        self.job: socket.socket | None = None
        self.killed = False
        self.clean = True
        """Whether the worker may have another job."""
        with theirs, tempfile.TemporaryFile() as errors:
            try:
                self._start(theirs, errors.fileno())
                answer = bytes(wire.receive_frame(self.connection, 100))
                if answer != b"ready":
                    raise WorkerFault(f"answered {answer!r}")
            except (OSError, EOFError, ValueError) as error:
                self.close()
                errors.seek(0)
                lines = errors.read().decode("utf-8", "replace").strip().split("\n")
                raise WorkerFault(lines[-1].strip() or str(error)) from error

    def _start(self, theirs: socket.socket, errors: int) -> None:
        """Start the process and, where it waits for them, map its ids."""
        if not self.backend.second_id:
            self._launch(theirs, errors)
        elif self.backend.name == backends.NAMESPACES:
            pid = self._launch(theirs, errors, speaks=True)
            wire.receive_exactly(self.connection, 1)
            backends.map_ids(pid, next(NUMBERS))
            self.connection.sendall(b"\n")
        else:
            (report, report_end), (wait_end, wait) = os.pipe(), os.pipe()
            with open(report, "rb") as reader, open(wait, "wb", buffering=0) as waking:
                try:
                    self._launch(theirs, errors, (report_end, wait_end))
                finally:
                    os.close(report_end)
                    os.close(wait_end)
                backends.map_ids(json.loads(reader.read())["child-pid"], next(NUMBERS))
                waking.write(b"\n")

    def _launch(
        self,
        theirs: socket.socket,
        errors: int,
        descriptors: tuple[int, int] | None = None,
        *,
        speaks: bool = False,
    ) -> int:
        """Start the command; its process id. `speaks` gives it the connection as standard output
        too."""
        home = self.folder or backends.scratch_folder()
        build = self.backend.name == backends.NAMESPACES
        settings = {
            "isolated": self.backend.isolated,
            "home": home,
            "uid": backends.SECOND_ID if self.backend.second_id else None,
            "layout": backends.layout() if build else None,
            "watched": self.backend.watched,
            "num_processes": backends.process_limit(self.backend),
        }
        self.process = subprocess.Popen(
            [*self.backend.command(descriptors), json.dumps(settings)],
            stdin=theirs.fileno(),
            stdout=theirs.fileno() if speaks else subprocess.DEVNULL,
            stderr=errors,
            cwd=self.folder or "/",
            env={**ENVIRONMENT, "HOME": home, "TMPDIR": home},
            start_new_session=True,
            pass_fds=descriptors or (),
        )
        theirs.close()  # so that its end is noticed
        return self.process.pid

    def run(self, request: Request) -> endings.Outcome:
        """How a job has ended.

        Raises:
            WorkerFault: the worker is dead, or could not begin the job.
        """
        heard = endings.Heard(request.judged)
        with contextlib.ExitStack() as ours:
            try:
                connection, output, other = self._send(request, ours)
                self.job = connection
                if self.killed:  # by a thread that has not seen this job
                    raise WorkerFault("stopped")
                reply = follow(request.timeout, connection, output, other, heard)
                if self.killed:  # what is cut short is no verdict
                    raise WorkerFault("stopped")
                status, detail = endings.verdict(reply, heard)
                self.clean = reply["clean"]
                return endings.Outcome(
                    status,
                    endings.printable(detail),
                    self.backend.name,
                    reply["seconds"],
                    heard.output.decode("utf-8", "replace"),
                )
            except (OSError, EOFError, ValueError, TypeError, KeyError) as error:
                raise WorkerFault(f"died: {error}") from error

    def _send(self, request: Request, ours: contextlib.ExitStack) -> tuple[socket.socket, int, int]:
        """Hand over a job: its connection and the reading ends of its two pipes, which `ours`
        closes."""
        with contextlib.ExitStack() as theirs:
            connection, far = socket.socketpair()
            ours.enter_context(connection).settimeout(GRACE_SECONDS)
            handed = [theirs.enter_context(far).fileno()]
            for content in (request.program(), request.payload):
                handed.append(theirs.enter_context(memory_file(content)).fileno())
            pipes = os.pipe(), os.pipe()
            for reader, writer in pipes:
                ours.callback(os.close, reader)
                theirs.callback(os.close, writer)
                os.set_blocking(reader, False)
                os.fchmod(writer, 0o602)  # so that another user's program may open /dev/stdout
                handed.append(writer)
            jobs.send_job(self.connection, request.numbers(), handed)
        return connection, pipes[0][0], pipes[1][0]

    def kill(self) -> None:
        """End the worker at once while another thread waits for it, which then closes it."""
        # Before the look at `job`: `run` sets that first and looks here then, so one of both sees
        # the other.
        self.killed = True
        if self.process is not None and self.backend.isolated:
            self.process.kill()  # the kernel ends the namespace with it
        elif self.job is not None:
            with contextlib.suppress(OSError):  # the job has just ended
                self.job.shutdown(socket.SHUT_WR)  # which ends the job

    def close(self) -> None:
        """End the worker and all that it has started."""
        self.connection.close()  # which a worker takes as its end
        if self.process is not None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(LEAVE_SECONDS)
            self.process.kill()  # the kernel ends the namespace with it
            self.process.wait()
        if self.folder is not None:
            shutil.rmtree(self.folder, ignore_errors=True)


def follow(
    timeout: float, connection: socket.socket, output: int, other: int, heard: endings.Heard
) -> dict[str, Any]:
    """A worker's reply; the contents of the two pipes until then go to `heard`.

    Raises:
        WorkerFault: the job could not begin, or the worker is silent.
        OSError, EOFError, ValueError: it is dead.
    """
    poll = select.poll()
    streams = {output, other}
    for source in (connection.fileno(), *streams):
        poll.register(source, select.POLLIN)
    silent = time.monotonic() + GRACE_SECONDS
    latest = silent + timeout
    while True:
        events = [descriptor for descriptor, _ in poll.poll(1000 * GRACE_SECONDS)]
        ended = {ready for ready in streams.intersection(events) if not read(ready, heard, output)}
        if heard.is_too_much and streams:
            connection.shutdown(socket.SHUT_WR)  # which ends the job
            ended = set(streams)
        for stream in ended:
            poll.unregister(stream)
        streams -= ended
        if connection.fileno() in events:
            frame = wire.receive_frame(connection, MOST_REPLY)
            if frame:
                break
            silent = time.monotonic() + GRACE_SECONDS  # a heartbeat
        if time.monotonic() > min(silent, latest):
            raise WorkerFault("does not answer any more")
    reply: dict[str, Any] = json.loads(frame)
    if "fault" in reply:
        raise WorkerFault(reply["fault"])
    # All who could write are dead, but a pipe need not have ended: one that was sent through a
    # socket lives until the kernel collects it.
    for stream in (output, other):
        while not heard.is_too_much and read(stream, heard, output):
            pass
    if reply["judge_code"] == jobs.FAULT:
        raise WorkerFault(heard.other.decode("utf-8", "replace"))
    return reply


def read(stream: int, heard: endings.Heard, output: int) -> bool:
    """Take what a pipe holds; False at its end, or where it holds nothing now. `output` is the one
    of standard output."""
    try:
        chunk = os.read(stream, 2**18)
    except BlockingIOError:
        return False
    heard.take(chunk, is_output=stream == output)
    return bool(chunk)


def memory_file(content: bytes) -> io.FileIO:
    """A file without a name, positioned at its beginning; only processes that receive its
    descriptor can read it."""
    file = io.FileIO(os.memfd_create("payload"), "r+")
    view = memoryview(content)
    while view:
        view = view[file.write(view) :]
    file.seek(0)
    return file
