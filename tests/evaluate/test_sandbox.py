"""Programs that misbehave are contained, named for what they did, and never counted as passed."""

import contextlib
import os
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from ssd.config import SandboxName
from ssd.errors import HardwareError
from ssd.evaluate.sandbox import Sandbox, load_sandbox

ATTACKS = {
    "an infinite loop": ("while True: pass", "timeout", "still running after 2 s"),
    "a sleep": ("import time; time.sleep(60)", "timeout", "still running after 2 s"),
    "a stopped process": (
        "import os, signal; os.kill(os.getpid(), signal.SIGSTOP)",
        "timeout",
        "still running after 2 s",
    ),
    "a flood of output": (
        "while True: print('passed' * 1000)",
        "output",
        "printed more than 16 MiB",
    ),
    "one large allocation": ("bytearray(10**10)", "memory", "MemoryError"),
    "many allocations": (
        "kept = []\nwhile True: kept.append(bytes(10**6))",
        "memory",
        "MemoryError",
    ),
    "sys.exit": ("import sys; sys.exit(0)", "error", "SystemExit: 0"),
    "os._exit": (
        "import os; os._exit(0)",
        "error",
        "left with exit code 0 before the end of the tests",
    ),
    "os._exit in a thread": (
        "import os, threading, time\n"
        "threading.Thread(target=os._exit, args=(0,)).start()\n"
        "time.sleep(1)",
        "error",
        "left with exit code 0 before the end of the tests",
    ),
    "suicide": ("import os; os.kill(os.getpid(), 9)", "error", "ended by signal 9"),
    "a crash": ("import ctypes; ctypes.string_at(0)", "error", "ended by signal 11"),
    "reading input": ("input()", "error", "EOFError: EOF when reading a line"),
    "endless recursion": (
        "def f(): f()\nf()",
        "error",
        "RecursionError: maximum recursion depth exceeded",
    ),
    "a large file": (
        "open('x', 'wb').write(bytes(10**8))",
        "error",
        "OSError: [Errno 27] File too large",
    ),
    "text that looks like success": (
        "print('passed'); print('+'); assert False, 'wrong\\nanswer'",
        "failed",
        "AssertionError: wrong answer",
    ),
    "a guessed report": (
        "import os\n"
        "for fd in range(3, 64):\n"
        "    try: os.write(fd, b'0' * 32)\n"
        "    except OSError: pass\n"
        "os._exit(0)",
        "error",
        "left with exit code 0 before the end of the tests",
    ),
}


@pytest.mark.parametrize("attack", ATTACKS)
def test_an_attack_is_contained_and_the_next_program_passes(sandbox: Sandbox, attack: str) -> None:
    program, status, detail = ATTACKS[attack]
    started = time.monotonic()
    outcome = sandbox.run(program)
    assert (outcome.status, outcome.detail, outcome.backend) == (status, detail, sandbox.name)
    assert time.monotonic() - started < 10
    assert sandbox.run("assert 1 + 1 == 2").status == "passed"


# Root has no RLIMIT_NPROC: there only the watching process stops a bomb, and on a busy machine it
# once came to its turn after minutes, with thousands of processes running.
@pytest.mark.slow
def test_a_fork_bomb_is_stopped_and_the_next_program_passes(namespaces: Sandbox) -> None:
    bomb = (
        "import os\n"
        "while True:\n"
        "    try:\n"
        "        if os.fork() == 0: os.setsid()\n"
        "    except OSError: pass"
    )
    assert namespaces.run(bomb).status in ("error", "timeout")
    assert namespaces.run("pass").status == "passed"


def num_running(mark: str, patience: float = 2) -> int:
    """Processes with `mark` in their command line,
    waiting up to `patience` seconds for them to go."""
    deadline = time.monotonic() + patience
    while True:
        found = 0
        for entry in Path("/proc").glob("[0-9]*/cmdline"):
            with contextlib.suppress(OSError):
                found += entry.read_bytes().endswith(mark.encode() + b"\0")
        if not found or time.monotonic() > deadline:
            return found
        time.sleep(0.05)


def test_children_that_left_the_session_die_with_the_program(namespaces: Sandbox) -> None:
    mark = f"outlives{os.getpid()}"
    program = (
        "import subprocess, sys\n"
        f"subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(300)', {mark!r}], "
        "start_new_session=True)"
    )
    assert namespaces.run(program).status == "passed"
    assert num_running(mark) == 0


