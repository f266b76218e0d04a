"""Two machines on a wire, each with an address, a file system and a node of a Ray cluster of its
own: Linux namespaces, which need no rights."""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from runs import ROOT

FIRST, SECOND = "10.77.0.1", "10.77.0.2"
OWN_NETWORK = Path("/proc/self/ns/net")


def why_not() -> str | None:
    """Why there can be no machines here."""
    if shutil.which("ip") is None:
        return "needs the program ip"
    tried = subprocess.run(["unshare", "-rnm", "true"], capture_output=True, text=True, check=False)
    return None if tried.returncode == 0 else f"no user namespaces here: {tried.stderr.strip()}"


class Machine:
    """A network and a file system of its own."""

    def __init__(self, *within: str, apart_from: Sequence[Path]) -> None:
        others = {network.readlink() for network in apart_from}
        self.process = subprocess.Popen([*within, "sleep", "1000000"])
        self.network = Path(f"/proc/{self.process.pid}/ns/net")
        while not self.network.exists() or self.network.readlink() in others:
            time.sleep(0.01)

    def command(self, *words: str) -> list[str]:
        """A command as it is run there."""
        enter = ["nsenter", "-t", str(self.process.pid), "-U", "-n", "-m", "--preserve-credentials"]
        return [*enter, *words]

    def run(self, *words: str, **variables: str) -> str:
        """Run a command there to its end."""
        done = subprocess.run(
            self.command(*words), capture_output=True, text=True, check=False,
            env={**environment(), **variables},
        )  # fmt: skip
        assert done.returncode == 0, f"{words}: {done.stdout[-2000:]} {done.stderr[-2000:]}"
        return done.stdout

    def processes(self) -> list[int]:
        """Everything that runs there, but for what keeps the machine."""
        own, name = [], self.network.readlink()
        for link in Path("/proc").glob("[0-9]*/ns/net"):
            with suppress(OSError):
                if link.readlink() == name:
                    own.append(int(link.parts[2]))
        return [pid for pid in own if pid != self.process.pid]

    def kill_all(self) -> None:
        """What a power cut does to its processes."""
        for pid in self.processes():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def environment() -> dict[str, str]:
    """For commands on a machine: Ray that notices a death in seconds and tells nobody."""
    quick = {"RAY_health_check_period_ms": "500", "RAY_health_check_failure_threshold": "4"}
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    own = {"RAY_USAGE_STATS_ENABLED": "0", "PATH": path, "PYTHONPATH": str(ROOT / "src")}
    return {**os.environ, **quick, **own}


@contextmanager
def two_machines(
    hidden: Sequence[Path] = (), modules: Path | None = None
) -> Iterator[tuple[Machine, Machine]]:
    """Two machines that form a cluster; the second one finds folders `hidden` empty, and `modules`
    before the installed packages."""
    first = Machine("unshare", "-rnm", apart_from=[OWN_NETWORK])
    within = first.command("unshare", "-nm")
    second = Machine(*within, apart_from=[OWN_NETWORK, first.network])
    folder = Path(tempfile.mkdtemp(prefix="r", dir="/tmp"))  # names of sockets are short
    try:
        wire = ("ip", "link", "add", "w0", "type", "veth", "peer", "name", "w1")
        first.run(*wire, "netns", str(second.process.pid))
        for machine, end, address in ((first, "w0", FIRST), (second, "w1", SECOND)):
            machine.run("ip", "link", "set", "lo", "up")
            machine.run("ip", "addr", "add", f"{address}/24", "dev", end)
            machine.run("ip", "link", "set", end, "up")
        for empty in (folder, *hidden):
            second.run("mount", "-t", "tmpfs", "none", str(empty))
        apart = {"RAY_TMPDIR": str(folder)}  # where Ray notes which cluster `auto` is
        small = ("--num-cpus=1", "--object-store-memory=100000000", "--disable-usage-stats")
        first.run(
            "ray", "start", "--head", f"--node-ip-address={FIRST}", "--port=6379",
            f"--temp-dir={folder}", "--include-dashboard=false", *small, **apart,
        )  # fmt: skip
        join = ("ray", "start", f"--address={FIRST}:6379", f"--node-ip-address={SECOND}")
        if modules is not None:
            apart["PYTHONPATH"] = os.pathsep.join([str(modules), str(ROOT / "src")])
        second.run(*join, *small, **apart)
        yield first, second
    finally:
        for machine in (second, first):
            machine.kill_all()
            machine.process.kill()
            machine.process.wait()
        shutil.rmtree(folder, ignore_errors=True)
