"""Programs that misbehave are contained by either backend, named for what they did, and never
passed; the program after them gets its right verdict."""

import contextlib
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from ssd.errors import HardwareError
from ssd.sandbox import backends
from ssd.sandbox.endings import Outcome
from ssd.sandbox.pool import Sandbox, load_sandbox
from ssd.sandbox.worker import WorkerFault

TIMEOUT = 2.0
MEMORY_MIB = 256


def start(name: str) -> Sandbox:
    try:
        return load_sandbox(name, memory_mib=MEMORY_MIB, workers=2)
    except HardwareError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module", params=["bwrap", "namespaces"])
def isolated(request: pytest.FixtureRequest) -> Iterator[Sandbox]:
    """Each isolating backend in turn."""
    with start(request.param) as sandbox:
        yield sandbox


@pytest.fixture(scope="module", params=["bwrap", "namespaces", "none"])
def sandbox(request: pytest.FixtureRequest) -> Iterator[Sandbox]:
    """Each backend in turn."""
    with start(request.param) as sandbox:
        yield sandbox


def judged(sandbox: Sandbox, code: str, judge: str = "assert f(1) == 2") -> Outcome:
    return sandbox.judge(code, judge, timeout=TIMEOUT)


def assert_well(sandbox: Sandbox) -> None:
    """The next right program passes and the next wrong one fails."""
    assert judged(sandbox, "def f(x): return x + 1").status == "passed"
    assert judged(sandbox, "def f(x): return x").status == "failed"


