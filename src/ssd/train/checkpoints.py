"""Checkpoints of a training: weights, and in the newest one the optimizer's state.

`checkpoints/step-000012/` holds `weights/` and `optimizer/` in torch's distributed format, which
any number of processes writes and any other number reads. A folder appears under its name only when
it is whole. Learning rate and data order follow from the step, so nothing else is stored.
"""

import math
import pickle
import shutil
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.filesystem import FileSystemReader
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_model_state_dict,
    get_optimizer_state_dict,
    set_model_state_dict,
    set_optimizer_state_dict,
)
from torch.distributed.checkpoint.state_dict_loader import load as read_state
from torch.distributed.checkpoint.state_dict_saver import save as write_state

from ssd.artifacts.files import read_json, require_space, write_json
from ssd.artifacts.names import CHECKPOINTS, STEP_OPTIMIZER, STEP_STATE, STEP_WEIGHTS
from ssd.errors import ArtifactError
from ssd.run.lineage import step_folder, step_folders

METADATA = 2**20
"""Bytes that a checkpoint takes beside its tensors, at most, for models of some hundred layers."""


def save(
    folder: Path,
    step: int,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    *,
    fingerprint: str,
    keep: int | None,
) -> None:
    """Store the state after `step` optimizer steps; then drop older optimizer states, and
    checkpoints beyond the newest `keep`. Every process must call it."""
    state = {
        STEP_WEIGHTS: trained_weights(model),
        STEP_OPTIMIZER: get_optimizer_state_dict(model, optimizer),
    }
    final = step_folder(folder, step)
    temporary = final.with_name(f".{final.name}.tmp")
    leads = _rank() == 0
    if leads:
        shutil.rmtree(temporary, ignore_errors=True)
        require_room(folder, state, step)
        temporary.mkdir(parents=True)
    _barrier()
    try:
        for part, tensors in state.items():
            _write(temporary / part, tensors)
    except CheckpointException:  # does not say that the disk is full
        shutil.rmtree(temporary)
        require_room(folder, state, step)
        raise
    if leads:
        write_json(temporary / STEP_STATE, {"step": step, "fingerprint": fingerprint})
        shutil.rmtree(final, ignore_errors=True)
        temporary.rename(final)
        prune(folder, keep)
    _barrier()


def prune(folder: Path, keep: int | None, *, resumable: bool = True) -> None:
    """Drop what a kill cut short, checkpoints beyond the newest `keep` (None keeps all), and every
    optimizer state but, where training goes on, the newest."""
    for path in (folder / CHECKPOINTS).glob(".step-*.tmp"):
        shutil.rmtree(path)
    newest_first = sorted(step_folders(folder).items(), reverse=True)
    for position, (_, path) in enumerate(newest_first):
        if keep is not None and position >= keep:
            shutil.rmtree(path)
        elif position or not resumable:
            shutil.rmtree(path / STEP_OPTIMIZER, ignore_errors=True)


def last_step(folder: Path, fingerprint: str) -> int:
    """The newest step to resume from; 0 where there is none.

    Raises:
        ArtifactError: a checkpoint belongs to another configuration, or all are damaged.
    """
    damaged: dict[Path, str] = {}
    for step, path in sorted(resumable(folder).items(), reverse=True):
        require_owner(path, fingerprint)
        if (file := damaged_file(path)) is None:
            return step
        damaged[path] = file
    for path, file in damaged.items():  # the newest
        raise ArtifactError(
            f"{path} is damaged ({file} is missing or cut short), and no earlier checkpoint can be "
            "resumed: delete that folder, and the same command trains from the first step on"
        )
    return 0


def require_owner(path: Path, fingerprint: str) -> None:
    """Raise `ArtifactError` where a checkpoint that says whose it is belongs to another
    configuration."""
    try:
        owner = read_json(path / STEP_STATE)["fingerprint"]
    except (OSError, ArtifactError):  # `damaged_file` names it
        return
    if owner != fingerprint:
        raise ArtifactError(
            f"{path} belongs to another configuration (checkpoint {owner}, this run's is "
            f"{fingerprint}): delete {path.parents[1]}, or run in the output_dir where it was made"
        )


