"""Process 1 of a worker: a warm interpreter that forks the processes of every job and ends them.

It reads nothing of a job but numbers. Programs, tests, outputs and reports are descriptors, which
it hands on, so that no fork holds an earlier program, what it printed or what it was asked; and
nothing of a job is left when the next one starts.
"""

import contextlib
import gc
import importlib
import json
import os
import random
import signal
import socket
import time
from typing import Any, NoReturn

from . import candidate, forks, jobs, limits, processes, root, seccomp, wire


def serve(settings: str) -> NoReturn:
    """Make the sandbox's inside, say so, and run jobs until the grader is gone."""
    place = forks.Place(**json.loads(settings))
    try:
        control = socket.socket(fileno=os.dup(0))
        prepare(place)
        candidate.open_streams()
        random.seed(0)  # a program draws the same numbers whenever it is graded, as do its tests
        settle(place)
        wire.send_frame(control, b"ready")
        while serve_one(control, place):
            pass
    finally:  # the grader is gone, most often
        os._exit(0)


def settle(place: forks.Place) -> None:
    """Take what is loaded now as what every fork starts with."""
    gc.collect()
    gc.freeze()  # so that collections in the forks do not copy its pages
    place.address_space = limits.address_space()


def serve_one(control: socket.socket, place: forks.Place) -> bool:
    """Receive a job, run it, reply; False where the grader is gone."""
    received = jobs.receive_job(control)
    if received is None:
        return False
    numbers, descriptors = received
    if numbers.heavy and not place.loaded:
        preload(place)
    job = jobs.Job(numbers)
    with socket.socket(fileno=descriptors[0]) as connection:
        reply: dict[str, Any] = {}
        try:
            try:
                forks.start(place, job, descriptors[1:])
                jobs.watch(job, connection)
            finally:
                jobs.end(job)
                processes.end_all(namespace=place.isolated)
                for descriptor in descriptors[1:]:
                    os.close(descriptor)
        except OSError as error:  # of this machine, and not of a program
            reply["fault"] = str(error)
        else:
            reply |= {"status": job.status, "detail": job.detail}
            reply |= {"code": job.code, "judge_code": job.judge_code}
            reply["seconds"] = time.monotonic() - job.started
            reply["clean"] = is_empty()
        with contextlib.suppress(OSError):  # nobody asks any more
            wire.send_frame(connection, json.dumps(reply).encode())
    return True


def preload(place: forks.Place) -> None:
    """Load numpy. Its random numbers begin alike in every fork, also those of generators without a
    seed: their entropy comes from a generator that every fork has a copy of."""
    place.loaded = True
    with contextlib.suppress(Exception):  # the program finds it again, and reports it
        bit_generator: Any = importlib.import_module("numpy.random.bit_generator")
        bit_generator.randbits = random.Random(0).getrandbits
        importlib.import_module("numpy.random").seed(0)
    settle(place)


def is_empty() -> bool:
    """Whether a job has left nothing in this process's home, which in a namespace is the judges'
    alone; plain files are removed."""
    with contextlib.suppress(OSError):
        os.chmod(".", 0o700)
        for name in os.listdir():
            with contextlib.suppress(OSError):
                os.unlink(name)
        return not os.listdir()
    return False


def prepare(place: forks.Place) -> None:
    """Finish the inside that the backend has started, then give up the privileges for it."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # which process 1 does not receive
    with contextlib.suppress(OSError), open("/proc/self/oom_score_adj", "w") as file:
        file.write("1000")  # before the grader, should memory run out
    if place.layout is not None:
        root.build_root(place.layout, place.home)
    if place.isolated:
        root.make_devices_read_only()
        with contextlib.suppress(OSError):
            root.forbid_namespaces()
        with contextlib.suppress(OSError):
            socket.sethostname("sandbox")
        root.mount_home(place.home, place.uid or 0)  # for judges
        os.chdir(place.home)
        limits.seal(place.uid)
    else:
        limits.prctl(limits.PR_SET_NO_NEW_PRIVS, 1)
        limits.prctl(limits.PR_SET_CHILD_SUBREAPER, 1)
    if place.watched and not os.path.exists("/proc/self"):
        raise OSError("neither an unprivileged user nor /proc, so processes cannot be counted")
    limits.guard(with_parent=place.isolated)
    limits.limit_process(place.num_processes)
    if place.isolated:
        place.filter = seccomp.load_filter(setup=False)
    if (general := seccomp.load_filter(setup=place.isolated)) is not None:
        general.install()
    for name in ("PYTHONHASHSEED", "OPENBLAS_NUM_THREADS", "MALLOC_ARENA_MAX", "PWD"):
        os.environ.pop(name, None)