LATE = "still running after 2 s"
LEFT = "left with exit code 0 before the end of the tests"
FORGED = """
import os, struct
def f(x):
    frame = {} + {}
    os.write(3, struct.pack('!Q', len(frame)) + frame)
"""
ATTACKS = {
    "an infinite loop": ("while True: pass", "timeout", LATE),
    "a sleep": ("import time; time.sleep(60)", "timeout", LATE),
    "a stopped process": (
        "import os, signal; os.kill(os.getpid(), signal.SIGSTOP)",
        "timeout",
        LATE,
    ),
    "a flood of output": ("while True: print('passed' * 1000)", "output", "more than 16 MiB"),
    "a flood of errors": (
        "import os\nwhile True: os.write(2, b'x' * 10**6)",
        "output",
        "more than 16 MiB",
    ),
    "one large allocation": ("bytearray(10**10)", "memory", "MemoryError"),
    "many allocations": (
        "kept = []\nwhile True: kept.append(bytes(10**6))",
        "memory",
        "MemoryError",
    ),
    "memory of many processes": (
        "import os, time\n"
        "for _ in range(4): os.fork()\n"
        "kept = bytearray(b'x' * (100 * 2**20)); time.sleep(60)",
        "memory",
        "used more than 256 MiB",
    ),
    "sys.exit": ("import sys; sys.exit(0)", "error", "SystemExit: 0"),
    "os._exit": ("import os; os._exit(0)", "error", LEFT),
    "os._exit in a thread": (
        "import os, threading, time\n"
        "threading.Thread(target=os._exit, args=(0,)).start()\n"
        "time.sleep(1)",
        "error",
        LEFT,
    ),
    "suicide": ("import os; os.kill(os.getpid(), 9)", "error", "ended by signal 9"),
    "a crash": ("import ctypes; ctypes.string_at(0)", "error", "ended by signal 11"),
    "reading input": ("input()", "error", "EOFError: EOF when reading a line"),
    "endless recursion": (
        "def f(x): return f(x)",
        "error",
        "RecursionError: maximum recursion depth exceeded",
    ),
    "endless recursion without Python's limit": (
        "import sys\nsys.setrecursionlimit(10**9)\ndef f(x): return max([x], key=f)",
        "error",
        "ended by signal 11",
    ),
    "a large file": ("open('x', 'wb').write(bytes(10**8))", "error", "File too large"),
    "text that looks like success": (
        """print('["passed", "", true]'); assert False, 'wrong\\nanswer'""",
        "failed",
        "AssertionError: wrong answer",
    ),
    "a guessed report": (
        "import os\n"
        "for fd in range(128):\n"
        """    text = b'["passed", "", true]'\n"""
        "    for text in (text, bytes([0] * 7 + [len(text)]) + text):\n"
        "        try: os.write(fd, text)\n"
        "        except OSError: pass\n"
        "os._exit(0)",
        "error",
        "",
    ),
    "closing every descriptor": (
        "import os, time\nos.closerange(0, 128)\ntime.sleep(60)",
        "error",
        "closed its connection to the tests",
    ),
    "closing standard output": (
        "import os, sys\nsys.stdout.close(); os.close(1)\ndef f(x): return 3",
        "failed",
        "AssertionError",
    ),
    "patched equality": (
        "class Any:\n"
        "    def __eq__(self, other): return True\n"
        "    def __ne__(self, other): return False\n"
        "    def __hash__(self): return 0\n"
        "def f(x): return Any()",
        "failed",
        "AssertionError",
    ),
    "a number with patched equality": (
        "class Any(int):\n"
        "    def __eq__(self, other): return True\n"
        "    __hash__ = int.__hash__\n"
        "def f(x): return Any(7)",
        "failed",
        "AssertionError",
    ),
    "replaced builtins and modules": (
        "import builtins, sys, pickle, socket, json, os\n"
        "builtins.AssertionError = builtins.Exception = KeyboardInterrupt\n"
        "builtins.isinstance = lambda *_: True\n"
        "pickle.loads = pickle.dumps = json.dumps = lambda *_, **__: b'passed'\n"
        "for name in [one for one in sys.modules if one.startswith('inside')]:\n"
        "    for key, value in list(vars(sys.modules[name]).items()):\n"
        "        if callable(value): setattr(sys.modules[name], key, lambda *_, **__: True)\n"
        "def f(x): return 3",
        "error",
        "",
    ),
    "a deeply nested value": (
        "def f(x):\n    for _ in range(10**6): x = [x]\n    return x",
        "error",
        "RecursionError",
    ),
    "a huge value": ("def f(x): return bytes(200 * 2**20)", "memory", "MemoryError"),
    "a value that refers to itself": (
        "def f(x):\n    x = []; x.append(x); return x",
        "failed",
        "AssertionError",
    ),
    "a bad frame": (
        "import os, struct\n"
        "def f(x):\n    os.write(3, struct.pack('!Q', 20) + b'no pickle at all')\n",
        "error",
        "returned what cannot be read",
    ),
    "a frame without an end": (
        "import os, struct\ndef f(x):\n    os.write(3, struct.pack('!Q', 2**60))\n",
        "error",
        "returned ValueError: a message of",
    ),
    "a frame that sets attributes": (
        FORGED.format(
            # ('value', Fraction(1, 2) with the state (None, {"_numerator": 0}), None)
            r"b'\x80\x04\x8c\x05value\x8c\x0binside.wire\x8c\x04make\x93\x8c\x08FractionK\x01K\x02\x87R'",
            r"b'N}\x8c\x0a_numeratorK\x00s\x86bN\x87.'",
        ),
        "error",
        "a message with opcode 0x62",
    ),
    "a frame that puts items into an object": (
        FORGED.format(
            r"b'\x80\x04\x8c\x05value\x8c\x0binside.wire\x8c\x06handle\x93K\x00\x85R'",
            r"b'K\x01K\x02sN\x87.'",
        ),
        "error",
        "a message that uses what it names",
    ),
    "a pickle that calls os.system": (
        "import os, pickle, struct\n"
        "class Evil:\n    def __reduce__(self): return os.system, ('exit 0',)\n"
        "def f(x):\n"
        "    frame = pickle.dumps(('value', Evil(), None))\n"
        "    os.write(3, struct.pack('!Q', len(frame)) + frame)",
        "error",
        "a message that names posix.system",
    ),
}


