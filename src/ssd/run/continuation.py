"""A training that goes on from a finished one, which is the same but for its number of steps.

The learning rates of its first steps must not depend on that number, and the shorter training must
have kept its state (`train.keep_optimizer`). What comes out is the same to the bit as without a
stop, so nothing of it is in a fingerprint.
"""

from typing import Any

from ssd.artifacts.fingerprints import plain
from ssd.artifacts.names import MANIFEST, STEP_OPTIMIZER
from ssd.artifacts.store import Artifact, read_manifest
from ssd.errors import ArtifactError
from ssd.run import lineage
from ssd.run.folder import Run


def continued(run: Run) -> tuple[Artifact, int] | None:
    """The shorter training that a run's goes on from, and after which of its steps; None where it
    begins with its first, or goes on from a checkpoint of its own."""
    if _kept_step(lineage.checkpoint(run)):
        return None
    found = [
        (training, step)
        for training in _shorter(run)
        if 0 < (step := _kept_step(training)) <= run.config.train.num_steady_steps
    ]
    return max(found, key=lambda each: each[1], default=None)


def note(run: Run) -> str:
    """What a run's training takes over from shorter ones, or why it does not; empty where there are
    none, or where it was under way."""
    if _kept_step(lineage.checkpoint(run)):
        return ""
    train, shorter = run.config.train, _shorter(run)
    if (found := continued(run)) is not None:
        training, step = found
        return f"train: goes on after step {step} of {training.folder}, as if it had never stopped"
    if not shorter:
        return ""
    nearest = max(shorter, key=_max_steps)
    kept = _kept_step(nearest)
    if not train.num_steady_steps:
        reason = (
            f"under train.schedule={train.schedule.value} every step's learning rate depends on "
            "train.max_steps; schedule=constant or schedule=wsd with train.keep_optimizer=true can "
            "be made longer"
        )
    elif kept:
        reason = (
            f"it kept its state after step {kept}, and this run's learning rate falls after step "
            f"{train.num_steady_steps}: raise train.max_steps or lower train.decay_steps"
        )
    else:
        reason = "its optimizer's state was not kept (train.keep_optimizer=false)"
    return (
        f"note: {nearest.folder} is this training with train.max_steps={_max_steps(nearest)}, and "
        f"all {train.max_steps} steps are taken, from the first on: {reason}"
    )


def _shorter(run: Run) -> list[Artifact]:
    """Finished trainings of the store that are the run's but for fewer steps."""
    own = lineage.checkpoint(run)
    trainings = []
    for manifest in sorted(own.folder.parent.glob(f"*/{MANIFEST}")):
        try:
            inputs = read_manifest(manifest.parent)["inputs"]
        except ArtifactError:  # no training that this one needs; who needs it is told
            continue
        training = Artifact(kind=own.kind, inputs=inputs, folder=manifest.parent)
        if _but_length(inputs) == _but_length(own.inputs):
            trainings.append(training)
    return [training for training in trainings if _max_steps(training) < _max_steps(own)]


def _but_length(inputs: dict[str, Any]) -> dict[str, Any]:
    length = ("max_steps", "decay_steps")
    train = {name: value for name, value in inputs["train"].items() if name not in length}
    return plain({**inputs, "train": train})


def _max_steps(training: Artifact) -> int:
    return int(training.inputs["train"]["max_steps"])


def _kept_step(training: Artifact) -> int:
    """The newest step whose optimizer's state a training has; 0 where it has none."""
    steps = lineage.step_folders(training.folder)
    return max(
        (step for step, path in steps.items() if (path / STEP_OPTIMIZER).is_dir()), default=0
    )