def test_children_in_the_session_die_with_the_program(sandbox: Sandbox) -> None:
    mark = f"lingers{os.getpid()}"
    program = (
        "import subprocess, sys\n"
        f"subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(300)', {mark!r}])"
    )
    assert sandbox.run(program).status == "passed"
    assert num_running(mark) == 0


@pytest.mark.parametrize("name", ["auto", "none"])
def test_a_program_does_not_outlive_a_killed_grader(
    namespaces: Sandbox, name: str, tmp_path: Path
) -> None:
    mark = f"orphan{name}{os.getpid()}"
    program = (
        "import subprocess, sys\n"
        f"subprocess.run([sys.executable, '-c', 'import time; time.sleep(300)', {mark!r}])"
    )
    grader = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "from ssd.config import SandboxName; from ssd.evaluate.sandbox import load_sandbox\n"
            f"load_sandbox(SandboxName.{name}, timeout=1.0, memory_mib=512).run({program!r})",
        ],
        env={**os.environ, "TMPDIR": str(tmp_path)},
    )
    while not num_running(mark, patience=0):
        assert grader.poll() is None
        time.sleep(0.02)
    grader.kill()
    grader.wait()
    assert num_running(mark, patience=8) == 0


def test_there_is_no_network(namespaces: Sandbox) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        connect = "import socket\nsocket.create_connection(({!r}, {}), timeout=1)"
        assert namespaces.run(connect.format("127.0.0.1", port)).status == "error"
        outside = namespaces.run(connect.format("192.0.2.1", 53))
        assert outside.detail == "OSError: [Errno 101] Network is unreachable"


def test_the_grader_and_its_environment_are_out_of_sight(namespaces: Sandbox) -> None:
    assert namespaces.run(f"import os; os.kill({os.getpid()}, 0)").detail.startswith(
        "ProcessLookupError"
    )
    assert namespaces.run(f"open('/proc/{os.getpid()}/environ').read()").status == "error"


def test_programs_start_in_an_empty_folder_with_a_clean_environment(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_API_KEY", "secret")
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))
    program = """
import os, sys
assert os.listdir() == [], os.listdir()
# LC_CTYPE is Python's own doing where LANG is C.
assert set(os.environ) <= {"PATH", "LANG", "HOME", "TMPDIR", "LC_CTYPE"}, os.environ
assert os.getcwd() == os.environ["HOME"] and sys.flags.isolated and __name__ != "__main__"
assert not any("tests" in path for path in sys.path)
open("file", "w").write("text")
"""
    for _ in range(2):
        outcome = sandbox.run(program)
        assert outcome.status == "passed", outcome.detail


def test_nothing_is_left_in_the_temporary_folder(
    sandbox: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    deep = "import os\nfor i in range(1200):\n    os.mkdir('d'); os.chdir('d')"
    assert sandbox.run(deep).status == "passed"
    assert list(tmp_path.iterdir()) == []


def test_programs_from_several_threads_keep_their_own_outcomes(sandbox: Sandbox) -> None:
    outcomes: dict[int, str] = {}

    def work(number: int) -> None:
        outcomes[number] = sandbox.run(f"assert {number} % 2, {number}").detail

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert outcomes == {
        number: "" if number % 2 else f"AssertionError: {number}" for number in range(8)
    }


def test_dataclasses_pickling_and_numpy_work_inside(sandbox: Sandbox) -> None:
    program = """
from __future__ import annotations
import dataclasses, pickle
import numpy
@dataclasses.dataclass
class Point:
    x: int
assert pickle.loads(pickle.dumps(Point(1))) == Point(1)
assert (numpy.eye(3) @ numpy.ones(3)).sum() == 3
"""
    assert sandbox.run(program).detail == ""


def test_a_machine_without_namespaces_is_refused_with_the_remedy(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    fake = tmp_path / "unshare"
    fake.write_text(
        "#!/bin/sh\necho 'unshare: unshare failed: Operation not permitted' >&2\nexit 1\n"
    )
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    with pytest.raises(
        HardwareError, match=r"Operation not permitted.*eval\.sandbox=none"
    ) as caught:
        load_sandbox(SandboxName.auto, timeout=2, memory_mib=512)
    assert "\n" not in str(caught.value)
    assert (
        load_sandbox(SandboxName.none, timeout=2, memory_mib=512).run("pass").backend == "process"
    )


def test_too_little_memory_to_start_is_an_error_and_no_verdict() -> None:
    with pytest.raises(HardwareError, match=r"eval\.memory_mib=8"):
        load_sandbox(SandboxName.none, timeout=2, memory_mib=8)