def resumable(folder: Path) -> dict[int, Path]:
    """The checkpoints that hold the optimizer's state, by step."""
    folders = step_folders(folder)
    return {step: path for step, path in folders.items() if (path / STEP_OPTIMIZER).is_dir()}


def damaged_file(path: Path) -> str | None:
    """The first file of a checkpoint that is missing or shorter than it was written; None where all
    are whole."""
    try:
        read_json(path / STEP_STATE)
    except (OSError, ArtifactError):
        return STEP_STATE
    for part in (STEP_WEIGHTS, STEP_OPTIMIZER):
        try:
            entries = FileSystemReader(path / part).read_metadata().storage_data.values()
        except (OSError, EOFError, pickle.UnpicklingError):
            return f"{part}/.metadata"
        for entry in entries:
            file = path / part / entry.relative_path
            if not file.is_file() or file.stat().st_size < entry.offset + entry.length:
                return f"{part}/{entry.relative_path}"
    return None


def drop_damaged(folder: Path) -> None:
    """Delete checkpoints that cannot be read, and say so: `prune` would keep them as the newest."""
    for path in resumable(folder).values():
        if file := damaged_file(path):
            print(f"training: {path} is damaged ({file}) and deleted", flush=True)
            shutil.rmtree(path)


def load(folder: Path, step: int, model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    """Restore the state after `step` optimizer steps. Every process must call it."""
    path = step_folder(folder, step)
    weights = trained_weights(model)
    _read(path / STEP_WEIGHTS, weights)
    set_model_state_dict(model, weights, options=StateDictOptions(strict=False))
    state = get_optimizer_state_dict(model, optimizer)
    _read(path / STEP_OPTIMIZER, state)  # in place
    paged = [
        (parameter, name, moment)
        for parameter, moments in optimizer.state.items()
        for name, moment in moments.items()
        if getattr(moment, "is_paged", False)
    ]
    set_optimizer_state_dict(model, optimizer, state)
    for parameter, name, moment in paged:  # bitsandbytes has put copies on the GPU
        optimizer.state[parameter][name] = moment


def trained_weights(model: nn.Module, options: StateDictOptions | None = None) -> dict[str, Any]:
    """The weights that are trained, each once; frozen ones are the base model's."""
    names = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    state = get_model_state_dict(model, options=options)
    return {name: value for name, value in state.items() if name in names}


def require_room(folder: Path, state: dict[str, Any], step: int) -> None:
    """Raise `ArtifactError` where a checkpoint does not fit onto the disk behind `folder`."""
    require_space(folder, stored_bytes(state) + METADATA, f"the checkpoint after step {step}")


def stored_bytes(state: Any) -> int:
    """Bytes of all tensors in nested dictionaries, sharded ones counted whole."""
    if isinstance(state, torch.Tensor):
        return math.ceil(state.numel() * _width(getattr(state, "_local_tensor", state)))
    return sum(map(stored_bytes, state.values())) if isinstance(state, dict) else 0


def _width(tensor: Any) -> float:
    """Bytes per element, of torchao's 8-bit moments with their scales."""
    if not hasattr(tensor, "codes"):
        return float(tensor.element_size())
    return 1 + float(tensor.scale.element_size() / tensor.block_size)


def _write(folder: Path, state: dict[str, Any]) -> None:
    write_state(state, checkpoint_id=folder, no_dist=not dist.is_initialized())


def _read(folder: Path, state: dict[str, Any]) -> None:
    read_state(state, checkpoint_id=folder, no_dist=not dist.is_initialized())


def _rank() -> int:
    return dist.get_rank() if dist.is_initialized() else 0


def _barrier() -> None:
    if dist.is_initialized():
        dist.barrier()
