"""The commands that start a worker: bubblewrap, util-linux `unshare`, or no isolation at all.

Root is never root inside. The kernel does not bound the number of root's processes (RLIMIT_NPROC),
so where the grader is root a worker's user namespace maps a second, unprivileged id, and programs
run under that one.
"""

import contextlib
import os
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

from ssd.sandbox.inside.root import DEVICES, STREAMS

BWRAP, NAMESPACES, NONE = "bwrap", "namespaces", "none"
INSIDE = Path(__file__).with_name("inside")
BOOT = (
    "import sys; sys.path.insert(0, sys.argv[1]); "
    "import inside.start; inside.start.main()"
)  # fmt: skip
SYSTEM = (
    "/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32", "/etc/ld.so.cache",
    "/etc/alternatives", "/nix/store", "/gnu/store",
)  # fmt: skip
UNSHARE = (
    "--user", "--mount", "--net", "--ipc", "--uts", "--pid", "--fork", "--kill-child",
)  # fmt: skip
BUBBLEWRAP = (
    "--unshare-user", "--unshare-net", "--unshare-ipc", "--unshare-uts", "--unshare-pid",
    "--as-pid-1", "--uid", "0", "--gid", "0", "--cap-add", "ALL",
)  # fmt: skip
"""The worker gives up the privileges for setting up its /tmp before the first job."""
NUM_PROCESSES = 64
"""Processes and threads of a job."""
PER_NAMESPACE = (5, 14)
"""From this kernel on, RLIMIT_NPROC counts within a user namespace; before, over all of a user's
processes."""
SECOND_ID = 1
"""The id inside that stands for an unprivileged one outside."""
SYSCTLS = Path("/proc/sys")
FORBIDDING = (
    (
        "kernel.apparmor_restrict_unprivileged_userns",
        "1",
        "sudo sysctl -w kernel.apparmor_restrict_unprivileged_userns=0 (Ubuntu from 24.04 on; or "
        "give bwrap an AppArmor profile, docs/sandbox.md)",
    ),
    ("kernel.unprivileged_userns_clone", "0", "sudo sysctl -w kernel.unprivileged_userns_clone=1"),
    ("user.max_user_namespaces", "0", "sudo sysctl -w user.max_user_namespaces=15000"),
)
"""Kernel settings, the value of each that stops the sandbox of a user who is not root, and what
allows it."""
WAIT = 'echo && read -r _ && exec "$@"'


@dataclass(frozen=True, slots=True)
class Backend:
    """A way to start workers."""

    name: str
    second_id: bool = False
    """Whether this process, being root, maps an unprivileged id into each worker."""
    proc: bool = True
    """Whether bubblewrap mounts /proc; a container may not allow it."""

    @property
    def isolated(self) -> bool:
        """Whether its workers have namespaces of their own."""
        return self.name != NONE

    @property
    def watched(self) -> bool:
        """Whether the worker has to count processes, because the kernel does not."""
        return os.geteuid() == 0 and not self.second_id

    def command(self, descriptors: tuple[int, int] | None) -> list[str]:
        """The command of a worker, its settings left out; `descriptors` are where bubblewrap writes
        its child's process id, and where it waits for that child's ids to be mapped."""
        python = [sys.executable, "-s", "-P", "-c", BOOT, str(INSIDE.parent)]
        if self.name == BWRAP:
            return [*self._bubblewrap(descriptors), *python]
        if self.name == NAMESPACES:
            command = [program("unshare"), *UNSHARE]
            if self.second_id:
                return [*command, "sh", "-c", WAIT, "sh", *python]
            return [*command, "--map-root-user", *python]
        return python

    def _bubblewrap(self, descriptors: tuple[int, int] | None) -> list[str]:
        command = [program("bwrap"), *BUBBLEWRAP]
        if descriptors is not None:
            report, wait = descriptors
            command += ["--info-fd", str(report), "--userns-block-fd", str(wait)]
        paths = layout()
        for path, shown in paths:
            # Folders that bubblewrap makes on the way to a file are closed to others.
            for folder in reversed(Path(path).parents[:-1]):
                if not is_shown(str(folder), paths):
                    command += ["--dir", str(folder)]
            if not shown:
                command += ["--tmpfs", path]
            elif path.count("/") == 1 and os.path.islink(path):  # such as /bin: a link inside too
                command += ["--symlink", os.readlink(path), path]
            else:
                command += ["--ro-bind", path, path]
        for path, shown in paths:
            command += [] if shown else ["--remount-ro", path]
        command += ["--dir", "/dev"]
        for name in DEVICES:
            command += ["--dev-bind", f"/dev/{name}", f"/dev/{name}"]
        for link, target in {**STREAMS, "/dev/shm": scratch_folder()}.items():
            command += ["--symlink", target, link]
        command += ["--proc", "/proc"] if self.proc else ["--dir", "/proc"]
        return [*command, "--dir", scratch_folder(), "--remount-ro", "/", "--chdir", "/"]


