"""A training that goes on from a finished one, which is the same but for its number of steps.

The learning rates of its first steps must not depend on that number, and the shorter training must
have kept its state (`train.keep_optimizer`). What comes out is the same to the bit as without a
stop, so nothing of it is in a fingerprint.
"""

import re
from dataclasses import dataclass
from typing import Any

from ssd.artifacts.names import CHECKPOINTS, MANIFEST, STEP_OPTIMIZER
from ssd.artifacts.store import Artifact, read_manifest
from ssd.errors import ArtifactError
from ssd.run import lineage
from ssd.run.folder import Run

KEPT = re.compile(rf"{CHECKPOINTS}/step-(\d+)/{STEP_OPTIMIZER}/")
"""A file of the state that a finished training has kept, by its path there."""


@dataclass(frozen=True, slots=True)
class Shorter:
    """A finished training that is another one but for fewer steps."""

    checkpoint: Artifact
    kept: int
    """The step whose state it has kept; 0 where it has none."""

    @property
    def max_steps(self) -> int:
        """Its number of steps."""
        return int(self.checkpoint.inputs["train"]["max_steps"])


def continued(run: Run) -> Shorter | None:
    """The shorter training from whose state a run's goes on; None where it begins with its first
    step, or goes on from a checkpoint of its own."""
    if _is_under_way(run):
        return None
    steady = run.config.train.num_steady_steps
    usable = [training for training in _shorter(run) if 0 < training.kept <= steady]
    return max(usable, key=lambda training: training.kept, default=None)


def note(run: Run) -> str:
    """What a run's training takes over from a shorter one, or why it does not; empty where there is
    none, or where it was under way."""
    train, shorter = run.config.train, _shorter(run)
    if not shorter or _is_under_way(run):
        return ""
    if (found := continued(run)) is not None:
        folder = found.checkpoint.folder
        return f"train: goes on after step {found.kept} of {folder}, as if it had never stopped"
    nearest = max(shorter, key=lambda training: training.max_steps)
    if not train.num_steady_steps:
        reason = (
            f"under train.schedule={train.schedule.value} every step's learning rate depends on "
            "train.max_steps; schedule=constant or schedule=wsd with train.keep_optimizer=true can "
            "be made longer"
        )
    elif nearest.kept:
        reason = (
            f"it kept its state after step {nearest.kept}, and this run's learning rate falls "
            f"after step {train.num_steady_steps}: raise train.max_steps or lower "
            "train.decay_steps"
        )
    else:
        reason = "its optimizer's state was not kept (train.keep_optimizer=false)"
    return (
        f"note: {nearest.checkpoint.folder} is this training with train.max_steps="
        f"{nearest.max_steps}, and all {train.max_steps} steps are taken, from the first on: "
        f"{reason}"
    )


def _shorter(run: Run) -> list[Shorter]:
    own = lineage.checkpoint(run)
    found = []
    for path in sorted(own.folder.parent.glob(f"*/{MANIFEST}")):
        try:
            manifest = read_manifest(path.parent)
        except ArtifactError:  # no training that this one needs; who needs it is told
            continue
        inputs, files = manifest["inputs"], manifest.get("files", {})  # early ones had none
        if _but_length(inputs) == _but_length(own.inputs):
            steps = [int(match[1]) for name in files if (match := KEPT.match(name))]
            training = Artifact(kind=own.kind, inputs=inputs, folder=path.parent)
            found.append(Shorter(training, max(steps, default=0)))
    return [training for training in found if training.max_steps < run.config.train.max_steps]


def _but_length(inputs: dict[str, Any]) -> dict[str, Any]:
    length = ("max_steps", "decay_steps")
    train = {name: value for name, value in inputs["train"].items() if name not in length}
    return {**inputs, "train": train}


def _is_under_way(run: Run) -> bool:
    steps = lineage.step_folders(lineage.checkpoint(run).folder)
    return any((folder / STEP_OPTIMIZER).is_dir() for folder in steps.values())
