"""What the processes of a training tell each other; one alone has no group and answers itself."""

from typing import Any, TypeVar

import torch.distributed as dist

from ssd.errors import ArtifactError, ReportedError, SSDError

T = TypeVar("T")


def grouped() -> bool:
    """Whether this process is one of a group."""
    return dist.is_initialized()


def rank() -> int:
    """This process's number in the group, from 0."""
    return dist.get_rank() if grouped() else 0


def size() -> int:
    """How many processes there are."""
    return dist.get_world_size() if grouped() else 1


def leads() -> bool:
    """Whether this process writes for the group."""
    return rank() == 0


def refusal(reason: str) -> SSDError:
    """The error for what all processes find at once: the first one prints it."""
    return ArtifactError(reason) if leads() else ReportedError(reason, "training")


def barrier() -> None:
    """Wait for all processes."""
    if grouped():
        dist.barrier()


def from_first(value: T) -> T:
    """The first process's value, in all of them."""
    if not grouped():
        return value
    values = [value]
    dist.broadcast_object_list(values)
    return values[0]


def from_all(value: T) -> list[T]:
    """Every process's value, by rank, in all of them."""
    if not grouped():
        return [value]
    values: list[Any] = [None] * size()
    dist.all_gather_object(values, value)
    return values
