"""A root folder with nothing in it but what a program needs, made of mounts in a namespace, which
bubblewrap does for its backend; and the namespaces that each job has of its own, in both."""

import contextlib
import ctypes
import os
import platform
import signal
from pathlib import Path

from .limits import checked, libc

MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC = 1, 2, 4, 8
MS_REMOUNT, MS_BIND, MS_REC, MS_PRIVATE = 32, 4096, 16384, 1 << 18
MNT_DETACH = 2
CLONE_VM, CLONE_NEWNS, CLONE_NEWIPC = 0x100, 0x20000, 0x8000000
CLONE_NEWPID, CLONE_NEWNET = 0x20000000, 0x40000000
PAUSE = ctypes.cast(libc.pause, ctypes.c_void_p)
STACK = ctypes.create_string_buffer(2**16)
STACK_END = ctypes.c_void_p((ctypes.addressof(STACK) + len(STACK)) & ~63)
PIVOT_ROOT = {"x86_64": 155, "aarch64": 41}
DEVICES = ("null", "zero", "random", "urandom")
STREAMS = {
    "/dev/fd": "/proc/self/fd",
    "/dev/stdin": "/proc/self/fd/0",
    "/dev/stdout": "/proc/self/fd/1",
    "/dev/stderr": "/proc/self/fd/2",
}
"""Links and what they lead to."""
FLAGS = {"nosuid": MS_NOSUID, "nodev": MS_NODEV, "noexec": MS_NOEXEC}
"""Options that a namespace may not remove from an inherited mount."""


def mount(source: str, target: str, kind: str = "", flags: int = 0, options: str = "") -> None:
    """mount(2); OSError with the target."""
    words = [word.encode() or None for word in (source, target, kind)]
    result = libc.mount(*words, ctypes.c_ulong(flags), options.encode() or None)
    checked(result, f"mount {target}")


