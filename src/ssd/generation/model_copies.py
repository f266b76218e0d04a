"""A model's files on another machine: used where they lie there too, copied where they do not."""

import fcntl
import hashlib
import os
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from ssd.artifacts.fingerprints import hash_file
from ssd.errors import ArtifactError

Listing = dict[str, tuple[int, str]]
"""Size and SHA-256 of each file below a folder."""
Read = Callable[[Path, int, int], bytes]
"""The bytes of a file of the machine that has the model, from an offset, at most so many."""
CHUNK = 64 * 2**20
"""Bytes that are sent at a time."""
COPIES = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "ssd" / "models"
"""Where copies lie; of those that nobody uses, none is kept beside a new one."""


def read(path: Path, offset: int, size: int) -> bytes:
    """Part of a file, on the machine that has the model."""
    with path.open("rb") as stream:
        stream.seek(offset)
        return stream.read(size)


def listing(folder: Path) -> Listing:
    """What a folder holds, links followed."""
    paths = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    with ThreadPoolExecutor() as pool:
        digests = list(pool.map(hash_file, paths))
    return {
        str(path.relative_to(folder)): (path.stat().st_size, digest)
        for path, digest in zip(paths, digests, strict=True)
    }


def is_same(folder: Path, wanted: Listing) -> bool:
    """Whether a folder holds these files, to the byte; others may lie beside them."""
    paths = {folder / name: size for name, (size, _) in wanted.items()}
    if not all(path.is_file() and path.stat().st_size == size for path, size in paths.items()):
        return False
    with ThreadPoolExecutor() as pool:
        digests = list(pool.map(hash_file, paths))
    return digests == [digest for _, digest in wanted.values()]


@contextmanager
def at_hand(folder: Path, wanted: Listing, read: Read, copies: Path = COPIES) -> Iterator[Path]:
    """Where this machine has the files of `folder`, in use until the context ends: there, or in a
    copy, which is made where it is missing or damaged.

    Raises:
        ArtifactError: the disk has no room for a copy.
    """
    if is_same(folder, wanted):
        yield folder
        return
    copy = copies / hashlib.sha256(repr(sorted(wanted.items())).encode()).hexdigest()[:16]
    copies.mkdir(parents=True, exist_ok=True)
    with _use(copy) as use:
        with (copies / "lock").open("a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # of a machine's engines one copies, the others wait
            fcntl.flock(use, fcntl.LOCK_SH)
            if not is_same(copy, wanted):
                _drop_unused(copies)
                _copy(copy, folder, wanted, read)
        yield copy


def _use(copy: Path) -> IO[str]:
    """The file whose lock says that a copy is in use; the kernel frees it with its process."""
    return copy.with_suffix(".use").open("a")


def _drop_unused(copies: Path) -> None:
    for copy in [path for path in copies.iterdir() if path.is_dir()]:
        with _use(copy) as use:
            try:
                fcntl.flock(use, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                continue
            shutil.rmtree(copy)


def _copy(copy: Path, folder: Path, wanted: Listing, read: Read) -> None:
    needed = sum(size for size, _ in wanted.values())
    shutil.rmtree(copy, ignore_errors=True)  # a part of a copy, or a damaged one
    copy.mkdir()
    if (free := shutil.disk_usage(copy).free) < needed:
        raise ArtifactError(
            f"no copy of {folder} is here, and {copy.parent} has {free / 2**30:.1f} GiB of the "
            f"{needed / 2**30:.1f} that it takes: make room, or put the model there by hand"
        )
    for name, (size, _) in wanted.items():
        path = copy / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("wb") as stream:
            for offset in range(0, size, CHUNK):
                stream.write(read(folder / name, offset, CHUNK))
    if not is_same(copy, wanted):
        shutil.rmtree(copy)
        raise ArtifactError(f"the copy of {folder} in {copy} differs from it: check that disk")
