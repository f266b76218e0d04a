"""A filter that lets a process make the system calls of `calls.ALLOWED`, and no others. It excludes
what no program here needs: memory that no limit counts, other processes' memory, limits and
priorities, namespaces and mounts, keys, clocks, and sockets that leave the network namespace.
"""

import contextlib
import ctypes
import platform
import struct

from . import calls, limits

AUDIT_ARCH = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
NO_SUCH_CALL, NOT_PERMITTED, NO_SUCH_FAMILY = 38, 1, 97
LOAD, JUMP_EQUAL, JUMP_AT_LEAST, JUMP_SET, RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
NUMBER, ARCH, FIRST, SECOND = 0, 4, 16, 24
"""Offsets in the kernel's description of a call: its number, and its arguments' lower halves."""
ALLOW, KILL, ERRNO = 0x7FFF0000, 0x80000000, 0x00050000
NEW_NAMESPACES = 0x7E020000
"""Flags of clone."""
UNIX, INET, INET6 = 1, 2, 10
PR_SET_SECCOMP, MODE_FILTER = 22, 2


class Filter:
    """The filter, made once for all forks."""

    def __init__(self, program: list[bytes]) -> None:
        self._code = ctypes.create_string_buffer(b"".join(program))
        header = struct.pack("HxxxxxxP", len(program), ctypes.addressof(self._code))
        self._header = ctypes.create_string_buffer(header)
        self._address = ctypes.addressof(self._header)

    def install(self) -> None:
        """Filter this process's calls and its children's for good; needs `no_new_privs`."""
        with contextlib.suppress(OSError):  # a kernel without filters
            limits.prctl(PR_SET_SECCOMP, MODE_FILTER, self._address)


def load_filter(*, setup: bool) -> Filter | None:
    """The filter for this machine, with `setup` one that allows setting jobs up; None if this
    machine's calls are not listed."""
    machine = platform.machine()
    return Filter(build_filter(machine, setup)) if machine in AUDIT_ARCH else None


def build_filter(machine: str, setup: bool) -> list[bytes]:
    """The filter as instructions of the kernel's packet filter."""
    column = list(AUDIT_ARCH).index(machine)
    return [
        step(LOAD, ARCH),
        step(JUMP_EQUAL, AUDIT_ARCH[machine], 1, 0),
        step(RETURN, KILL),  # another architecture's calls have other numbers
        step(LOAD, NUMBER),
        *search(rules(column, setup)),
    ]


def rules(column: int, setup: bool) -> list[tuple[int, list[bytes]]]:
    """The action from each number on, until that of the next rule."""
    denied, allowed = [step(RETURN, ERRNO | NOT_PERMITTED)], [step(RETURN, ALLOW)]
    no_such_call = [step(RETURN, ERRNO | NO_SUCH_CALL)]
    by_number = {pair[column]: allowed for pair in calls.ALLOWED.values()}
    families = demand(FIRST, (UNIX, INET, INET6), NO_SUCH_FAMILY)
    by_number[calls.SOCKET[column]] = families + allowed
    of_itself = demand(FIRST, (0,)) + allowed
    # Process 1 of a worker makes others' threads nice too.
    by_number[calls.SETPRIORITY[column]] = ([] if setup else demand(SECOND, (0,))) + of_itself
    by_number |= {pair[column]: of_itself for pair in calls.OF_THE_CALLER}
    no_namespace = [step(LOAD, FIRST), step(JUMP_SET, NEW_NAMESPACES, 0, 1), *denied]
    by_number[calls.CLONE[column]] = no_namespace + allowed
    if setup:
        by_number |= {pair[column]: allowed for pair in (*calls.SETUP, calls.CLONE)}
    by_number[calls.CLONE3[column]] = no_such_call  # its flags are out of reach; libc has clone
    table: list[tuple[int, list[bytes]]] = []
    for number in range(calls.NEWEST + 1):
        block = by_number.get(number, denied)
        if not table or table[-1][1] != block:
            table.append((number, block))
    return [*table, (calls.NEWEST + 1, no_such_call)]  # those of x32 too


def search(rules: list[tuple[int, list[bytes]]]) -> list[bytes]:
    """A binary search for the rule of a number: the kernel runs the filter once for every number
    when it is installed, which is for every job."""
    if len(rules) == 1:
        return rules[0][1]
    middle = len(rules) // 2
    below, above = search(rules[:middle]), search(rules[middle:])
    return [step(JUMP_AT_LEAST, rules[middle][0], len(below), 0), *below, *above]


def demand(argument: int, values: tuple[int, ...], error: int = NOT_PERMITTED) -> list[bytes]:
    """Refuse a call whose argument is none of `values`."""
    left = range(len(values), 0, -1)
    jumps = [step(JUMP_EQUAL, value, skip, 0) for value, skip in zip(values, left, strict=True)]
    return [step(LOAD, argument), *jumps, step(RETURN, ERRNO | error)]


def step(code: int, value: int, if_true: int = 0, if_false: int = 0) -> bytes:
    """One instruction; jumps are counted from the next one."""
    return struct.pack("HBBI", code, if_true, if_false, value)
