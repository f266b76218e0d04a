"""Random hostile programs, composed from what has bent a sandbox before: whatever runs before them,
a right program passes and a wrong one fails, with the same words as ever.

A hundred programs by default, thousands with `-m slow`.
"""

import pytest
from graders import Grader, grader_fixture
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

SECONDS = 0.5

grader = grader_fixture(memory_mib=128)

PIDS = st.sampled_from(["0", "1", "2", "3", "-1", "os.getpid()", "os.getppid()", "NEAR"])
SIGNALS = st.sampled_from([1, 2, 9, 13, 15, 17, 18, 19, 24])
LIMITS = st.sampled_from(["AS", "NOFILE", "FSIZE", "STACK", "NPROC", "CPU", "CORE", "DATA"])
DESCRIPTORS = st.sampled_from(["0", "1", "2", "3", "4", "5", "6", "FDS"])
PATHS = st.sampled_from(
    ["'.'", "'/'", "'/tmp'", "os.environ['HOME']", "'/dev/null'", "'/proc/1/oom_score_adj'",
     "'/proc/sys/kernel/pid_max'", "'/proc/self/mem'", "os.__file__", "sys.executable"]
)  # fmt: skip
FRAMES = st.one_of(
    st.binary(max_size=40).map(repr),
    st.sampled_from(
        [
            "pickle.dumps(('value', True, None))",
            "pickle.dumps(('value', 2, None))",
            "pickle.dumps(('raised', ['SystemExit'], 'SystemExit', (0,)))",
            "pickle.dumps(('callback', 0, (), {}))",
            r"""b"\x80\x04cinside.wire\nmake\n(X\x08\x00\x00\x00Fraction"""
            r"""K\x00K\x01tR}X\x01\x00\x00\x00nK\x01sb." """,
            r"""b"\x80\x04cinside.wire\nhandle\n(K\x00tR}K\x00K\x01ssb." """,
            'b\'["passed", ""]\'',
            "bytes(2**20)",
        ]
    ),
)
VALUES = st.sampled_from(
    ["chr(0xd800)", "'\\0'", "'x' * 10**7", "b'x' * 10**7", "float('nan')", "10**5000", "Odd()",
     "[Odd()] * 3", "(lambda *_: 2)", "{1: Odd()}", "type('T', (int,), {})(2)", "print", "Odd"]
)  # fmt: skip
ODD = """
class Odd(Exception):
    __array_interface__ = {'shape': (0,), 'typestr': '<f8', 'version': 3, 'data': (1, False)}
    def __eq__(self, other): return True
    def __hash__(self): return 0
    def __len__(self): return 2**60
    def __iter__(self): return self
    def __next__(self): return self
    def __index__(self): return 10**30
    def __getattr__(self, name): return self
    def __repr__(self): raise KeyboardInterrupt
    __str__ = __bool__ = __float__ = __repr__
"""


def line(template: str, **choices: st.SearchStrategy) -> st.SearchStrategy[str]:
    """A line of a program with its holes filled at random."""
    return st.fixed_dictionaries(choices).map(lambda chosen: template.format(**chosen))


