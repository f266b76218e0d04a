"""What an export takes over from its base as it is: tensors that are not loaded, and files."""

import copy
import shutil
from pathlib import Path
from typing import Any

from safetensors.torch import save_file

from ssd.artifacts.files import write_json
from ssd.models.names import (
    CARRIED_FILES,
    MODEL_CONFIG,
    MODEL_WEIGHTS,
    WEIGHTS_INDEX,
)
from ssd.models.tensors import account, read_tensors, tensor_files
from ssd.models.weights import read_model_json, weight_map

CARRIED = "model-carried-over.safetensors"
ALONE = "model-00001-of-00001.safetensors"
"""What the only file of an export is called once an index stands beside it."""


def carry_files(base: Path, folder: Path, dtype: str) -> None:
    """Copy the base's tokenizer, decoding defaults and preprocessors; and its configuration where
    the trained network is a part of the model that it describes."""
    for path in (path for pattern in CARRIED_FILES for path in base.glob(pattern)):
        copy_to = folder / path.relative_to(base)
        copy_to.parent.mkdir(exist_ok=True)
        shutil.copy2(path, copy_to)
    whole, part = (read_model_json(path, MODEL_CONFIG) for path in (base, folder))
    if whole.get("model_type") != part.get("model_type"):
        write_json(folder / MODEL_CONFIG, _in_dtype(whole, dtype))


def carry_tensors(base: Path, folder: Path) -> list[str]:
    """Write the base's tensors that transformers does not load beside those of the export.

    Returns:
        their names.
    """
    names = account(base).passed_over
    if not names:
        return []
    if not (folder / WEIGHTS_INDEX).is_file():
        files = dict.fromkeys(tensor_files(folder), ALONE)
        (folder / MODEL_WEIGHTS).rename(folder / ALONE)
    else:
        files = weight_map(folder)
    tensors = read_tensors(base, names)
    save_file(tensors, folder / CARRIED, metadata={"format": "pt"})
    size = sum(
        path.stat().st_size for path in {folder / file for file in {*files.values(), CARRIED}}
    )
    index = {"metadata": {"total_size": size}, "weight_map": files | dict.fromkeys(names, CARRIED)}
    write_json(folder / WEIGHTS_INDEX, index)
    return names


def _in_dtype(config: dict[str, Any], dtype: str) -> dict[str, Any]:
    """A model's configuration for weights of another type, no longer quantised."""
    changed = copy.deepcopy(config)
    for fields in (changed, changed.get("text_config", {})):
        fields.pop("quantization_config", None)
        fields.pop("torch_dtype", None)
        fields["dtype"] = dtype
    return changed