@pytest.mark.parametrize("attack", ATTACKS)
def test_an_attack_is_contained_and_the_next_verdicts_are_right(
    sandbox: Sandbox, attack: str
) -> None:
    code, status, detail = ATTACKS[attack]
    outcome = judged(sandbox, code)
    assert (outcome.status, outcome.backend) == (status, sandbox.name), outcome.detail
    assert detail in outcome.detail
    assert len(outcome.detail) <= 300 and "\n" not in outcome.detail
    assert_well(sandbox)


FATAL = {
    "its parent": "os.kill(os.getppid(), signal.SIGKILL)",
    "its parent by other signals": (
        "for one in (1, 2, 3, 6, 10, 11, 12, 13, 14, 15, 19):\n    os.kill(os.getppid(), one)"
    ),
    "its group": "os.killpg(0, signal.SIGKILL)",
    "everything": "os.kill(-1, signal.SIGKILL); time.sleep(60)",
    "everything but itself, answering on": "os.kill(-1, signal.SIGKILL)\ndef f(x): return 2",
}


@pytest.mark.parametrize("target", FATAL)
def test_killing_the_harness_is_no_way_to_pass(isolated: Sandbox, target: str) -> None:
    outcome = judged(isolated, f"import os, signal, time\n{FATAL[target]}")
    assert outcome.status == "error"
    assert_well(isolated)


def test_without_isolation_killing_the_parent_is_no_way_to_pass() -> None:
    with start("none") as sandbox:
        outcome = judged(sandbox, "import os; os.kill(os.getppid(), 9)\ndef f(x): return 2")
        assert outcome.status == "error"
        assert_well(sandbox)


BOMB = """
import os
while True:
    try:
        if os.fork(): pass
    except OSError: pass
"""


def test_a_fork_bomb_is_bounded_by_the_kernel(isolated: Sandbox) -> None:
    count = (
        "import os, time\n"
        "def f():\n"
        "    for number in range(1000):\n"
        "        try:\n"
        "            if os.fork() == 0: time.sleep(60)\n"
        "        except BlockingIOError: return number\n"
    )
    # Judge and zygote count too.
    assert judged(isolated, count, "assert 50 < f() < 64, f()").detail == ""
    for _ in range(2):
        assert judged(isolated, BOMB).status == "timeout"
    scattered = BOMB.replace("fork(): pass", "fork() == 0: os.setsid()")
    assert judged(isolated, scattered).detail == "more than 4 sessions at work"
    assert_well(isolated)


def test_a_thread_bomb_is_bounded_by_the_kernel(isolated: Sandbox) -> None:
    code = (
        "import threading, time\n"
        "def f():\n"
        "    for number in range(1000):\n"
        "        try: threading.Thread(target=time.sleep, args=(60,), daemon=True).start()\n"
        "        except RuntimeError: return number\n"
    )
    assert judged(isolated, code, "assert f() < 64").detail == ""
    assert_well(isolated)


def num_running(mark: str, patience: float = 5) -> int:
    """Processes with `mark` in their command line, waiting up to `patience` seconds for them to
    go."""
    deadline = time.monotonic() + patience
    while True:
        found = 0
        for entry in Path("/proc").glob("[0-9]*/cmdline"):
            with contextlib.suppress(OSError):
                found += entry.read_bytes().endswith(mark.encode() + b"\0")
        if not found or time.monotonic() > deadline:
            return found
        time.sleep(0.05)


@pytest.mark.parametrize("own_session", [False, True])
def test_daemons_and_threads_die_with_the_job(sandbox: Sandbox, own_session: bool) -> None:
    mark = f"outlives{own_session}{sandbox.name}{os.getpid()}"
    code = (
        "import subprocess, sys, threading, time\n"
        "threading.Thread(target=time.sleep, args=(300,)).start()\n"
        f"subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(300)', {mark!r}], "
        f"start_new_session={own_session})\n"
        "def f(x): return x + 1"
    )
    assert judged(sandbox, code).detail == ""
    assert num_running(mark, patience=0) == 0
    assert_well(sandbox)


