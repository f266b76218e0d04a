"""Whether a training's checkpoint is as it was written: digests of its files, in `state.json`.

XXH3 and not SHA-256, which artifacts have: it finds every flipped bit, takes a fifth of the time,
and here nobody has to be kept from forging a file. Each process digests the files that it wrote.
"""

import pickle
from pathlib import Path
from typing import Any

import xxhash
from torch.distributed.checkpoint.filesystem import FileSystemReader

from ssd.artifacts.files import read_json, write_json
from ssd.artifacts.fingerprints import fingerprint
from ssd.artifacts.names import STEP_OPTIMIZER, STEP_STATE, STEP_WEIGHTS
from ssd.errors import ArtifactError
from ssd.train.processes import from_all, leads, rank, size

PIECE = 2**22
"""Bytes that are read at once."""


def write_manifest(folder: Path, facts: dict[str, Any]) -> None:
    """Write `state.json`: facts, and the digest of every file below. Every process must call it."""
    written = folder.rglob(f"__{rank()}_*")  # the names that PyTorch gives the files of a rank
    own = [*written, *(folder.rglob(".metadata") if leads() else [])]
    parts = from_all({str(path.relative_to(folder)): digest(path) for path in own})
    state = facts | {"files": {name: value for part in parts for name, value in part.items()}}
    if leads():
        write_json(folder / STEP_STATE, state | {"digest": fingerprint(state)})


def reassign(folder: Path, owner: str) -> None:
    """Make a whole checkpoint one of the training with the fingerprint `owner`."""
    state = read_manifest(folder)
    assert state is not None, folder  # its training's manifest has just been compared
    state["fingerprint"] = owner
    write_json(folder / STEP_STATE, state | {"digest": fingerprint(state)})


def damaged_file(
    folder: Path, parts: tuple[str, ...] = (STEP_WEIGHTS, STEP_OPTIMIZER)
) -> str | None:
    """The first file of a checkpoint's parts that is missing or not as it was written; None where
    all are. Every process must call it, and looks at a share of the files."""
    faults = from_all(_first_fault(folder, parts))
    return next((fault for fault in faults if fault is not None), None)


def read_manifest(folder: Path) -> dict[str, Any] | None:
    """The content of `state.json`; None where it is missing or not as it was written."""
    try:
        state = read_json(folder / STEP_STATE)
    except (OSError, ArtifactError):
        return None
    if not isinstance(state, dict):
        return None
    own = state.pop("digest", None)
    undigested = own is None and "files" not in state  # from before there were digests
    return state if undigested or own == fingerprint(state) else None


def _first_fault(folder: Path, parts: tuple[str, ...]) -> str | None:
    state = read_manifest(folder)
    if state is None:
        return STEP_STATE
    if "files" not in state:
        return _cut_short(folder, parts)
    names: list[str] = sorted(name for name in state["files"] if name.startswith(parts))
    for name in names[rank() :: size()]:
        path = folder / name
        if not path.is_file() or digest(path) != state["files"][name]:
            return name
    return None


def _cut_short(folder: Path, parts: tuple[str, ...]) -> str | None:
    """The first file of a checkpoint without digests that is missing or too short."""
    for part in parts:
        try:
            entries = FileSystemReader(folder / part).read_metadata().storage_data.values()
        except (OSError, EOFError, pickle.UnpicklingError):
            return f"{part}/.metadata"
        for entry in entries:
            file = folder / part / entry.relative_path
            if not file.is_file() or file.stat().st_size < entry.offset + entry.length:
                return f"{part}/{entry.relative_path}"
    return None


def digest(path: Path) -> str:
    """XXH3 of a file, 128 bits in hexadecimal."""
    state = xxhash.xxh3_128()
    with path.open("rb", buffering=0) as file:
        while piece := file.read(PIECE):
            state.update(piece)
    return state.hexdigest()
