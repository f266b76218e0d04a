"""Limits and privileges of a process, through the kernel's own calls."""

import contextlib
import ctypes
import os
import resource
import signal
import struct

libc = ctypes.CDLL(None, use_errno=True)
PR_SET_PDEATHSIG, PR_SET_DUMPABLE, PR_CAPBSET_DROP = 1, 4, 24
PR_SET_CHILD_SUBREAPER, PR_SET_NO_NEW_PRIVS = 36, 38
PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL = 47, 4
NUM_CAPABILITIES = 64
CAPABILITY_HEADER = ctypes.create_string_buffer(struct.pack("=Ii", 0x20080522, 0))
NO_CAPABILITIES = ctypes.create_string_buffer(24)
NUM_FILES = 128
NUM_SIGNALS = 1024
"""Pending signals, and timers; an ordinary user's programs share the user's limit."""
FILE_BYTES = 64 * 2**20
STACK_BYTES = 120 * 2**20
"""The kernel keeps at least 128 MiB of address space free below the stack."""
EXTRA_CPU_SECONDS = 2
"""Beyond the wall-clock limit, which a program with one thread meets first."""


def checked(result: int, what: str) -> int:
    """What a call of libc returns; OSError with its reason where that is negative."""
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, f"{what}: {os.strerror(code)}")
    return result


def prctl(option: int, *arguments: int) -> None:
    """prctl(2); OSError with its reason."""
    words = [ctypes.c_ulong(word) for word in (*arguments, *(0,) * (4 - len(arguments)))]
    checked(libc.prctl(option, *words), f"prctl {option}")


def seal(uid: int | None) -> None:
    """Give up for good what this process and its children could still gain; capabilities that it
    has stay until `drop_privileges`, which takes this `uid`."""
    for capability in range(NUM_CAPABILITIES):
        with contextlib.suppress(OSError):  # unknown to this kernel, or nothing to drop
            prctl(PR_CAPBSET_DROP, capability)
    with contextlib.suppress(OSError):
        prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL)
    if uid is not None:
        os.setgroups([])
    prctl(PR_SET_NO_NEW_PRIVS, 1)


def drop_privileges(uid: int | None) -> None:
    """Give up every capability, with the change to `uid` and the group of the same number where
    that is another user."""
    if uid is not None:
        os.setresgid(uid, uid, uid)
        os.setresuid(uid, uid, uid)
    elif libc.capset(CAPABILITY_HEADER, NO_CAPABILITIES) < 0:
        raise OSError(ctypes.get_errno(), "capset")


def guard(*, with_parent: bool) -> None:
    """No other process may read, trace or write this one's memory; `with_parent`, it dies with the
    thread that started it."""
    prctl(PR_SET_DUMPABLE, 0)  # children have it too
    if with_parent:
        prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def limit_process(num_processes: int) -> None:
    """The limits that all processes of a job share; `num_processes` counts threads too.

    A program may lift its stack's, as some do before they recurse: memory bounds it anyway.
    """
    for kind, value in (
        (resource.RLIMIT_NPROC, num_processes),
        (resource.RLIMIT_NOFILE, NUM_FILES),
        (resource.RLIMIT_FSIZE, FILE_BYTES),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_MSGQUEUE, 0),
        (resource.RLIMIT_SIGPENDING, NUM_SIGNALS),
        (resource.RLIMIT_MEMLOCK, 0),
    ):
        set_limit(kind, value)
    hard = resource.getrlimit(resource.RLIMIT_STACK)[1]
    soft = STACK_BYTES if hard == resource.RLIM_INFINITY else min(STACK_BYTES, hard)
    resource.setrlimit(resource.RLIMIT_STACK, (soft, hard))


def set_limit(kind: int, value: int) -> None:
    """Set a limit for good, or leave a lower one."""
    hard = resource.getrlimit(kind)[1]
    most = value if hard == resource.RLIM_INFINITY else min(value, hard)
    resource.setrlimit(kind, (most, most))


def address_space() -> int:
    """Bytes of address space that this process has."""
    try:
        with open("/proc/self/statm") as file:
            return int(file.read().split()[0]) * resource.getpagesize()
    except OSError:  # a container in which /proc cannot be mounted
        return 2**28
