"""One job, nothing left: what a program does to the sandbox ends with it, and it learns nothing of
the programs before it. On every isolating backend, as every kind of user."""

import os
from pathlib import Path

import pytest
from answers import fenced, make_sample
from graders import Grader, grader_fixture

from ssd.config.choices import Grading
from ssd.config.settings import BenchmarkFiles
from ssd.evaluate.grading import grade_answer
from ssd.evaluate.reading import Reading
from ssd.problems.benchmarks.registry import load_benchmark
from ssd.records.verdicts import read_verdicts, write_verdicts
from ssd.sandbox.pool import Sandbox

grader = grader_fixture(memory_mib=512)

RIGHT = """
import os, random
NUMBERS = [random.random() for _ in range(3)]
def f(x):
    open('file', 'w').write('text' * 10**5)
    kept = bytearray(b'x' * (100 * 2**20))
    state = os.listdir(), os.getpriority(os.PRIO_PROCESS, 0), os.sched_getscheduler(0)
    return x + 1, *state, len(os.sched_getaffinity(0)), os.stat('.').st_mode & 0o777, NUMBERS
"""


def assert_untouched(grader: Grader) -> None:
    """A right program that uses files, memory and the state of its process passes, whatever ran
    before it, and a wrong one fails."""
    import random

    random.seed(0)
    numbers = [random.random() for _ in range(3)]
    cores = len(os.sched_getaffinity(0))
    nice = 19 if isinstance(grader, Sandbox) and grader._backend.watched else 0
    judge = f"assert f(1) == (2, ['file'], {nice}, 0, {cores}, 0o700, {numbers}), f(1)"
    right = grader.judge(RIGHT, judge, timeout=10)
    assert (right.status, right.detail) == ("passed", "")
    wrong = grader.judge("def f(x): return x", "assert f(1) == 2", timeout=10)
    assert wrong.status == "failed"


EVERYONE = "for pid in (0, 1, os.getpid(), os.getppid(), *range(2, 200)):\n    try: {}\n    except (OSError, ValueError): pass"  # noqa: E501
MARKS = {
    "closes its home": "os.chmod('.', 0)",
    "makes its home read-only": "os.chmod('.', 0o555)",
    "fills its home": (
        "try:\n"
        "    for i in range(10000): os.mkdir(f'd{i}')\n"
        "except OSError: pass\n"
        "try: open('large', 'wb').write(bytes(60 * 2**20))\n"
        "except OSError: pass"
    ),
    "sets an attribute": (
        "try: os.setxattr('.', 'user.mark', b'x')\n"
        "except OSError: pass"
    ),
    **{
        f"limits everyone's {name}": EVERYONE.format(
            f"resource.prlimit(pid, resource.RLIMIT_{name}, (0, 0))"
        )
        for name in ("NOFILE", "AS", "STACK", "FSIZE", "NPROC", "CPU", "CORE")
    },
    "makes everyone nice": EVERYONE.format("os.setpriority(os.PRIO_PROCESS, pid, 19)"),
    "makes its user nice": (
        "try: os.setpriority(os.PRIO_USER, os.getuid(), 19)\n"
        "except OSError: pass"
    ),
    "makes everyone idle": EVERYONE.format(
        "os.sched_setscheduler(pid, os.SCHED_IDLE, os.sched_param(0))"
    ),
    "binds everyone to one core": EVERYONE.format("os.sched_setaffinity(pid, {0})"),
    "kills everyone": EVERYONE.format("os.kill(pid, 9) if pid not in (0, os.getpid()) else None"),
    "stops everyone": EVERYONE.format("os.kill(pid, 19) if pid not in (0, os.getpid()) else None"),
    "writes kernel settings": (
        "for folder, _, names in os.walk('/proc/sys'):\n"
        "    for name in names:\n"
        "        try:\n"
        "            path = os.path.join(folder, name)\n"
        "            text = open(path).read()\n"
        "            open(path, 'w').write(text)\n"
        "            raise SystemExit(path)\n"
        "        except (OSError, ValueError): pass"
    ),
    "changes a device": (
        "for name in ('null', 'zero', 'random', 'urandom'):\n"
        "    try: os.chmod(f'/dev/{name}', 0)\n"
        "    except OSError: continue\n"
        "    raise SystemExit(name)"
    ),
    "leaves memory that outlives processes": (
        "libc = ctypes.CDLL(None)\n"
        "for i in range(100):\n"
        "    if libc.shmget(i, 2**20, 0o1666) >= 0: raise SystemExit('shm')"
    ),
    "leaves a daemon that kills": (
        "if os.fork() == 0:\n"
        "    os.setsid()\n"
        "    if os.fork() == 0:\n"
        "        while True:\n"
        "            try: os.kill(-1, 9)\n"
        "            except OSError: pass\n"
        "            time.sleep(0.001)\n"
        "    os._exit(0)"
    ),
}  # fmt: skip