def program(name: str) -> str:
    """The path of a program, or its bare name."""
    return shutil.which(name) or name


def candidates(name: str) -> list[Backend]:
    """The backends that `name` stands for, the strongest first; `auto` is every isolating one."""
    names = (BWRAP, NAMESPACES) if name == "auto" else (name,)
    ids = (True, False) if os.geteuid() == 0 and name != NONE else (False,)
    backends = [
        Backend(backend_name, second_id, proc)
        for backend_name in names
        for second_id in ids
        for proc in ((True, False) if backend_name == BWRAP else (True,))
    ]
    return [backend for backend in backends if backend.proc or not backend.watched]


def layout() -> list[tuple[str, bool]]:
    """Paths whose contents are shown (True) or hidden (False), each differing from the path above
    it; the root is hidden.

    Shown are the system's libraries and tools, the interpreter with what is installed for it, and
    the sandbox's own code. Hidden are this package, or the project that it lies in, with reference
    solutions and answers, and the folder that the grader runs in, which an image may have in /usr.
    """
    package = INSIDE.parents[1]
    project = package.parents[1]
    hidden = package, project if (project / "pyproject.toml").exists() else package, Path.cwd()
    is_shown_at = {str(folder.resolve()): False for folder in hidden}
    is_shown_at |= dict.fromkeys(filter(os.path.exists, SYSTEM), True)
    for path in interpreter_paths() - {"/"}:
        is_shown_at |= {os.path.normpath(path): True, os.path.realpath(path): True}
    paths: list[tuple[str, bool]] = []
    for path, shown in sorted(is_shown_at.items()):
        if is_shown(path, paths) != shown:
            paths.append((path, shown))
    return paths


def is_shown(path: str, paths: list[tuple[str, bool]]) -> bool:
    """Whether a path is shown, being the nearest of `paths` or below it."""
    above = [(len(folder), shown) for folder, shown in paths if Path(path).is_relative_to(folder)]
    return max(above)[1] if above else False


def interpreter_paths() -> set[str]:
    """Folders of the interpreter and of what is installed for it, and of the sandbox's own code."""
    python = {sys.prefix, sys.base_prefix, sys.exec_prefix, sys.base_exec_prefix, str(INSIDE)}
    link = sys.executable
    for _ in range(40):
        python.add(os.path.dirname(os.path.dirname(link)))
        if not os.path.islink(link):
            break
        link = os.path.join(os.path.dirname(link), os.readlink(link))
    return python


def scratch_folder() -> str:
    """The one folder that programs may write: /tmp, unless the interpreter lives there."""
    below = any(path.startswith("/tmp/") for path, shown in layout() if shown)
    return "/scratch" if below else "/tmp"


def unprivileged_id(kind: str, offset: int) -> int:
    """An id of this user namespace that belongs to nobody: from the end of the longest range that
    /proc/self/uid_map or gid_map lists. `offset` tells workers apart."""
    lines = Path(f"/proc/self/{kind}_map").read_text().splitlines()
    ranges = [[int(word) for word in line.split()] for line in lines]
    first, _, length = max(ranges, key=lambda numbers: numbers[2])
    return first + length - 2 - offset % min(1000, max(length // 2, 1))


def map_ids(pid: int, offset: int) -> None:
    """Map 0 to 0 and `SECOND_ID` to an unprivileged id in the user namespace of process `pid`."""
    for kind in ("uid", "gid"):
        outside = unprivileged_id(kind, offset)
        Path(f"/proc/{pid}/{kind}_map").write_text(f"0 0 1\n{SECOND_ID} {outside} 1\n")


def process_limit(backend: Backend) -> int:
    """RLIMIT_NPROC of a job, as this kernel counts."""
    release = tuple(int(word) for word in os.uname().release.split("-")[0].split(".")[:2])
    if backend.isolated and (backend.second_id or release >= PER_NAMESPACE):
        return NUM_PROCESSES
    return NUM_PROCESSES + count_threads()


def blocks() -> str:
    """What this system sets against user namespaces, and how it is lifted; empty where nothing is
    known to."""
    for setting, value, remedy in FORBIDDING:
        file = SYSCTLS / setting.replace(".", "/")
        if file.is_file() and file.read_text().strip() == value:
            return f"{setting}={value} forbids user namespaces: {remedy}"
    return ""


def count_threads() -> int:
    """Threads that this user has."""
    total = 0
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # a process that has just ended
            if entry.stat().st_uid == os.getuid():
                total += len(os.listdir(entry / "task"))
    return total
