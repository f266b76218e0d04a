"""Altered copies of a real checkpoint."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

IGNORED = "mtp.fc.weight"
"""A tensor that transformers passes over, as Qwen3.5 has them."""
Tensors = dict[str, torch.Tensor]


def change_json(folder: Path, name: str, **fields: Any) -> None:
    """Set fields of a JSON file, which may not be there yet."""
    path = folder / name
    held = json.loads(path.read_text()) if path.is_file() else {}
    path.write_text(json.dumps({**held, **fields}))


def change_tensors(folder: Path, change: Callable[[Tensors], object]) -> None:
    """Change the tensors of a checkpoint in one file."""
    path = folder / "model.safetensors"
    tensors = load_file(path)
    change(tensors)
    save_file(tensors, path, metadata={"format": "pt"})


def add_ignored(folder: Path) -> torch.Tensor:
    """Add a tensor that the loader passes over."""
    added = torch.arange(64 * 128, dtype=torch.bfloat16).reshape(64, 128)
    change_tensors(folder, lambda tensors: tensors.update({IGNORED: added}))
    return added


def shard(folder: Path) -> None:
    """Split a checkpoint in one file into two with an index."""
    path = folder / "model.safetensors"
    tensors = load_file(path)
    names = sorted(tensors)
    halves = {
        "model-00001-of-00002.safetensors": names[::2],
        "model-00002-of-00002.safetensors": names[1::2],
    }
    for file, part in halves.items():
        save_file({name: tensors[name] for name in part}, folder / file, metadata={"format": "pt"})
    path.unlink()
    places = {name: file for file, part in halves.items() for name in part}
    change_json(folder, "model.safetensors.index.json", metadata={}, weight_map=places)
