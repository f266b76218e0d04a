"""The code inside the sandbox, given to `python -I -c`: standard library only, imported by nobody.

Two processes. The first sets the limits, forks and watches; in the `namespaces` backend it is
process 1 of its own process namespace, so everything the program has started dies with it, whatever
session it moved to. The second runs the program, and only when that has come to its last line does
it write the token to the report pipe: `sys.exit(0)` or `os._exit(0)` before the tests ends the
process without it.
"""

import os
import resource
import signal
import sys
import time
import types

WATCH_SECONDS = 0.01
GRACE_SECONDS = 2
"""The sandbox's own clock comes first; this one matters when the grader itself has been killed."""
MOST_AT_START = 16
"""A new process namespace has counted to 2; where lxcfs shows the container's count instead,
nothing can be counted."""
STOPPED = 125


def main() -> None:
    """Read limits from the command line, token and program from standard input; never returns."""
    report, memory, file_size, num_processes, num_created = (int(word) for word in sys.argv[1:6])
    timeout = float(sys.argv[6])
    with open(0, "rb", closefd=False) as stdin:
        token, _, source = stdin.read().partition(b"\n")
    os.chdir(
        os.environ["HOME"]
    )  # which may have become another file system since this process started there
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    limits = {
        resource.RLIMIT_CPU: int(timeout) + 2,
        resource.RLIMIT_AS: memory,
        resource.RLIMIT_FSIZE: file_size,
        resource.RLIMIT_NOFILE: 256,
        resource.RLIMIT_NPROC: num_processes,
        resource.RLIMIT_CORE: 0,
    }
    for kind, value in limits.items():
        resource.setrlimit(kind, (value, value))
    if processes_created() > MOST_AT_START:
        num_created = 0
    # Blocked before the fork, or a program that ends at once would be noticed
    # only at the next watch.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCHLD})
    child = os.fork()
    if child == 0:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGCHLD})
        os.nice(19)  # or a fork bomb keeps the watching process from its turn
        run_program(source.decode("utf-8"), report, token)
    watch(child, num_created, time.monotonic() + timeout + GRACE_SECONDS)


def run_program(source: str, report: int, token: bytes) -> None:
    """Run the program as a module of its own and leave: 0 and the token at its end,
    1 and one line on an exception."""
    write, leave = os.write, os._exit
    # Not `__main__`: as in the benchmarks' own graders,
    # blocks that wait for the command line do not run.
    module = types.ModuleType("program")
    sys.modules["program"] = module
    sys.argv = ["program.py"]
    write(report, b"+")
    try:
        exec(compile(source, "program.py", "exec", dont_inherit=True), module.__dict__)
    except MemoryError:
        write(2, b"\nMemoryError\n")
        leave(1)
    except BaseException as error:
        name = "AssertionError" if isinstance(error, AssertionError) else type(error).__name__
        line = " ".join(f"{name}: {error}"[:2000].split())
        write(2, f"\n{line[:500]}\n".encode("utf-8", "replace"))
        leave(1)
    write(report, token)
    leave(0)


def watch(child: int, num_created: int, deadline: float) -> None:
    """Wait for the program and leave with its exit code (128 + number for a signal);
    stop it at a limit."""
    while True:
        if num_created and processes_created() > num_created:
            os.write(2, f"\nmore than {num_created} processes\n".encode())
            os._exit(STOPPED)
        if time.monotonic() > deadline:
            os.killpg(0, signal.SIGKILL)
            os._exit(STOPPED)
        signal.sigtimedwait([signal.SIGCHLD], WATCH_SECONDS)
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            code = os.waitstatus_to_exitcode(status)
            os._exit(code if code >= 0 else 128 - code)


def processes_created() -> int:
    """Highest process number given out in this process namespace, threads included.

    RLIMIT_NPROC does not bind root, and in containers the grader often is root.
    """
    with open("/proc/loadavg") as file:
        return int(file.read().split()[-1])


if __name__ == "__main__":
    main()
