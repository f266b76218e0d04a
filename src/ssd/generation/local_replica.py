"""Replicas on this machine: each has its part of the GPUs, or of the cores, and a log."""

import os
import re
import shutil
import signal
import socket
import struct
import sys
import tempfile
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Protocol

from ssd.config.choices import Accelerator
from ssd.config.settings import HardwareConfig
from ssd.errors import REPORTED
from ssd.generation.messages import Load
from ssd.runtime.children import Companion
from ssd.runtime.gpus import visible_gpus
from ssd.runtime.threads import thread_settings

SOCKET_SECONDS = 60
"""Seconds after which a message that is not taken, or of which a part is missing, counts as lost:
a replica's thread that receives waits for nothing but the interpreter."""
MEMORY = re.compile(r"out ?of ?memory|can't allocate memory|MemoryError|want of main memory", re.I)
LOG_END = 20_000
"""Characters at the end of a log that are read for the cause."""


@dataclass(frozen=True, slots=True)
class Ending:
    """How a replica's process ended."""

    reason: str
    out_of_memory: bool
    """As far as its last words, or the signal that it got, let it be told."""
    is_reported: bool
    """Whether it said why, as one does whose settings or machine are at fault."""


STOPPED = Ending("it was stopped", out_of_memory=False, is_reported=False)


class Channel(Protocol):
    """To a replica's process, which speaks as `ssd.generation.replica` does."""

    def fileno(self) -> int:
        """Can be read when there is something to receive."""
        ...

    def send(self, message: Any, /) -> None:
        """Raises OSError where it does not arrive."""
        ...

    def recv(self) -> Any:
        """The next message; raises EOFError or OSError where the process has ended."""
        ...


class Worker(Protocol):
    """A replica's process, wherever it runs."""

    @property
    def connection(self) -> Channel:
        """To the process."""
        ...

    def stop(self) -> None:
        """Ask it to end; returns at once."""
        ...

    def end(self, seconds: float) -> Ending:
        """Its end, after so many seconds at the latest, with all that it started; what it printed
        is kept where it did not end as asked."""
        ...


@dataclass(frozen=True, slots=True)
class Place:
    """The part of this machine that one replica has."""

    number: int
    name: str
    """`replica 0 (GPU 0)`."""
    environment: dict[str, str]
    cores: list[int] | None

    def start(self, load: Load) -> Worker:
        """Start a replica here."""
        return LocalWorker(self, load)


def divide(hardware: HardwareConfig) -> list[Place]:
    """The places of `hardware.replicas` engines: GPUs next to each other, or whole cores."""
    number = hardware.num_replicas
    if hardware.accelerator is Accelerator.gpu:
        return [_on_gpus(index, hardware.engine_devices) for index in range(number)]
    settings, allowed = _cpu_settings(number), sorted(os.sched_getaffinity(0))
    size = len(allowed) // number
    parts = [allowed[index * size : (index + 1) * size] for index in range(number)]
    return [
        Place(index, f"replica {index} (core {_listed(cores)})", {**os.environ, **settings}, cores)
        for index, cores in enumerate(parts)
    ]


def _on_gpus(index: int, size: int) -> Place:
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    names = visible.split(",") if visible else [str(i) for i, _ in enumerate(visible_gpus())]
    own = _listed(names[index * size : (index + 1) * size])
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": own}
    return Place(index, f"replica {index} (GPU {own})", environment, None)


def _listed(names: Sequence[int | str]) -> str:
    return ",".join(map(str, names))


def _cpu_settings(number: int) -> dict[str, str]:
    """This process's threads and vLLM's memory, divided among so many replicas."""
    settings = thread_settings()
    threads = int(settings.get("OMP_NUM_THREADS") or os.environ["OMP_NUM_THREADS"])
    settings["OMP_NUM_THREADS"] = str(max(1, threads // number))
    # A replica is bound to its cores, and vLLM is not to bind its threads to others.
    settings["VLLM_CPU_OMP_THREADS_BIND"] = "nobind"
    if space := os.environ.get("VLLM_CPU_KVCACHE_SPACE"):
        settings["VLLM_CPU_KVCACHE_SPACE"] = str(max(1, int(space) // number))
    return settings


def part_of(hardware: HardwareConfig) -> HardwareConfig:
    """What each replica is told of `hardware`."""
    cache = max(1, hardware.kv_cache_gib // hardware.num_replicas)
    return replace(hardware, kv_cache_gib=cache, replicas=1)


class LocalWorker:
    """A replica's process on this machine."""

    def __init__(self, place: Place, load: Load) -> None:
        ours, theirs = socket.socketpair()
        self.connection = with_limits(ours)
        with theirs:
            self.companion = start_replica(theirs, place.environment, cores=place.cores)
        self.place = place
        self.is_asked = False
        self.connection.send(load)

    def stop(self) -> None:
        """Ask it to end."""
        self.is_asked = True
        self.companion.process.terminate()

    def end(self, seconds: float) -> Ending:
        """Its end, with all that it started."""
        code = self.companion.end(seconds)
        self.connection.close()
        ending = STOPPED if self.is_asked else ending_of(self.companion, code, self.place.number)
        self.companion.forget()
        return ending


def with_limits(side: socket.socket) -> Connection:
    """The connection to a replica, which does not wait for one that is stuck."""
    for option in (socket.SO_SNDTIMEO, socket.SO_RCVTIMEO):
        side.setsockopt(socket.SOL_SOCKET, option, struct.pack("ll", SOCKET_SECONDS, 0))
    return Connection(side.detach())


def start_replica(
    side: socket.socket, environment: Mapping[str, str], *, cores: Collection[int] | None = None
) -> Companion:
    """The process of a replica, which serves whoever has the other side of this socket."""
    return Companion(
        [sys.executable, "-m", "ssd.generation.replica", str(side.fileno())],
        environment,
        cores=cores,
        pass_fds=(side.fileno(),),
    )


def ending_of(companion: Companion, code: int, number: int) -> Ending:
    """Why a replica has ended with `code`; its log is kept."""
    log = Path(tempfile.gettempdir()) / f"ssd-replica-{os.getpid()}-{number}.log"
    shutil.copyfile(companion.log, log)
    said = companion.log.read_text(encoding="utf-8", errors="replace")[-LOG_END:]
    reason = f"it ended with exit code {code}"
    if code == REPORTED and companion.reason.is_file():
        reason = companion.reason.read_text(encoding="utf-8")
    elif code < 0:
        reason = f"it was ended by {signal.Signals(-code).name}"
    # The kernel's answer to a lack of main memory is SIGKILL.
    memory = code == -signal.SIGKILL or is_about_memory(said) or is_about_memory(reason)
    return Ending(f"{reason} (its log: {log})", memory, code == REPORTED)


def is_about_memory(text: str) -> bool:
    """Whether a message says that memory was short."""
    return MEMORY.search(text) is not None
