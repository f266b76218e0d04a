"""One writer at a time, on one machine and on several that share a folder.

On one kernel `flock` decides, and the kernel frees it when a process ends, however it ends. Between
machines `flock` cannot be relied on (NFS without a lock daemon, Lustre with `localflock`), so the
holder also keeps a file beside the lock, which it creates exclusively and writes again every few
seconds. A machine that sees the file change waits; one that has watched it stand still for a minute
takes it over. Only the watcher's own monotonic clock counts, so clocks may differ and go back.
"""

import json
import socket
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from ssd.artifacts.files import explained
from ssd.errors import HeldError

LOCK = ".lock"
BEAT_SECONDS = 5.0
STILL_SECONDS = 60.0
"""After so long without a beat a holder on another machine counts as dead. A process that was
stopped for longer and goes on would be a second writer: files stay whole, work is done twice."""
SETTLE_SECONDS = 2.0
"""Two machines may take over at once: the later one's file stands, and the earlier one sees it."""


@contextmanager
def holding(lock_file: Path, path: Path, *, wait: bool = True) -> Iterator[None]:
    """Hold the lock for writing `path`; prints a line and waits while another process holds it.

    Raises:
        HeldError: another process holds it and `wait` is false.
    """
    with explained(path):
        lock = _flock(lock_file, path, wait)
    try:
        with _beating(lock_file.with_name(f"{lock_file.name}.owner"), path, wait):
            yield
    finally:
        # The file stays: processes that wait for it would not see that it was deleted.
        lock.release()


def _flock(lock_file: Path, path: Path, wait: bool) -> FileLock:
    while True:
        lock_file.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(lock_file)
        try:
            lock.acquire(timeout=0)
        except Timeout as error:
            _refuse_or_say("another process", path, wait, error)
            lock.acquire()
        if lock_file.exists():
            return lock
        lock.release()  # the folder was pruned while this process waited


def _refuse_or_say(who: str, path: Path, wait: bool, cause: Exception | None = None) -> None:
    if not wait:
        raise HeldError(f"{path} is being written by {who}: let it end first") from cause
    print(f"waiting: {who} is writing {path}", flush=True)


@contextmanager
def _beating(owner: Path, path: Path, wait: bool) -> Iterator[None]:
    """Own a file that other machines see, and write it again and again."""
    record = {"host": socket.gethostname(), "kernel": kernel(), "token": uuid.uuid4().hex}
    with explained(path):
        _claim(owner, record, path, wait)
    ended = threading.Event()

    def beat() -> None:
        number = 0
        while not ended.wait(BEAT_SECONDS) and _token(_read(owner)) == record["token"]:
            number += 1
            with suppress(OSError):  # a full disk: other machines see it stand still
                owner.write_text(json.dumps(record | {"beat": number}))

    thread = threading.Thread(target=beat, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
        if _token(_read(owner)) == record["token"]:
            owner.unlink(missing_ok=True)


def _claim(owner: Path, record: dict[str, Any], path: Path, wait: bool) -> None:
    said = False
    while not _create(owner, record):
        holder = _read(owner)
        if holder is None:
            continue  # released in between
        if _parse(holder).get("kernel") == record["kernel"]:
            owner.unlink(missing_ok=True)  # flock, which this process holds, says that it has ended
            continue
        if not said or not wait:
            _refuse_or_say(
                f"a process on {_parse(holder).get('host', 'another machine')}", path, wait
            )
            said = True
        if _stands_still(owner, holder):
            owner.unlink(missing_ok=True)
            if _create(owner, record):
                time.sleep(SETTLE_SECONDS)
                if _token(_read(owner)) == record["token"]:
                    return


def _create(owner: Path, record: dict[str, Any]) -> bool:
    try:
        with owner.open("x") as file:  # exclusive on NFS too, since version 3
            file.write(json.dumps(record))
    except FileExistsError:
        return False
    return True


def _stands_still(owner: Path, content: str) -> bool:
    """Whether the file keeps its content for `STILL_SECONDS`; returns as soon as it changes."""
    watched = time.monotonic()
    while time.monotonic() - watched < STILL_SECONDS:
        time.sleep(min(1.0, STILL_SECONDS / 10))
        if _read(owner) != content:
            return False
    return True


def _read(owner: Path) -> str | None:
    try:
        return owner.read_text(errors="replace")  # opened anew: NFS then asks the server
    except FileNotFoundError:
        return None


def _parse(content: str) -> dict[str, Any]:
    try:
        record = json.loads(content)
    except ValueError:  # another machine is writing it
        return {}
    return record if isinstance(record, dict) else {}


def _token(content: str | None) -> str | None:
    return None if content is None else _parse(content).get("token")


@cache
def kernel() -> str:
    """What tells this running kernel from every other one."""
    boot = Path("/proc/sys/kernel/random/boot_id")
    return boot.read_text().strip() if boot.is_file() else socket.gethostname()
