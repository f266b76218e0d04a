"""The processes of one job, forked from process 1 of the worker.

The judge holds the tests. The candidate lives in namespaces of its own, where it can name nothing
else; process 1 of those only sleeps, and with it all that the candidate has started ends.
"""

import contextlib
import os
import pickle
import resource
import socket
from collections.abc import Iterator
from dataclasses import dataclass

from . import candidate, judge, limits, root, seccomp
from .jobs import FAULT, OUT_OF_MEMORY, Job

SPARE = 100
"""Descriptors on their way to 0, 1, 2 and so on."""


@dataclass
class Place:
    """The properties that the backend has given a worker."""

    isolated: bool
    home: str
    uid: int | None
    """The user that programs run as; None for the only user."""
    layout: list[tuple[str, bool]] | None
    """The paths that a root folder shows and hides, if one is to be made."""
    watched: bool
    """Whether the kernel does not bound processes, so that process 1 counts them."""
    num_processes: int
    loaded: bool = False
    """Whether `jobs.HEAVY` was requested."""
    address_space: int = 0
    """Bytes that a fork starts with."""
    filter: seccomp.Filter | None = None
    """The filter of system calls for candidates, stricter than that of process 1 and the judges."""


def start(place: Place, job: Job, descriptors: list[int]) -> None:
    """Fork the processes of a job.

    Its `descriptors` are the request, the payload (the tests, or what the program reads), where the
    candidate prints, and where the judge reports, or the program prints its errors.
    """
    request, payload, output, other = descriptors
    job.setup, failure = os.pipe()
    if place.isolated:
        job.init = root.start_init()
    if job.numbers.judged:
        ours, theirs = socket.socketpair()
        job.judge = os.fork()
        if job.judge == 0:
            with leaving():
                start_judge(place, job, [ours.fileno(), payload, other])
        stdin = os.open(os.devnull, os.O_RDONLY)
        handed = [stdin, output, output, theirs.fileno(), request]
    else:
        handed = [payload, output, other, request]
    job.candidate = root.fork_into(job.init) if job.init else os.fork()
    if job.candidate == 0:
        with leaving():
            start_candidate(place, job, handed, failure)
    os.close(failure)
    if job.numbers.judged:
        os.close(stdin)
        ours.close()
        theirs.close()


def start_judge(place: Place, job: Job, descriptors: list[int]) -> None:
    """In the judge's process: run the tests; never returns."""
    null = os.open(os.devnull, os.O_RDWR)
    take(null, null, null, *descriptors)
    try:
        give_up_rights(place, job)
    except OSError as error:
        os.write(5, str(error).encode())
        os._exit(FAULT)
    judge.judge(socket.socket(fileno=3), 4, 5, job.numbers.call_timeout)


def start_candidate(place: Place, job: Job, descriptors: list[int], failure: int) -> None:
    """In the candidate's process: set up (errors go to `failure`) and run it; never returns."""
    os.setsid()
    try:
        if place.isolated:
            root.enter(place.home, place.uid or 0)
        seconds = int(job.numbers.timeout) + limits.EXTRA_CPU_SECONDS
        limits.set_limit(resource.RLIMIT_CPU, seconds)  # its threads together
        give_up_rights(place, job)
        if place.filter is not None:
            place.filter.install()
    except OSError as error:
        os.write(failure, str(error).encode())
        raise
    if place.watched:  # otherwise many of them keep process 1 from running
        os.nice(19)
    take(*descriptors)
    with open(len(descriptors) - 1, "rb") as file:
        request: candidate.Request = pickle.load(file)
    if job.numbers.judged:
        candidate.Server(socket.socket(fileno=3), request).run()
    candidate.run_program(request)


def give_up_rights(place: Place, job: Job) -> None:
    """Leave this process no privilege and a bounded memory."""
    if place.isolated:
        limits.drop_privileges(place.uid)
    limits.set_limit(resource.RLIMIT_AS, place.address_space + job.numbers.memory)


def take(*descriptors: int) -> None:
    """Make `descriptors` 0, 1, 2 and so on, and close every other."""
    for number, descriptor in enumerate(descriptors):  # first where none of the others is
        os.dup2(descriptor, SPARE + number)
    for number in range(len(descriptors)):
        os.dup2(SPARE + number, number)
    os.closerange(len(descriptors), limits.NUM_FILES)


@contextlib.contextmanager
def leaving() -> Iterator[None]:
    """In a forked process: never return to the code of the one that forked it."""
    try:
        yield
    except MemoryError:
        os._exit(OUT_OF_MEMORY)
    except BaseException as error:
        with contextlib.suppress(BaseException):
            candidate.last_words(error)
    finally:
        os._exit(1)