@pytest.mark.parametrize("mark", MARKS)
def test_what_a_program_does_to_the_sandbox_ends_with_its_job(grader: Grader, mark: str) -> None:
    code = f"import ctypes, os, resource, time\n{MARKS[mark]}\nprint(1)"
    grader.execute(code, "", timeout=3)
    assert_untouched(grader)
    outcome = grader.judge(f"{code}\ndef f(x): return x", "assert f(1) == 2", timeout=3)
    assert outcome.status != "passed"
    assert not outcome.detail.startswith("SystemExit"), outcome.detail
    assert_untouched(grader)


BUSY = """
import os, time
for _ in range(6):
    if os.fork() == 0:
        {act}
        while True: pass
def f(x):
    end = time.time() + 4
    while os.getpriority(os.PRIO_PROCESS, 0) < 19 and time.time() < end: pass
    return os.getpriority(os.PRIO_PROCESS, 0)
"""


def test_a_job_with_many_busy_processes_waits_behind_all_others(grader: Grader) -> None:
    judge = "assert f(1) == 19, f(1)"
    assert grader.judge(BUSY.format(act="pass"), judge, timeout=5).detail == ""
    assert_untouched(grader)
    # Kernels that group processes by session would give each of these the share of a job.
    outcome = grader.judge(BUSY.format(act="os.setsid()"), "time.sleep(4)", timeout=5)
    assert (outcome.status, outcome.detail) == ("error", "more than 4 sessions at work")


def test_signals_that_wait_and_timers_are_bounded(grader: Grader) -> None:
    code = """
import ctypes
libc, timer = ctypes.CDLL(None), ctypes.c_void_p()
def f(): return sum(libc.timer_create(1, None, ctypes.byref(timer)) == 0 for _ in range(2000))
"""
    assert grader.judge(code, "assert 0 < f() <= 1024, f()", timeout=5).detail == ""


def test_names_and_ports_that_a_program_leaves_taken_are_free_for_the_next(grader: Grader) -> None:
    take = """
import socket
a, b = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
named, listening = socket.socket(socket.AF_UNIX), socket.socket()
named.bind("\\0name")
listening.bind(("0.0.0.0", 5000))
"""
    leave = (
        "for one, other in ((a, b), (b, a)):\n"
        "    fds = [one.fileno(), other.fileno(), named.fileno(), listening.fileno()]\n"
        "    socket.send_fds(one, [b'x'], fds)"
    )
    for _ in range(3):  # a cycle lives until the kernel collects it
        assert grader.execute(f"{take}{leave}", "", timeout=5).detail == ""


def test_other_processes_cannot_be_named(grader: Grader) -> None:
    code = """
import os, signal
def f():
    pids = [int(name) for name in os.listdir('/proc') if name.isdigit()]
    known = []
    for pid in range(1, 2000):
        try: os.kill(pid, 0)
        except ProcessLookupError: continue
        except PermissionError: pass
        known.append(pid)
    return sorted(pids), known
"""
    # Process 1 of its own namespace, which sleeps, and itself.
    judge = "assert f() == ([1, 2], [1, 2]), f()"
    assert grader.judge(code, judge, timeout=5).detail == ""


def test_a_candidate_that_attacks_at_the_end_of_its_connection_harms_only_itself(
    grader: Grader,
) -> None:
    code = """
import os, signal
def f(x):
    os.close(3)
    for number in (signal.SIGSTOP, signal.SIGKILL):
        for pid in range(200):
            if pid not in (0, os.getpid()):
                try: os.kill(pid, number)
                except OSError: pass
    os.kill(0, signal.SIGKILL)
"""
    for _ in range(5):
        outcome = grader.judge(code, "assert f(1) == 2", timeout=5)
        assert (outcome.status, outcome.detail) == ("error", "ended by signal 9")
        assert_untouched(grader)


CYCLE = """
import socket
a, b = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
socket.send_fds(a, [b'x'], [1, a.fileno(), b.fileno()])
socket.send_fds(b, [b'x'], [2, b.fileno(), a.fileno()])
print(1)
"""