@pytest.mark.parametrize("name", ["bwrap", "namespaces", "none"])
def test_a_program_does_not_outlive_a_killed_grader(name: str) -> None:
    start(name).close()
    mark = f"orphan{name}{os.getpid()}"
    code = (
        "import subprocess, sys\n"
        f"subprocess.run([sys.executable, '-c', 'import time; time.sleep(300)', {mark!r}])"
    )
    source = (
        "from ssd.sandbox.pool import load_sandbox\n"
        f"sandbox = load_sandbox('{name}', memory_mib=512)\n"
        f"sandbox.judge({code!r}, '', timeout=300)"
    )
    grader = subprocess.Popen([sys.executable, "-c", source])
    while not num_running(mark, patience=0):
        assert grader.poll() is None
        time.sleep(0.02)
    grader.kill()
    grader.wait()
    assert num_running(mark, patience=20) == 0


def test_there_is_no_network(isolated: Sandbox) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        connect = "import socket\nsocket.create_connection(({!r}, {}), timeout=1)"
        assert judged(isolated, connect.format("127.0.0.1", port)).status == "error"
        outside = judged(isolated, connect.format("192.0.2.1", 53))
        assert outside.detail == "OSError: [Errno 101] Network is unreachable"
        server.setblocking(False)
        with pytest.raises(BlockingIOError):  # nobody has knocked
            server.accept()


def test_home_project_and_grader_cannot_be_seen(
    isolated: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "secret").write_text("secret")
    here = Path(__file__)
    outside = [str(tmp_path / "secret"), str(here), str(here.parents[2] / "pyproject.toml")]
    code = f"""
import os
def f():
    seen = [path for path in {outside!r} if os.path.exists(path)]
    seen += [path for path in ("/etc/passwd", "/etc/hosts", "/sys", "/var", "/home", "/run")
             if os.path.exists(path)]
    pids = [int(name) for name in os.listdir("/proc") if name.isdigit()]
    texts = [open(f"/proc/{{pid}}/cmdline").read() for pid in pids]
    return seen, max(pids) < 10000, any("pytest" in text for text in texts)
"""
    assert judged(isolated, code, "assert f() == ([], True, False), f()").detail == ""
    home = f"import os\ndef f(): return sorted(os.listdir({os.path.expanduser('~')!r}))"
    outcome = judged(isolated, home, "assert all(name.startswith('.') for name in f()), f()")
    assert outcome.detail == "" or "FileNotFoundError" in outcome.detail
    kill = f"import os\nos.kill({os.getpid()}, 0)"
    assert judged(isolated, kill).detail.startswith("ProcessLookupError")


def test_only_tmp_can_be_written(isolated: Sandbox) -> None:
    code = """
import os, sys
def f():
    written = []
    for folder in ("/", "/usr", "/bin", "/etc", "/dev", "/proc/sys/kernel", sys.prefix,
                   sys.base_prefix, os.path.dirname(os.__file__)):
        try:
            open(folder + "/attack", "w")
            written.append(folder)
        except OSError:
            pass
    open(os.environ["HOME"] + "/file", "w").write("text")
    return written
"""
    assert judged(isolated, code, "assert f() == [], f()").detail == ""


def test_no_privilege_can_be_had_or_regained(isolated: Sandbox) -> None:
    code = """
import ctypes, os
libc = ctypes.CDLL(None, use_errno=True)
def f():
    status = dict(line.split(":\\t") for line in open("/proc/self/status") if ":\\t" in line)
    capabilities = {status[name].strip("0\\n") for name in ("CapPrm", "CapEff", "CapBnd", "CapAmb")}
    return capabilities, status["NoNewPrivs"].strip(), libc.unshare(0x10000000), \\
        libc.mount(b"tmpfs", b"/tmp", b"tmpfs", 0, None), libc.umount2(b"/tmp", 0)
"""
    judge = "assert f() == ({''}, '1', -1, -1, -1), f()"
    assert judged(isolated, code, judge).detail == ""


