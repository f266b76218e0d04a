"""What can go: leftovers that nobody writes, and artifacts that no run refers to."""

import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

from ssd.artifacts.files import explained
from ssd.artifacts.locks import LOCK, holding
from ssd.artifacts.names import STORE
from ssd.errors import ArtifactError
from ssd.inventory.holdings import Holding, Inventory

PRUNED = ".pruned"
"""End of the hidden name of a folder that is being deleted."""


def candidates(inventory: Inventory, names: Sequence[str], older_than: float) -> list[Holding]:
    """What a prune takes: what is named, whatever refers to it; without names, what no run refers
    to and nobody has written to for `older_than` seconds. Where a run's artifacts cannot be
    located, it may refer to anything.

    Raises:
        ArtifactError: a name fits no artifact, or several.
    """
    if names:
        return [inventory.named(name) for name in names]
    if inventory.unknown:
        return []
    return [each for each in inventory.holdings if not each.runs and each.age_seconds >= older_than]


def delete(chosen: Sequence[Holding]) -> Iterator[tuple[Holding, str | None]]:
    """Delete these, each with None, or the reason why it stays: another process writes it."""
    for each in chosen:
        folder = each.artifact.folder
        try:
            with explained(folder), holding(folder / LOCK, folder, wait=False):
                gone = folder.rename(folder.with_name(f".{folder.name}{PRUNED}"))
        except ArtifactError as error:
            yield each, str(error)
            continue
        shutil.rmtree(gone)
        yield each, None


def sweep(outputs: Path) -> None:
    """Delete what a prune that was killed had begun to delete."""
    for gone in (outputs / STORE).glob(f"*/.*{PRUNED}"):
        shutil.rmtree(gone)
