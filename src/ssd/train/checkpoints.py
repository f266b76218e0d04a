"""Checkpoints of a training: weights, and in the newest two the optimizer's state.

`checkpoints/step-000012/` holds `weights/` and `optimizer/` in torch's distributed format, which
any number of processes writes and any other number reads, and `state.json` with the digests of
their files, written last. A folder appears under its name only when it is whole. Learning rate and
data order follow from the step, so nothing else is stored.

Two can be resumed: nobody has read the newest one yet, and a disk does not say when it loses a bit.
"""

import math
import shutil
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_model_state_dict,
    get_optimizer_state_dict,
    set_model_state_dict,
    set_optimizer_state_dict,
)
from torch.distributed.checkpoint.state_dict_loader import load as read_state
from torch.distributed.checkpoint.state_dict_saver import save as write_state

from ssd.artifacts.files import free_space, require_space
from ssd.artifacts.names import CHECKPOINTS, STEP_OPTIMIZER, STEP_WEIGHTS
from ssd.artifacts.places import setting_of
from ssd.run.lineage import RESUMABLE, step_folder, step_folders
from ssd.train import integrity
from ssd.train.processes import barrier, from_first, grouped, leads, refusal

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
    spared: int = 0,
) -> None:
    """Store the state after `step` optimizer steps; then drop older optimizer states, and
    checkpoints beyond the newest `keep`, but nothing of step `spared`. Every process must call
    it."""
    state = {
        STEP_WEIGHTS: trained_weights(model),
        STEP_OPTIMIZER: get_optimizer_state_dict(model, optimizer),
    }
    final = step_folder(folder, step)
    temporary = final.with_name(f".{final.name}.tmp")
    if leads():
        clear_unfinished(folder)
        require_room(folder, state, step)
        temporary.mkdir(parents=True)
    barrier()
    try:
        for part, tensors in state.items():
            write_state(tensors, checkpoint_id=temporary / part, no_dist=not grouped())
        integrity.write_manifest(temporary, {"step": step, "fingerprint": fingerprint})
    except (CheckpointException, OSError) as error:
        reason = _unwritten(error, folder, step)
        if leads():
            shutil.rmtree(temporary, ignore_errors=True)
        if reason is None:
            raise
        raise refusal(reason) from error
    if leads():
        remove(final)
        temporary.rename(final)
        prune(folder, keep, spared)
    barrier()


def _unwritten(error: BaseException, folder: Path, step: int) -> str | None:
    """Why a checkpoint could not be written, in one line; None where it is not the disk's fault."""
    wrapped = error.failures.values() if isinstance(error, CheckpointException) else [(error, None)]
    for failure, _ in wrapped:
        # PyTorch's own writer hides the system's error, and between processes it gets lost.
        cause = failure if isinstance(failure, OSError) else failure.__context__
        hidden = isinstance(failure, RuntimeError) and "inline_container" in str(failure)
        if isinstance(cause, OSError) or hidden:
            words = cause.strerror if isinstance(cause, OSError) else "a file was cut short"
            return (
                f"the checkpoint after step {step} was not written to {folder} ({words}; "
                f"{free_space(folder)}): free some, or set {setting_of(folder)}=OTHER_FOLDER; the "
                "same command goes on from the checkpoint before"
            )
    return None


def clear_unfinished(folder: Path) -> None:
    """Delete what was being written or removed when a process was killed."""
    for path in (folder / CHECKPOINTS).glob(".step-*.tmp"):
        shutil.rmtree(path)


def prune(folder: Path, keep: int | None, spared: int = 0) -> None:
    """Drop checkpoints beyond the newest `keep` (None keeps all), and every optimizer state, but
    where training goes on from the newest `RESUMABLE`; nothing of step `spared`."""
    steps = step_folders(folder)
    steps.pop(spared, None)
    for path in superfluous(steps, keep, RESUMABLE):
        remove(path)


def superfluous(steps: dict[int, Path], keep: int | None, num_resumable: int) -> list[Path]:
    """Which of these checkpoints, and of their optimizer states, are not kept where the newest
    `num_resumable` stay whole."""
    paths = []
    newest_first = sorted(steps.items(), reverse=True)
    for position, (_, path) in enumerate(newest_first):
        if position >= max(num_resumable, len(newest_first) if keep is None else keep):
            paths.append(path)
        elif position >= num_resumable and (path / STEP_OPTIMIZER).is_dir():
            paths.append(path / STEP_OPTIMIZER)
    return paths


def remove(path: Path) -> None:
    """Delete a checkpoint or a part of one, which at no moment looks like a whole one."""
    if path.is_dir():
        step = path if path.parent.name == CHECKPOINTS else path.parent
        aside = step.with_name(f".{step.name}-removed.tmp")
        path.rename(aside)
        shutil.rmtree(aside)


def newest(folder: Path, fingerprint: str) -> int:
    """The newest step to resume from, after deleting what is unfinished, and newer checkpoints that
    are not as they were written; 0 where there is none. Every process must call it, and each
    compares its share of the files with their digests.

    Raises:
        ArtifactError: a checkpoint belongs to another configuration, or all are damaged.
    """
    damaged: dict[Path, str] = {}
    candidates = from_first(sorted(resumable(folder).items(), reverse=True))
    step = 0
    for candidate, path in candidates:
        require_owner(path, fingerprint)
        file = integrity.damaged_file(path)
        if file is None:
            step = candidate
            break
        damaged[path] = file
    if damaged and not step:
        faults = " and ".join(f"{path} is damaged ({file})" for path, file in damaged.items())
        raise refusal(
            f"{faults}, and no other checkpoint can be resumed: delete "
            f"{' and '.join(map(str, damaged))}, and the same command trains from the first step on"
        )
    if leads():
        clear_unfinished(folder)
        for path, file in damaged.items():
            print(
                f"training: {path} is damaged ({file}) and deleted; the one before, after step "
                f"{step}, is whole",
                flush=True,
            )
            remove(path)
    return step


def require_owner(path: Path, fingerprint: str) -> None:
    """Raise `ArtifactError` where a checkpoint that says whose it is belongs to another
    configuration."""
    state = integrity.read_manifest(path)
    owner = fingerprint if state is None else state.get("fingerprint")
    if owner != fingerprint:
        raise refusal(
            f"{path} belongs to another configuration (checkpoint {owner}, this run's is "
            f"{fingerprint}): delete {path.parents[1]}, or run in the output_dir where it was made"
        )


def resumable(folder: Path) -> dict[int, Path]:
    """The checkpoints that hold the optimizer's state, by step."""
    folders = step_folders(folder)
    return {step: path for step, path in folders.items() if (path / STEP_OPTIMIZER).is_dir()}


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


def _read(folder: Path, state: dict[str, Any]) -> None:
    read_state(state, checkpoint_id=folder, no_dist=not grouped())