def test_a_cycle_of_sockets_that_holds_the_output_is_waited_for_by_nobody(grader: Grader) -> None:
    for _ in range(6):
        execution = grader.execute(CYCLE, "", timeout=5)
        assert (execution.status, execution.stdout) == ("passed", "1\n")
        assert execution.seconds < 5
    judged = CYCLE.replace("[1, a", "[1, 3, a") + "def f(x): return x + 1"
    assert grader.judge(judged, "assert f(1) == 2", timeout=5).status == "passed"
    assert_untouched(grader)


def test_text_that_no_file_takes_arrives_escaped(grader: Grader) -> None:
    code = r"def f(x): raise ValueError('\ud800 \x00 \x1b[31m ' + 'x' * 10**7)"
    outcome = grader.judge(code, "assert f(1) == 2", timeout=5)
    assert outcome.status == "error"
    assert outcome.detail.startswith(r"ValueError: \ud800 \x00 \x1b[31m xxx")
    assert outcome.detail.isprintable() and len(outcome.detail) == 300
    program = grader.execute(r"raise ValueError('\ud800\x00')", "", timeout=5)
    assert program.detail.isprintable()


def test_a_verdict_with_such_a_text_is_written_and_read(grader: Grader, tmp_path: Path) -> None:
    task = load_benchmark("humaneval", BenchmarkFiles(), Grading.official).tasks[0]
    code = "def has_close_elements(*_): raise ValueError(chr(0xd800) + chr(0))"
    answer = make_sample(task.problem.problem_id, fenced(code))
    reading = Reading(answer=answer.text)
    verdict = grade_answer(task, answer, grader, timeout=5, reading=reading)  # type: ignore
    write_verdicts(tmp_path / "verdicts.parquet", [verdict])
    assert read_verdicts(tmp_path / "verdicts.parquet") == [verdict]
    assert (verdict.status, verdict.detail) == ("error", r"ValueError: \ud800\x00")


def test_memory_that_the_judge_needed_is_free_for_the_next_job(grader: Grader) -> None:
    greedy = "def f(x): return [str(i) * 2 for i in range(1_000_000)]"
    frugal = "def f(x): return bytes(120 * 2**20)"
    assert grader.judge(greedy, "assert len(f(1)) == 1_000_000", timeout=30).detail == ""
    assert grader.judge(frugal, "assert len(f(1)) == 120 * 2**20", timeout=30).detail == ""


def test_tests_may_print(grader: Grader) -> None:
    judge = "print('x' * 1000)\nassert f(1) == 2\nprint('x' * 10**6)"
    for _ in range(50):
        assert grader.judge("def f(x): return x + 1", judge, timeout=5).detail == ""


def test_every_judge_draws_the_same_random_numbers(grader: Grader) -> None:
    judge = "import random\nassert 0, [random.randint(0, 10**9) for _ in range(f(3))]"
    details = {grader.judge("def f(x): return x", judge, timeout=5).detail for _ in range(5)}
    assert len(details) == 1


def test_what_a_judge_changes_is_gone(grader: Grader) -> None:
    judge = (
        "import builtins, json, os, sys\n"
        "assert not hasattr(json, 'mark') and not hasattr(builtins, 'mark'), 'changed'\n"
        "assert os.listdir() == []\n"
        "json.mark = builtins.mark = True\n"
        "os.mkdir('folder'); open('file', 'w').write('text')\n"
        "sys.setrecursionlimit(50)\n"
        "assert f(1) == 2"
    )
    for _ in range(3):
        assert grader.judge("def f(x): return x + 1", judge, timeout=5).detail == ""


SCAN = """
import ctypes
def scan(needle):
    found = 0
    for line in open('/proc/self/maps').read().split('\\n'):
        words = line.split()
        if len(words) > 1 and words[1].startswith('rw') and (words[5:] or [''])[0][:2] != '[v':
            low, high = (int(word, 16) for word in words[0].split('-'))
            if high - low < 2**27:
                found += ctypes.string_at(low, high - low).count(needle)
    return found
"""


def test_answers_outputs_inputs_and_tests_of_other_jobs_are_in_no_memory(grader: Grader) -> None:
    def mark(place: str) -> str:
        return f"secret-of-{place}-{grader.name}"

    grader.judge(f"def f(x): return '{mark('code')}' and 2", "assert f(1) == 2", timeout=5)
    grader.judge(
        "def f(x): return 2", f"assert f(1) == 2, '{mark('tests')}'", data=[mark("data")],
        before=f"BEFORE = '{mark('before')}'", timeout=5,
    )  # fmt: skip
    grader.execute(f"print('{mark('output')}' * 1000)", mark("input") * 1000, timeout=5)
    for place in ("code", "tests", "data", "before", "output", "input"):
        head, tail = mark(place)[:9].encode(), mark(place)[9:].encode()
        code = f"{SCAN}\ndef f(): return scan({head!r} + {tail!r})"
        # Once where the needle itself lies, and where it was put together.
        outcome = grader.judge(code, "assert 0, f()", timeout=10)
        assert outcome.detail.startswith("AssertionError: "), outcome.detail
        assert int(outcome.detail.split()[-1]) <= 2, (place, outcome.detail)
    here = f"KEPT = '{mark('here')}'\n{SCAN}\ndef f(): return scan({mark('here').encode()!r})"
    assert grader.judge(here, "assert f() > 2, f()", timeout=10).detail == ""


