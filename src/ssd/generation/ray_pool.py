"""Replicas on the machines of a Ray cluster (`hardware/pool=ray`).

Ray chooses the machine and starts an agent there (`ray_agent.py`). Requests and answers then pass
through a connection of the replica's own, as between processes of one machine, so that nothing
waits for a batch.
"""

import logging
import os
import secrets
import signal
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from multiprocessing import AuthenticationError
from multiprocessing.connection import Connection, answer_challenge, deliver_challenge
from pathlib import Path
from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from ssd.config.choices import Accelerator
from ssd.config.settings import HardwareConfig, PoolConfig
from ssd.errors import HardwareError, one_line
from ssd.generation.local_replica import STOPPED, Ending, is_about_memory, with_limits
from ssd.generation.messages import Load, Placed
from ssd.generation.model_copies import Listing, listing, read
from ssd.generation.ray_agent import Agent, Order, versions
from ssd.generation.replicas import Replicas
from ssd.runtime.children import ENDING_SECONDS
from ssd.runtime.reporting import PREEMPTION_SIGNALS

CALL_SECONDS = 5.0
"""Seconds until a cluster's head that does not answer counts as not there."""


def ray_replicas(load: Load) -> Replicas:
    """As many replicas as `hardware.replicas` says, or as the cluster has room for.

    Raises:
        HardwareError: there is no such cluster, or it is too small.
    """
    hardware, cluster = load.hardware, ExitStack()
    with ExitStack() as unless_started:
        unless_started.push(cluster)
        cluster.enter_context(joined(hardware))
        folders = {folder: listing(folder) for folder in (load.folder, load.adapter) if folder}
        options = agent_options(hardware)
        places = [Place(index, folders, options) for index in range(num_replicas(hardware))]
        load = replace(load, hardware=replace(hardware, replicas=1, pool=PoolConfig()))
        engine = Replicas(places, load, until_closed=cluster)
        unless_started.pop_all()
    return engine


@contextmanager
def joined(hardware: HardwareConfig) -> Iterator[None]:
    """Be one of the cluster's programs.

    Raises:
        HardwareError: there is no such cluster.
    """
    address = hardware.pool.address
    handlers = {number: signal.getsignal(number) for number in (*PREEMPTION_SIGNALS, signal.SIGINT)}
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        if address != "auto":  # Ray itself tries for minutes
            host, port = address.rsplit(":", 1)
            socket.create_connection((host, int(port)), CALL_SECONDS).close()
        ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
    except (OSError, RuntimeError, ValueError) as error:
        raise HardwareError(
            f"hardware.pool.address={address}: {one_line(error)[:200]}: start a cluster with "
            "ray start --head on this machine, or use hardware/pool=local"
        ) from error
    try:
        for number, handler in handlers.items():  # Ray's own leave open what is open
            signal.signal(number, handler)
        yield
    finally:
        ray.shutdown()


def agent_options(hardware: HardwareConfig) -> dict[str, Any]:
    """What a replica takes of a machine, in Ray's words."""
    if hardware.accelerator is Accelerator.gpu:
        return {"num_gpus": hardware.engine_devices, "num_cpus": 1}
    return {"num_gpus": 0, "num_cpus": hardware.pool.cores or min(_per_machine("CPU"))}


