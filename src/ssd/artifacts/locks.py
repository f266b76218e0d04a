"""One writer at a time."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from ssd.artifacts.files import explained


@contextmanager
def holding(lock_file: Path, path: Path) -> Iterator[None]:
    """Hold the lock for writing `path`; prints a line and waits while another process holds it."""
    with explained(path):
        lock_file.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(lock_file)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            print(f"waiting: another process is writing {path}", flush=True)
            lock.acquire()
    try:
        yield
    finally:
        # The file stays: processes that wait for it would not see that it was deleted.
        lock.release()