def build_root(layout: list[tuple[str, bool]], home: str) -> None:
    """Become a process whose root is an empty folder with the paths of `layout` in it, read-only,
    those empty that it says are hidden, and /proc, the empty folder `home` and four devices.

    A path that is a link is made a link again.
    """
    mount("", "/", flags=MS_REC | MS_PRIVATE)
    # Over /tmp as bubblewrap does: once it is the root, the old /tmp can be seen again below /old.
    mount("tmpfs", "/tmp", "tmpfs", MS_NOSUID | MS_NODEV, "size=1m,mode=0755")
    os.mkdir("/tmp/old")
    number = PIVOT_ROOT.get(platform.machine())
    if number is None:
        raise OSError(f"no pivot_root on {platform.machine()}")
    if libc.syscall(number, b"/tmp", b"/tmp/old") < 0:
        raise OSError(ctypes.get_errno(), "pivot_root")
    os.chdir("/")
    for path, shown in layout:
        old = Path(f"/old{path}")
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        if not shown:
            mount("tmpfs", path, "tmpfs", MS_NOSUID | MS_NODEV, "size=1m,mode=0755")
        elif old.is_symlink() and path.count("/") == 1:
            os.symlink(os.readlink(old), path)
        else:
            bind(within_old(path), path)
    os.mkdir("/dev")
    for name in DEVICES:
        bind(f"/old/dev/{name}", f"/dev/{name}")
    for link, target in STREAMS.items():
        os.symlink(target, link)
    os.symlink(home, "/dev/shm")
    for folder in (home, "/proc"):
        os.makedirs(folder, exist_ok=True)
    with contextlib.suppress(OSError):  # a container that hides parts of its own may not have one
        mount("proc", "/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC)
    make_read_only()
    if libc.umount2(b"/old", MNT_DETACH) < 0:
        raise OSError(ctypes.get_errno(), "umount /old")
    os.rmdir("/old")
    mount("", "/", flags=MS_REMOUNT | MS_BIND | MS_RDONLY | MS_NOSUID | MS_NODEV)


def within_old(path: str) -> str:
    """The present place of a path of the old root, with its links followed as in the old root."""
    parts, place = [part for part in path.split("/") if part][::-1], "/old"
    for _ in range(1000):
        if not parts:
            return place
        part = parts.pop()
        if part in (".", ".."):
            place = os.path.dirname(place) if part == ".." and place != "/old" else place
        elif os.path.islink(f"{place}/{part}"):
            target = os.readlink(f"{place}/{part}")
            place = "/old" if target.startswith("/") else place
            parts += [part for part in target.split("/") if part][::-1]
        else:
            place = f"{place}/{part}"
    raise OSError(f"too many links in {path}")


def bind(source: str, target: str) -> None:
    """Show `source` at `target` too, made there as a file or a folder."""
    if os.path.isdir(source):
        os.makedirs(target, exist_ok=True)
    else:
        os.close(os.open(target, os.O_CREAT | os.O_WRONLY))
    mount(source, target, flags=MS_BIND | MS_REC)


def make_read_only() -> None:
    """Make every mount read-only but those below /old, the devices and /proc."""
    # Field 5 is the mount point, in octal escapes; field 6 its options.
    with open("/old/proc/self/mountinfo" if not os.path.exists("/proc/self") else
              "/proc/self/mountinfo") as file:  # fmt: skip
        fields = [line.split() for line in file]
    for field in fields:
        path = field[4].encode().decode("unicode_escape")
        if path == "/" or path.split("/")[1] in ("old", "dev", "proc"):
            continue
        kept = sum(FLAGS.get(option, 0) for option in field[5].split(","))
        mount("", path, flags=MS_REMOUNT | MS_BIND | MS_RDONLY | MS_NOSUID | kept)


def make_devices_read_only() -> None:
    """They can still be written to, but their modes and times cannot be changed."""
    for name in DEVICES:
        # What the mount has inherited it must keep.
        kept = os.statvfs(f"/dev/{name}").f_flag & (MS_NOSUID | MS_NOEXEC)
        mount("", f"/dev/{name}", flags=MS_REMOUNT | MS_BIND | MS_RDONLY | kept)


def start_init() -> int:
    """The process id of process 1 of a new process namespace, which only sleeps.

    It shares this process's memory, for a copy would take a tenth of a job's time. It runs libc's
    `pause` and nothing of Python. It ignores the end of children, so the kernel reaps orphans.
    """
    flags = CLONE_NEWPID | CLONE_VM | signal.SIGCHLD
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    try:
        return checked(libc.clone(PAUSE, STACK_END, flags, None), "no process namespace for a job")
    finally:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)


def fork_into(pid: int) -> int:
    """Fork into the process namespace of `pid`."""
    there, here = os.pidfd_open(pid), os.pidfd_open(os.getpid())
    checked(libc.setns(there, CLONE_NEWPID), "setns")
    child = os.fork()
    if child:
        checked(libc.setns(here, CLONE_NEWPID), "setns")
        os.close(there)
        os.close(here)
    return child


def enter(home: str, owner: int) -> None:
    """Give this process mounts, System V objects and a dead network of its own, an empty `home`,
    and a /proc of its process namespace."""
    own = CLONE_NEWNS | CLONE_NEWIPC | CLONE_NEWNET
    checked(libc.unshare(own), "no namespaces for a job")
    mount_home(home, owner)
    flags = MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC
    try:
        mount("proc", "/proc", "proc", flags)  # read-only, for it holds settings of the namespaces
    except OSError:  # a container that hides parts of its own; the worker's must not be seen
        mount("tmpfs", "/proc", "tmpfs", flags, "size=4k")
    os.chdir(home)


def mount_home(home: str, owner: int) -> None:
    """A small file system in memory."""
    options = f"size=64m,nr_inodes=4096,mode=0700,uid={owner},gid={owner}"
    mount("tmpfs", home, "tmpfs", MS_NOSUID | MS_NODEV, options)


def forbid_namespaces() -> None:
    """Forbid the creation of user namespaces, which would allow mounts."""
    path = "/proc/sys/user/max_user_namespaces"
    with contextlib.suppress(OSError):  # bubblewrap's cover, where there is one
        mount("", "/proc/sys", flags=MS_REMOUNT | MS_BIND | MS_NOSUID | MS_NODEV | MS_NOEXEC)
    with open(path, "w") as file:
        file.write("0")