def num_replicas(hardware: HardwareConfig) -> int:
    """How many replicas to start.

    Raises:
        HardwareError: the cluster has no room for as many as `hardware.replicas`, or for one.
    """
    options = agent_options(hardware)
    kind, size = (
        ("GPU", options["num_gpus"]) if options["num_gpus"] else ("CPU", options["num_cpus"])
    )
    machines = _per_machine(kind)
    room = sum(number // size for number in machines)
    wanted = hardware.replicas or room
    if not room or wanted > room:
        raise HardwareError(
            f"hardware.pool=ray: {wanted or 1} replica(s) of {size} {kind}(s) each do not fit a "
            f"cluster whose machines have {', '.join(map(str, machines)) or 'none'}: "
            + (f"set hardware.replicas={room} at most" if room else "add machines to it")
        )
    return wanted


def _per_machine(kind: str) -> list[int]:
    """How many GPUs or cores each living machine lends, where it lends any."""
    lent = [int(node["Resources"].get(kind, 0)) for node in ray.nodes() if node["Alive"]]
    return [number for number in lent if number]


@dataclass(frozen=True, slots=True)
class Place:
    """A part of the cluster that one replica gets."""

    number: int
    folders: dict[Path, Listing]
    options: dict[str, Any]

    @property
    def name(self) -> str:
        """In messages."""
        return f"replica {self.number}"

    def start(self, load: Load) -> "RayWorker":
        """Ask for a replica, wherever there is room."""
        return RayWorker(self, load)


class Line:
    """The connection to a replica, before and after it has called.

    Until then what can be read is its call: `recv` answers it and says where the replica is.
    """

    def __init__(self, name: str, load: Load) -> None:
        self.name, self.load = name, load
        self.secret = secrets.token_bytes(32)
        self.listener: socket.socket = socket.create_server((ray.util.get_node_ip_address(), 0))
        self.connection: Connection | None = None

    @property
    def address(self) -> tuple[str, int]:
        """Where to call."""
        host, port = self.listener.getsockname()[:2]
        return host, port

    def fileno(self) -> int:
        """Of what can be read next."""
        return (self.connection or self.listener).fileno()

    def send(self, message: Any) -> None:
        """Send a message to the replica."""
        if self.connection is None:
            raise ConnectionError("it has not called yet")
        self.connection.send(message)

    def recv(self) -> Any:
        """The next message; None after a call that was not the replica's.

        Raises:
            EOFError, OSError: nobody will call any more, or the replica has ended.
        """
        if self.connection is not None:
            return self.connection.recv()
        side, _ = self.listener.accept()
        connection = with_limits(side)
        try:
            deliver_challenge(connection, self.secret)
            answer_challenge(connection, self.secret)
        except (AuthenticationError, EOFError, OSError):  # somebody else; the agent will call
            connection.close()
            return None
        placed: Placed = connection.recv()
        print(f"{self.name} runs on {placed.where}", flush=True)
        connection.send(replace(self.load, folder=placed.folder, adapter=placed.adapter))
        self.connection = connection
        return placed

    def hang_up(self) -> None:
        """Let both sides read the end; it can be called from any thread."""
        for side in (self.listener, self.connection):
            if side is not None:
                with suppress(OSError), socket.socket(fileno=os.dup(side.fileno())) as own:
                    own.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Forget it."""
        self.listener.close()
        if self.connection is not None:
            self.connection.close()


class RayWorker:
    """A replica somewhere in the cluster."""

    def __init__(self, place: Place, load: Load) -> None:
        self.connection = Line(place.name, load)
        self.is_asked = False
        here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
        order = Order(
            number=place.number,
            load=load,
            address=self.connection.address,
            secret=self.connection.secret,
            versions=versions(),
            folders=place.folders,
        )
        agents: Any = ray.remote(Agent)
        self.agent = agents.options(scheduling_strategy="SPREAD", **place.options).remote()
        self.ending = self.agent.serve.remote(
            order, ray.remote(read).options(num_cpus=0, scheduling_strategy=here)
        )
        # Where its machine dies nothing else may be said on the line.
        self.ending.future().add_done_callback(lambda _: self.connection.hang_up())

    def stop(self) -> None:
        """Ask it to end, which a replica does when its line ends."""
        self.is_asked = True
        self.connection.hang_up()

    def end(self, seconds: float) -> Ending:
        """Its end, with all that it started."""
        self.connection.hang_up()
        ray.wait([self.ending], timeout=seconds + ENDING_SECONDS)
        ending = STOPPED if self.is_asked else self._ending()
        ray.kill(self.agent)
        self.connection.close()
        return ending

    def _ending(self) -> Ending:
        try:
            ending: Ending = ray.get(self.ending, timeout=0)
        except ray.exceptions.GetTimeoutError:
            return Ending("it did not end when asked to", out_of_memory=False, is_reported=False)
        except ray.exceptions.RayError as error:
            reason = one_line(getattr(error, "cause", None) or error)
            if isinstance(
                error, ray.exceptions.ActorDiedError | ray.exceptions.ActorUnavailableError
            ):
                return Ending("its machine or its agent died", is_about_memory(reason), False)
            return Ending(f"Ray says: {reason[:300]}", is_about_memory(reason), is_reported=False)
        return ending
