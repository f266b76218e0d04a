"""Files that are whole or absent: written under another name, synced, then renamed. And the file
system's refusals in one line."""

import errno
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ssd.artifacts.fingerprints import hash_content, plain
from ssd.artifacts.places import setting_of
from ssd.errors import ArtifactError

SEALED, TEMPORARY = ".sha256", ".tmp"
"""Ends of the names of hidden files beside those of an unfinished artifact."""


def refusal(error: OSError, path: Path) -> str | None:
    """Why the file system does not create or write a path, and the remedy, in one line; None for
    errors of another kind."""
    setting = setting_of(path)
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return (
            f"no space left while writing {path}: {free_space(path)}; free some, or set "
            f"{setting}=OTHER_FOLDER"
        )
    refused = (PermissionError, NotADirectoryError, FileExistsError)
    if isinstance(error, refused) or error.errno == errno.EROFS:
        return (
            f"cannot write {path} ({error.strerror or error}): set {setting} to a writable folder"
        )
    return None


def free_space(path: Path) -> str:
    """The disk behind a path that need not exist, and what is free there."""
    place = next(
        folder for folder in (path.absolute(), *path.absolute().parents) if folder.exists()
    )
    disk = next(folder for folder in (place, *place.parents) if folder.is_mount())
    usage, state = shutil.disk_usage(place), os.statvfs(place)
    if state.f_files and not state.f_favail:
        return f"the disk at {disk} has none of its {state.f_files:,} inodes free: too many files"
    return f"the disk at {disk} has {mib(usage.free)} of {mib(usage.total)} free"


def mib(num_bytes: float) -> str:
    """`1.2 MiB`; `3,072.0 MiB`."""
    return f"{num_bytes / 2**20:,.1f} MiB"


@contextmanager
def explained(path: Path) -> Iterator[None]:
    """Turn the file system's refusals below into one line that names the folder and the remedy."""
    try:
        yield
    except OSError as error:
        reason = refusal(error, path)
        if reason is None:
            raise
        raise ArtifactError(reason) from error


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary name to write to; the file is then synced and renamed to `path`, or deleted."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}{TEMPORARY}")
    with explained(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            yield temporary
            with temporary.open("rb+") as file:
                os.fsync(file.fileno())
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)


@contextmanager
def sealing(path: Path) -> Iterator[Path]:
    """As `replacing`, with the file's hash beside it, so that a resumed stage knows whether it is
    as it was written. The seals go when a manifest takes their place."""
    with replacing(path) as temporary:
        yield temporary
        seal_of(path).write_text(hash_content(temporary))


def seal_of(path: Path) -> Path:
    """Where the hash of a file of an unfinished artifact stands."""
    return path.with_name(f".{path.name}{SEALED}")


def write_text(path: Path, text: str) -> None:
    """Write a text file atomically."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any) -> None:
    """Write `value` as indented JSON, atomically."""
    write_text(path, json.dumps(plain(value), indent=2, ensure_ascii=False) + "\n")


def read_json(path: Path) -> Any:
    """Read a JSON file written by `write_json`.

    Raises:
        ArtifactError: the file is not JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ArtifactError(f"{path} is damaged ({error}): delete it and run again") from error


def write_rows(path: Path, rows: list[dict[str, Any]]) -> None:
    """Write rows as one Parquet file, atomically, with its seal."""
    import pyarrow
    import pyarrow.parquet

    with sealing(path) as temporary:
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), temporary, compression="zstd")


def read_rows(path: Path) -> list[dict[str, Any]]:
    """Rows of one Parquet file written by `write_rows`."""
    import pyarrow.parquet

    rows: list[dict[str, Any]] = pyarrow.parquet.ParquetFile(path).read().to_pylist()
    return rows


def require_space(folder: Path, needed_bytes: int, purpose: str) -> None:
    """Raise `ArtifactError` where the disk behind `folder` has less than `needed_bytes` free."""
    with explained(folder):
        folder.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(folder).free
    if free < needed_bytes:
        raise ArtifactError(
            f"{purpose} needs about {mib(needed_bytes)} in {folder}, {mib(needed_bytes - free)} "
            f"more than there are: {free_space(folder)}; free some, or set "
            f"{setting_of(folder)}=OTHER_FOLDER"
        )