def test_memory_that_no_limit_counts_cannot_be_had(sandbox: Sandbox) -> None:
    code = """
import ctypes, os
libc = ctypes.CDLL(None)
def f():
    try: os.memfd_create("x")
    except PermissionError: return [libc.shmget(1, 100, 0o1600), libc.msgget(1, 0o1600),
                                    libc.semget(1, 1, 0o1600)]
"""
    assert judged(sandbox, code, "assert f() == [-1, -1, -1], f()").detail == ""


def test_neither_the_judge_nor_the_zygote_can_be_read_or_traced(isolated: Sandbox) -> None:
    code = """
import ctypes, os
libc = ctypes.CDLL(None)
def f():
    opened = []
    for pid in (int(name) for name in os.listdir("/proc") if name.isdigit()):
        if pid != os.getpid():
            for name in ("mem", "environ", "maps"):
                try:
                    open(f"/proc/{pid}/{name}", "rb").read(1)
                    opened.append((pid, name))
                except OSError: pass
            try: opened.append(os.listdir(f"/proc/{pid}/fd"))
            except OSError: pass
            if libc.ptrace(16, pid, 0, 0) == 0: opened.append((pid, "ptrace"))
    return opened
"""
    assert judged(isolated, code, "assert f() == [], f()").detail == ""


def test_the_tests_are_not_in_the_candidates_memory(isolated: Sandbox) -> None:
    mark = "expected-" + "value"
    code = """
def f():
    needle, found = ("-".join(("expected", "value"))).encode(), 0
    with open("/proc/self/maps") as maps, open("/proc/self/mem", "rb", 0) as memory:
        for line in maps:
            span, mode = line.split()[:2]
            low, high = (int(word, 16) for word in span.split("-"))
            if "r" in mode and "w" in mode and high - low < 2**26:
                memory.seek(low)
                try: found += memory.read(high - low).count(needle)
                except OSError: pass
    return found
"""
    # Undumpable processes cannot open their own memory either, where they are not root.
    readable = judged(isolated, "import ctypes\nctypes.CDLL(None).prctl(4, 1, 0, 0, 0)\n" + code,
                      f"DATA\nassert f() <= 1, (f(), {mark!r})")  # fmt: skip
    assert readable.detail == ""
    for _ in range(2):
        again = judged(isolated, "import ctypes\nctypes.CDLL(None).prctl(4, 1, 0, 0, 0)\n" + code,
                       "assert f() <= 1, f()")  # fmt: skip
        assert again.detail == ""


