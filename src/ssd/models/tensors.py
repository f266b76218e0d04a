"""A checkpoint's tensors by name, and which of them transformers loads; the weights stay on disk.

The loader itself says so: it fills an empty network from tensors that have a name, a shape and a
type, and that remember whether they were asked for. So renamed, stacked and dequantised tensors are
counted as it counts them.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ssd.errors import ModelError, one_line
from ssd.models.names import WEIGHTS_INDEX
from ssd.models.weights import quantisation, weight_files, weight_map

ROWS = 4096
"""Rows of two matrices that are compared at a time."""


@dataclass(slots=True)
class Header:
    """A stored tensor without its numbers, as the loader takes it."""

    shape: list[int]
    dtype: torch.dtype
    read: bool = False

    def __getitem__(self, _: Any) -> Tensor:
        self.read = True
        return torch.empty(self.shape, dtype=self.dtype, device="meta")

    def get_dtype(self) -> str:
        """The type as safetensors writes it; the loader asks whether it begins with F or BF."""
        return "F" if self.dtype.is_floating_point else "I"


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """Where the tensors of a checkpoint go, and which ones the architecture finds nowhere."""

    stored: list[str]
    passed_over: list[str]
    """Stored tensors that the loader does not ask for."""
    missing: list[str]
    """Parameters that no stored tensor fills: they would be random."""
    misshapen: list[str]
    """Parameters whose stored tensor has another shape, with both shapes."""
    tied: dict[str, str]
    """Parameters that are another one, by name."""
    skeleton: Any
    """The network on the meta device."""


def tensor_files(folder: Path) -> dict[str, Path]:
    """The file of every tensor of a checkpoint folder, by name.

    Raises:
        ModelError: a file is damaged, or the index does not describe what the files hold.
    """
    index = folder / WEIGHTS_INDEX
    if not index.is_file():
        return {name: path for path in weight_files(folder) for name in _names(path)}
    listed = weight_map(folder)
    contents = {name: set(_names(folder / name)) for name in sorted(set(listed.values()))}
    absent = sorted(name for name, file in listed.items() if name not in contents[file])
    if absent:
        raise ModelError(
            f"{index} places {absent[0]} in {listed[absent[0]]}, which does not hold it (and "
            f"{len(absent) - 1} more): copy or download the model again"
        )
    return {name: folder / file for name, file in listed.items()}


def tensor_names(folder: Path) -> set[str]:
    """Names of a checkpoint folder's tensors."""
    return set(tensor_files(folder))


def read_tensors(folder: Path, names: list[str]) -> dict[str, Tensor]:
    """These tensors of a checkpoint folder, on the CPU as they are stored."""
    files = tensor_files(folder)
    tensors = {}
    for name in names:
        with _opened(files[name]) as file:
            tensors[name] = file.get_tensor(name)
    return tensors


def account(folder: Path) -> Account:
    """What the loader does with every tensor of the checkpoint in `folder`.

    Raises:
        ModelError: a file of the checkpoint is damaged.
    """
    from transformers import AutoConfig, AutoModelForCausalLM, Mxfp4Config

    headers = read_headers(folder)
    config = AutoConfig.from_pretrained(folder)
    settings: dict[str, Any] = {"dtype": torch.bfloat16, "device_map": {"": "meta"}}
    if quantisation(folder) == "mxfp4":
        settings["quantization_config"] = Mxfp4Config(dequantize=True)
    with torch.device("meta"):
        empty: Any = AutoModelForCausalLM.from_config(config)
    # The class of the network itself: the automatic one wants a folder and reads it.
    network, report = type(empty).from_pretrained(
        None, config=empty.config, state_dict=headers, output_loading_info=True,
        ignore_mismatched_sizes=True, **settings,
    )  # fmt: skip
    misshapen = [
        f"{name} {_shape(stored)}, not {_shape(expected)}"
        for name, stored, expected in sorted(report["mismatched_keys"])
    ]
    return Account(
        stored=sorted(headers),
        passed_over=sorted(name for name, header in headers.items() if not header.read),
        missing=sorted(report["missing_keys"]),
        misshapen=misshapen,
        tied=dict(network.all_tied_weights_keys),
        skeleton=network,
    )


def read_headers(folder: Path) -> dict[str, Header]:
    """Shape and type of every tensor of a checkpoint folder."""
    by_file: dict[Path, list[str]] = {}
    for name, path in tensor_files(folder).items():
        by_file.setdefault(path, []).append(name)
    headers = {}
    for path, names in by_file.items():
        with _opened(path) as file:
            for name in names:
                piece = file.get_slice(name)
                headers[name] = Header(piece.get_shape(), _dtype(piece))
    return headers


def equal(folder: Path, first: str, second: str) -> bool:
    """Whether two stored matrices are the same, read a few rows at a time."""
    files = tensor_files(folder)
    with _opened(files[first]) as left_file, _opened(files[second]) as right_file:
        left, right = left_file.get_slice(first), right_file.get_slice(second)
        if left.get_shape() != right.get_shape():
            return False
        starts = range(0, left.get_shape()[0], ROWS)
        return all(torch.equal(left[i : i + ROWS], right[i : i + ROWS]) for i in starts)


def _opened(path: Path) -> Any:
    from safetensors import SafetensorError, safe_open

    try:
        return safe_open(path, "pt")
    except (SafetensorError, OSError) as error:
        raise ModelError(
            f"{path} cannot be read ({one_line(error)[:120]}): it is damaged or not whole, copy "
            "or download it again"
        ) from error


def _names(path: Path) -> list[str]:
    with _opened(path) as file:
        return list(file.keys())


def _dtype(piece: Any) -> torch.dtype:
    """The type of a stored tensor; an empty slice carries it."""
    empty: Tensor = piece[:0] if piece.get_shape() else piece[...]
    return empty.dtype


def _shape(shape: Any) -> str:
    return f"({', '.join(map(str, shape))})"