def test_shared_memory_counts_once_and_in_sum(grader: Grader) -> None:
    touch = "m = mmap.mmap(-1, {} * 2**20)\nfor i in range(0, len(m), 4096): m[i] = 1\n"
    fork = "for _ in range(5):\n    if os.fork() == 0: {}\n"
    own = f"import mmap, os, time\n{fork.format('break')}{touch.format(300)}time.sleep(60)"
    outcome = grader.judge(own, "f()", timeout=10)
    assert (outcome.status, outcome.detail) == ("memory", "used more than 512 MiB")
    read = "sum(m[i] for i in range(0, len(m), 4096)); time.sleep(0.3); os._exit(0)"
    common = (
        f"import mmap, os, time\n{touch.format(300)}{fork.format(read)}"
        "for _ in range(5): os.wait()\ndef f(x): return x + 1"
    )
    assert grader.judge(common, "assert f(1) == 2", timeout=10).detail == ""
    assert_untouched(grader)


def test_only_sockets_that_stay_in_the_namespace_can_be_had(grader: Grader) -> None:
    code = """
import socket
def f():
    families = []
    for family in range(50):
        for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM, socket.SOCK_RAW):
            try:
                socket.socket(family, kind).close()
                families.append(family)
            except OSError: pass
    return sorted(set(families))
"""
    allowed = {"AF_UNIX": 1, "AF_INET": 2, "AF_INET6": 10}
    judge = f"assert set(f()) <= {set(allowed.values())}, f()"
    assert grader.judge(code, judge, timeout=5).detail == ""


ORDINARY_USES = """
import asyncio, concurrent.futures, multiprocessing, os, shutil, signal, sqlite3, subprocess, sys
import tempfile, threading, time
def square(x): return x * x
async def later(x):
    await asyncio.sleep(0.01)
    return x
async def shell():
    process = await asyncio.create_subprocess_exec('echo', 'hi', stdout=subprocess.PIPE)
    return (await process.communicate())[0]
def f():
    with multiprocessing.get_context('fork').Pool(2) as pool: assert pool.map(square, [2]) == [4]
    with concurrent.futures.ThreadPoolExecutor(2) as pool: assert [*pool.map(square, [3])] == [9]
    assert asyncio.run(later(5)) == 5 and asyncio.run(shell()) == b'hi\\n'
    assert subprocess.run([sys.executable, '-c', 'print(7)'], capture_output=True).stdout == b'7\\n'
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, 'a')
        open(path, 'w').write('text')
        shutil.copy2(path, path + 'b'); os.utime(path); os.link(path, path + 'c')
        os.symlink(path, path + 'd'); os.mkfifo(path + 'e'); os.truncate(path, 2)
    base = sqlite3.connect(':memory:')
    assert base.execute('select 1 + 1').fetchone() == (2,)
    signal.signal(signal.SIGALRM, lambda *_: None); signal.setitimer(signal.ITIMER_REAL, 0.01)
    time.sleep(0.03); os.nice(1); os.sched_setaffinity(0, os.sched_getaffinity(0))
    threading.Timer(0.01, print).start()
    return True
"""


def test_what_programs_ordinarily_use_is_there(grader: Grader) -> None:
    outcome = grader.judge(ORDINARY_USES, "assert f()", timeout=20)
    assert outcome.detail == ""


def test_a_worker_serves_again_after_a_program_that_no_job_survives(
    grader: Grader, tmp_path: Path
) -> None:
    sockets = """
import os, socket, time
for _ in range(20):
    if os.fork() == 0: break
kept = []
while True:
    try:
        a, b = socket.socketpair()
        for one in (a, b):
            one.setblocking(False)
            while True:
                try: one.send(bytes(2**16))
                except BlockingIOError: break
        kept += a, b
    except OSError: time.sleep(60)
"""
    assert grader.judge(sockets, "f()", timeout=1).status in ("timeout", "error", "memory")
    assert_untouched(grader)