ACTS = st.one_of(
    line("os.kill({pid}, {signal})", pid=PIDS, signal=SIGNALS),
    line("os.killpg(0, {signal})", signal=SIGNALS),
    line("resource.prlimit({pid}, resource.RLIMIT_{limit}, (0, 0))", pid=PIDS, limit=LIMITS),
    line("resource.setrlimit(resource.RLIMIT_{limit}, (0, 0))", limit=LIMITS),
    line("os.setpriority({kind}, {pid}, 19)", kind=st.sampled_from([0, 1, 2]), pid=PIDS),
    line("os.sched_setscheduler({pid}, os.SCHED_IDLE, os.sched_param(0))", pid=PIDS),
    line("os.sched_setaffinity({pid}, {{0}})", pid=PIDS),
    line("os.chmod({path}, {mode})", path=PATHS, mode=st.sampled_from([0, 0o555, 0o7777])),
    line("os.setxattr({path}, 'user.x', b'x')", path=PATHS),
    line("os.utime({path}, (0, 0))", path=PATHS),
    line("open({path}, 'r+b', 0).write(b'0')", path=PATHS),
    line("os.close({fd})", fd=DESCRIPTORS),
    line("os.dup2({fd}, {other})", fd=DESCRIPTORS, other=DESCRIPTORS),
    line("os.set_blocking({fd}, False)", fd=DESCRIPTORS),
    line("os.write({fd}, b'x' * {size})", fd=DESCRIPTORS, size=st.sampled_from([1, 10**5, 10**7])),
    line("os.write({fd}, frame({frame}))", fd=DESCRIPTORS, frame=FRAMES),
    line("socket.send_fds(A, [b'x'], [{fd}, A.fileno(), B.fileno()])", fd=DESCRIPTORS),
    line("socket.send_fds(B, [b'x'], [{fd}, A.fileno(), B.fileno()])", fd=DESCRIPTORS),
    line("socket.socket({family}, 1)", family=st.sampled_from([16, 17, 29, 38, 40])),
    line("raise ValueError({value})", value=VALUES),
    line("KEPT.append({value})", value=VALUES),
    line("KEPT.append(mmap.mmap(-1, {size} * 2**20))", size=st.sampled_from([1, 100, 10**4])),
    line("[KEPT.append(bytes(2**20)) for _ in range({size})]", size=st.sampled_from([10, 1000])),
    line("[os.fork() for _ in range({count})]", count=st.sampled_from([1, 3, 8])),
    line("threading.Thread(target=act, args=({depth},), daemon=True).start()", depth=st.just(1)),
    line("LIBC.prctl({option}, {value}, 0, 0, 0)",
         option=st.sampled_from([1, 4, 22, 36, 38, 15]), value=st.integers(0, 9)),
    line("LIBC.syscall({call}, {first}, 0, 0, 0)",
         call=st.sampled_from([56, 101, 155, 165, 166, 272, 308, 310, 321, 425, 435]),
         first=st.sampled_from([0, 1, 2, 0x10000000, 0x20000000])),
    st.sampled_from([
        "os._exit(0)", "sys.exit(0)", "os.abort()", "os.setsid()", "os.chdir('/')", "import numpy",
        "ctypes.string_at(0)", "sys.setrecursionlimit(10**9)", "gc.freeze()", "os.umask(0o777)",
        "atexit.register(act, 1)", "signal.signal(15, signal.SIG_IGN)", "random.seed(1)",
        "sys.stdout.close()", "print('[\"passed\", \"\"]', flush=True)", "time.sleep(0.2)",
        "os.nice(19)", "os.execv(sys.executable, ['x', '-c', 'pass'])", "os.mkdir('d')",
        "os.symlink('/', 'root')", "os.mkfifo('pipe')", "os.chroot('.')", "os.unshare(0x20000000)",
    ]),
)  # fmt: skip
PROGRAM = """
import atexit, ctypes, gc, mmap, os, pickle, random, resource, signal, socket, struct, sys
import threading, time
LIBC = ctypes.CDLL(None)
A, B = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
NEAR, FDS, KEPT = os.getpid() + 1, 7, []
{odd}
def frame(content): return struct.pack('!Q', len(content)) + content
def act(depth=0):
    if depth > 1: return
{acts}
{before}
def f(x):
{inside}
    return {value}
"""


@st.composite
def hostile_programs(draw: st.DrawFn) -> str:
    """A module that defines `f`, hostile when it is loaded, when it is called, or both."""

    def block(indent: int, least: int) -> str:
        lines = draw(st.lists(ACTS, min_size=least, max_size=4))
        caught = draw(st.integers(0, 3))
        space = " " * indent
        if not caught or not lines:
            return "\n".join(space + line for line in lines) or f"{space}pass"
        return "\n".join(f"{space}try: {line}\n{space}except BaseException: pass" for line in lines)

    return PROGRAM.format(
        odd=ODD,
        acts=block(4, 1),
        before=draw(st.sampled_from(["", "act()"])) + "\n" + block(0, 0),
        inside=block(4, 1),
        value=draw(st.one_of(VALUES, st.just("x"))),
    )


def attack(grader: Grader, code: str) -> None:
    """Run a hostile program, as a module and as a program, each before a right and a wrong one."""
    outcome = grader.judge(code, "assert type(f(1)) is int and f(1) == 5", timeout=SECONDS)
    assert outcome.status != "passed"
    assert outcome.detail.isprintable()
    assert_verdicts(grader)
    grader.execute(code, "1\n2\n", timeout=SECONDS)
    assert_verdicts(grader)


def assert_verdicts(grader: Grader) -> None:
    right = "open('file', 'w').write('x' * 10**6)\nimport random\ndef f(x): return x + 1"
    outcomes = [
        grader.judge(code, "print(1)\nassert f(1) == 2, f(1)", timeout=20)
        for code in (right, "def f(x): return x")
    ]
    assert [(one.status, one.detail) for one in outcomes] == [
        ("passed", ""),
        ("failed", "AssertionError: 1"),
    ]


COMMON = {"deadline": None, "suppress_health_check": list(HealthCheck), "database": None}


@given(code=hostile_programs())
@settings(max_examples=17, derandomize=True, **COMMON)
def test_no_random_attack_changes_the_verdicts_that_follow(grader: Grader, code: str) -> None:
    attack(grader, code)


@pytest.mark.slow
@given(code=hostile_programs())
@settings(max_examples=1000, **COMMON)
def test_none_of_thousands_of_random_attacks_changes_the_verdicts_that_follow(
    grader: Grader, code: str
) -> None:
    attack(grader, code)
