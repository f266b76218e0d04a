"""The beginning of a training that goes on from a shorter one: that one's state, as if it were a
checkpoint of its own."""

import os
import shutil

from ssd.artifacts.files import write_json
from ssd.artifacts.names import BASE_TARGET, CONTINUES, METRICS
from ssd.artifacts.store import Artifact
from ssd.run import Run
from ssd.run.continuation import continued
from ssd.run.lineage import step_folder
from ssd.train import checkpoints, integrity


def take_over(run: Run, checkpoint: Artifact) -> None:
    """Put the state of a shorter training beside a training's own checkpoints, unless it has one;
    with the metrics of its steps, and `continues.json`, which names it.

    Raises:
        ArtifactError: the state is not as it was written.
    """
    if (found := continued(run)) is None:
        return
    shorter, step = found.checkpoint, found.kept
    source, final = step_folder(shorter.folder, step), step_folder(checkpoint.folder, step)
    shorter.intact(f"{source.relative_to(shorter.folder)}/")
    checkpoints.clear_unfinished(checkpoint.folder)
    temporary = final.with_name(f".{final.name}.tmp")
    shutil.copytree(source, temporary, copy_function=_link)
    integrity.reassign(temporary, checkpoint.fingerprint)
    for name in (METRICS, BASE_TARGET):
        if (shorter.folder / name).is_file():
            shutil.copyfile(shorter.folder / name, checkpoint.folder / name)
    write_json(
        checkpoint.folder / CONTINUES, {"checkpoint": shorter.fingerprint, "after_step": step}
    )
    checkpoints.remove(final)
    temporary.rename(final)
    print(f"training: goes on from {source}", flush=True)


def _link(source: str, target: str) -> None:
    """A second name for a file, which nobody writes to, or a copy where the disk has no links."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)
