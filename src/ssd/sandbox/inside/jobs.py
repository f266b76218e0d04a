"""One job, as process 1 of the worker sees it: its numbers, its processes, its limits."""

import contextlib
import math
import os
import select
import signal
import socket
import struct
import time
from dataclasses import dataclass, field

from . import processes, wire

HEAVY = "numpy"
"""The module that a worker loads once a program or its tests name it: with it loaded a fork takes
half as long again."""
NUMBERS = struct.Struct("!??ddQ")
NUM_DESCRIPTORS = 5
"""A job's own connection to the grader, its request, its payload, and two pipes."""
HEARTBEAT_SECONDS = 1.0
SAMPLE_SECONDS = 0.02
"""Seconds between two counts of a job's memory and processes."""
LEAVE_SECONDS = 1.0
"""Seconds that the judge may take to report once the candidate has ended, and the candidate to end
once it has closed its connection to the judge."""
OUT_OF_MEMORY, FAULT, GONE = 86, 87, 88
"""Exit codes of our own processes: not even a message could be sent any more; a judge could not
begin; the candidate has closed its connection to it."""
MOST_PROCESSES = 256
"""A job with this many processes is ended if the kernel does not limit them."""
MOST_BUSY, MOST_SESSIONS = 4, 4
"""Threads of a job that may compete with other jobs for processors as equals, and sessions of those
that run: kernels that group threads by session give each the share of a whole job."""


@dataclass(frozen=True, slots=True)
class Numbers:
    """Everything about a job that process 1 of a worker reads."""

    heavy: bool
    """Whether the job names `HEAVY`."""
    judged: bool
    timeout: float
    call_timeout: float | None
    memory: int
    """Bytes."""


def send_job(control: socket.socket, numbers: Numbers, descriptors: list[int]) -> None:
    """Send a job with its `NUM_DESCRIPTORS` descriptors."""
    limit = math.nan if numbers.call_timeout is None else numbers.call_timeout
    fields = numbers.heavy, numbers.judged, numbers.timeout, limit, numbers.memory
    socket.send_fds(control, [NUMBERS.pack(*fields)], descriptors)


def receive_job(control: socket.socket) -> tuple[Numbers, list[int]] | None:
    """The job that `send_job` has sent; None if the other side is gone."""
    message, descriptors, _, _ = socket.recv_fds(control, NUMBERS.size, NUM_DESCRIPTORS)
    if not message:
        return None
    message += wire.receive_exactly(control, NUMBERS.size - len(message))
    heavy, judged, timeout, limit, memory = NUMBERS.unpack(message)
    return Numbers(
        heavy, judged, timeout, None if math.isnan(limit) else limit, memory
    ), descriptors


@dataclass
class Job:
    """The state of a running job."""

    numbers: Numbers
    started: float = field(default_factory=time.monotonic)
    setup: int = -1
    """The pipe on which the candidate's process reports that it could not begin."""
    init: int = 0
    """Process 1 of the candidate's namespaces."""
    candidate: int = 0
    judge: int = 0
    code: int | None = None
    """The candidate's exit code, once it has ended by itself."""
    judge_code: int | None = None
    status: str = ""
    """The limit that the job has met."""
    detail: str = ""


def watch(job: Job, connection: socket.socket) -> None:
    """Wait until the judge has ended, or the program where there is none, or the job has met a
    limit, or the grader hangs up.

    Raises:
        OSError: the candidate's process could not begin.
    """
    poll = select.poll()
    poll.register(connection, select.POLLRDHUP)
    poll.register(job.setup, select.POLLIN)
    pidfds = {os.pidfd_open(pid): pid for pid in (job.candidate, job.judge) if pid}
    for pidfd in pidfds:
        poll.register(pidfd, select.POLLIN)
    deadline = job.started + job.numbers.timeout
    next_sample, next_beat = job.started + SAMPLE_SECONDS, job.started + HEARTBEAT_SECONDS
    try:
        while not job.status and not is_over(job):
            now = time.monotonic()
            if now >= deadline:
                break
            if now >= next_beat:
                next_beat = now + HEARTBEAT_SECONDS
                wire.send_frame(connection, b"")
            if now >= next_sample:
                sample(job)
                next_sample = time.monotonic() + SAMPLE_SECONDS
            for descriptor, _ in poll.poll(1000 * min(SAMPLE_SECONDS, deadline - now)):
                if descriptor == connection.fileno():
                    return
                poll.unregister(descriptor)
                if descriptor == job.setup:
                    if failure := os.read(job.setup, 4096):
                        raise OSError(failure.decode("utf-8", "replace"))
                else:
                    reap(job, pidfds[descriptor])
                    deadline = min(deadline, time.monotonic() + LEAVE_SECONDS)
    finally:
        for pidfd in pidfds:
            os.close(pidfd)
    if not job.status and job.code is None and job.judge_code is None:
        job.status, job.detail = "timeout", f"still running after {job.numbers.timeout:g} s"


def is_over(job: Job) -> bool:
    """Whether there is nothing to wait for."""
    if job.judge and job.judge_code in (None, GONE):
        return job.code is not None and job.judge_code is not None
    return job.judge_code is not None or job.code is not None


def reap(job: Job, pid: int) -> None:
    """Take the exit code of the judge or the candidate, which has ended."""
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    if pid == job.judge:
        job.judge_code = code
    else:
        job.code = code


def end(job: Job) -> None:
    """End all processes of a job: those of the candidate's namespaces with their process 1."""
    if job.setup >= 0:
        os.close(job.setup)
    left = [job.candidate if job.code is None else 0, job.judge if job.judge_code is None else 0]
    for pid in (job.init, *left):
        if pid:
            os.kill(pid, signal.SIGKILL)
    # Process 1 last: it ends when all others of its namespace have been reaped.
    for pid in (*left, job.init):
        if pid:
            os.waitpid(pid, 0)


def sample(job: Job) -> None:
    """Compare the resources that all processes of a job use with their limits. From then on a job
    with many busy threads waits behind all others, so that it does not slow other programs."""
    pids = processes.neighbours() if os.getpid() == 1 else processes.descendants()
    pids = [pid for pid in pids if pid != job.judge]
    if len(pids) > MOST_PROCESSES:
        job.status, job.detail = "error", f"more than {MOST_PROCESSES} processes"
        return
    threads, sessions = processes.busy_threads(pids)
    if len(sessions) > MOST_SESSIONS:
        job.status, job.detail = "error", f"more than {MOST_SESSIONS} sessions at work"
        return
    if len(threads) > MOST_BUSY:
        for thread in threads:
            with contextlib.suppress(OSError):  # it has ended
                os.setpriority(os.PRIO_PROCESS, thread, 19)
    # A fork starts with what this process has.
    base = processes.private_bytes(os.getpid())
    used = sum(max(processes.private_bytes(pid) - base, 0) for pid in pids)
    memory = job.numbers.memory
    most = memory + memory // 4
    if used > most and sum(map(processes.proportional_bytes, pids)) > most:
        job.status, job.detail = "memory", f"used more than {memory // 2**20} MiB"
