"""The processes below this one: counted, killed, reaped."""

import contextlib
import os
import re
import signal

PRIVATE = re.compile(rb"^Rss(?:Anon|Shmem):\s+(\d+) kB", re.MULTILINE)
PROPORTIONAL = re.compile(rb"^Pss_(?:Anon|Shmem):\s+(\d+) kB", re.MULTILINE)


def children() -> list[int]:
    """Children of this process that have not been reaped, orphans it has been given included."""
    try:
        # Without Python's file objects: in a fork their pages cost 50 faults.
        descriptor = os.open(f"/proc/self/task/{os.getpid()}/children", os.O_RDONLY)
        data = os.read(descriptor, 2**16)
        os.close(descriptor)
    except OSError:  # no /proc, or a kernel without this file
        return descendants()
    return list(map(int, data.split()))


def descendants() -> list[int]:
    """All processes below this one that have not ended."""
    parents: dict[int, list[int]] = {}
    with contextlib.suppress(OSError):
        for name in os.listdir("/proc"):
            if name.isdigit():
                with contextlib.suppress(OSError), open(f"/proc/{name}/stat", "rb") as file:
                    words = file.read().rpartition(b")")[2].split()
                    if words[0] != b"Z":
                        parents.setdefault(int(words[1]), []).append(int(name))
    pids, waiting = [], [os.getpid()]
    while waiting:
        below = parents.get(waiting.pop(), [])
        pids += below
        waiting += below
    return pids


def neighbours() -> list[int]:
    """All other processes of this namespace: what `descendants` gives process 1, at a fraction of
    the time, which counts where a fork bomb competes for it."""
    with contextlib.suppress(OSError):
        return [int(name) for name in os.listdir("/proc") if name.isdigit() and name != "1"]
    return []


def busy_threads(pids: list[int]) -> tuple[list[int], set[bytes]]:
    """Threads of these processes that run or could run now, and the sessions they belong to."""
    threads, sessions = [], set()
    for pid in pids:
        with contextlib.suppress(OSError):
            for name in os.listdir(f"/proc/{pid}/task"):
                with open(f"/proc/{pid}/task/{name}/stat", "rb") as file:
                    state, _, _, session = file.read().rpartition(b")")[2].split()[:4]
                if state == b"R":
                    threads.append(int(name))
                    sessions.add(session)
    return threads, sessions


def private_bytes(pid: int) -> int:
    """Memory of a process that is in no file, 0 where it has ended: its own and what it shares,
    which is counted for each process that has it."""
    return kibibytes(f"/proc/{pid}/status", PRIVATE)


def proportional_bytes(pid: int) -> int:
    """The same with shared pages divided among those that share them, which takes the kernel longer
    to count; `private_bytes` where it does not tell."""
    return kibibytes(f"/proc/{pid}/smaps_rollup", PROPORTIONAL) or private_bytes(pid)


def kibibytes(path: str, pattern: re.Pattern[bytes]) -> int:
    """The sum of the lines that `pattern` finds, in bytes."""
    try:
        with open(path, "rb") as file:
            return 1024 * sum(map(int, pattern.findall(file.read())))
    except OSError:
        return 0


def end_all(*, namespace: bool) -> None:
    """Kill and reap everything below this process; in a `namespace`, of which it is process 1, in
    one step that nothing can run away from."""
    if namespace:
        with contextlib.suppress(ProcessLookupError):
            os.kill(-1, signal.SIGKILL)
    else:
        while children() and (pids := descendants()):
            for pid in pids:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            reap(wait=False)
    reap(wait=True)


def reap(*, wait: bool) -> None:
    """Collect those that have ended, or with `wait` all until no child is left."""
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, 0 if wait else os.WNOHANG)[0]:
            pass