def test_programs_start_in_an_empty_folder_with_a_clean_environment(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_API_KEY", "secret")
    code = """
import os, sys
def f():
    left, known = os.listdir(), {"PATH", "LANG", "HOME", "TMPDIR", "LC_CTYPE"}
    open("file", "w").write("text")
    return left, set(os.environ) - known, os.getcwd() == os.environ["HOME"], __name__, sys.path[0]
"""
    judge = "assert f()[:4] == ([], set(), True, 'program')"
    with load_sandbox(sandbox.name, memory_mib=MEMORY_MIB) as fresh:
        for _ in range(2):
            assert judged(fresh, code, judge).detail == ""


def test_what_a_job_leaves_in_tmp_is_gone(sandbox: Sandbox, tmp_path: Path) -> None:
    deep = "import os\ndef f():\n    for i in range(600):\n        os.mkdir('d'); os.chdir('d')"
    assert judged(sandbox, deep, "f()").detail == ""
    for _ in range(3):
        code = "import os\ndef f(): return os.listdir(os.environ['HOME'])"
        assert judged(sandbox, code, "assert f() == [], f()").detail == ""


def test_nothing_is_left_in_the_graders_temporary_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with start("none") as sandbox:
        judged(sandbox, "import os\nos.mkdir('d')\nopen('d/file', 'w')")
        judged(sandbox, "open('file', 'w')")
    assert list(tmp_path.iterdir()) == []


def test_jobs_from_several_threads_keep_their_own_outcomes(sandbox: Sandbox) -> None:
    outcomes: dict[int, str] = {}

    def work(number: int) -> None:
        outcomes[number] = judged(
            sandbox, f"def f(): return {number}", "assert f() % 2, f()"
        ).detail

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert outcomes == {
        number: "" if number % 2 else f"AssertionError: {number}" for number in range(8)
    }


@pytest.mark.parametrize("name", ["bwrap", "namespaces", "none"])
def test_a_stop_ends_a_program_however_far_its_start_is_and_gives_no_verdict(name: str) -> None:
    def work(sandbox: Sandbox, endings: list[str]) -> None:
        try:
            endings.append(sandbox.execute("while True: pass", "", timeout=15).status)
        except WorkerFault:
            endings.append("stopped")

    for delay in (0, 0, 0, 0.001, 0.01, 0.2):  # from a job not yet handed over to one that runs
        endings: list[str] = []
        with start(name) as sandbox:
            thread = threading.Thread(target=work, args=(sandbox, endings))
            thread.start()
            while not sandbox._busy:
                pass
            time.sleep(delay)
            sandbox.stop()
            thread.join()
        assert endings == ["stopped"]


def test_a_worker_killed_from_outside_is_replaced(isolated: Sandbox) -> None:
    assert_well(isolated)
    for worker in isolated._idle:
        assert worker.process is not None
        worker.process.kill()
    assert_well(isolated)


CROWD = """
import os, time
for _ in range(600):
    if os.fork() == 0: time.sleep(60)
time.sleep(60)
"""


@pytest.mark.parametrize("name", ["bwrap", "namespaces"])
def test_where_root_has_no_second_id_processes_are_watched_instead(name: str) -> None:
    start(name).close()
    watched = [backend for backend in backends.candidates(name) if backend.watched]
    if not watched:
        pytest.skip("not root: the kernel bounds processes")
    with Sandbox(watched[0], memory_mib=MEMORY_MIB, workers=1) as sandbox:
        assert judged(sandbox, CROWD).detail == "more than 256 processes"
        assert_well(sandbox)


def test_bubblewrap_works_where_proc_cannot_be_mounted() -> None:
    start("bwrap").close()
    backend = next(one for one in backends.candidates("bwrap") if not one.proc)
    with Sandbox(backend, memory_mib=MEMORY_MIB, workers=1) as sandbox:
        assert judged(sandbox, BOMB).status == "timeout"
        assert judged(sandbox, ATTACKS["os._exit"][0]).detail == LEFT
        assert_well(sandbox)


def test_a_machine_without_namespaces_is_refused_with_the_remedy(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("unshare", "bwrap"):
        fake = tmp_path / name
        fake.write_text(f"#!/bin/sh\necho '{name}: Operation not permitted' >&2\nexit 1\n")
        fake.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    with pytest.raises(HardwareError, match=r"bwrap: .*unshare: .*eval\.sandbox=none") as caught:
        load_sandbox("auto", memory_mib=MEMORY_MIB)
    assert "\n" not in str(caught.value)
    with start("none") as sandbox:
        assert judged(sandbox, "def f(x): return 2").backend == "none"


def test_auto_takes_bubblewrap_where_there_is_one_and_namespaces_elsewhere(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    start("bwrap").close()
    start("namespaces").close()
    with load_sandbox("auto", memory_mib=MEMORY_MIB) as sandbox:
        assert sandbox.name == "bwrap"
    fake = tmp_path / "bwrap"
    fake.write_text("#!/bin/sh\nexit 1\n")
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    with load_sandbox("auto", memory_mib=MEMORY_MIB) as sandbox:
        assert sandbox.name == "namespaces"
