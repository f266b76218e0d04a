"""What passes between a candidate and its tests, and programs with standard input and output."""

import sys
from collections.abc import Iterator
from typing import Any

import pytest

from ssd.errors import HardwareError
from ssd.sandbox.endings import Outcome
from ssd.sandbox.pool import Sandbox, load_sandbox


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    """The strongest backend; what is tested here is the same in all."""
    try:
        with load_sandbox("auto", memory_mib=512) as sandbox:
            yield sandbox
    except HardwareError as error:
        pytest.skip(str(error))


def assert_passes(sandbox: Sandbox, code: str, judge: str, **more: Any) -> None:
    outcome = sandbox.judge(code, judge, timeout=10, **more)
    assert (outcome.status, outcome.detail) == ("passed", "")


IDENTITY = "def f(x): return x"
PLAIN = """
import collections, datetime, decimal, fractions
UTC = datetime.timezone.utc
VALUES = [
    None, True, 10**40, -1.5, float("inf"), 2 + 3j, "text\\ud800", b"bytes", bytearray(b"array"),
    [1, [2]], (1, (2,)), {1, 2}, frozenset((3,)), {"key": [1], 2: None}, range(3, 9, 2),
    slice(1, None, 2), collections.Counter("aab"), collections.OrderedDict(b=1, a=2),
    collections.defaultdict(list, {1: [2]}), collections.deque([1, 2], 3),
    decimal.Decimal("1.10"), fractions.Fraction(1, 3), datetime.date(2024, 2, 29),
    datetime.datetime(2024, 1, 1, 12, 30, 1, 5, UTC), datetime.time(1, 2, 3), UTC,
    datetime.timedelta(1, 2, 3),
]
"""


def test_plain_data_makes_the_round_trip_with_its_types(sandbox: Sandbox) -> None:
    judge = f"""{PLAIN}
for value in VALUES:
    found = f(value)
    assert type(found) is type(value) and found == value and repr(found) == repr(value), found
"""
    assert_passes(sandbox, IDENTITY, judge)
    assert_passes(sandbox, f"{PLAIN}\ndef f(): return VALUES", f"{PLAIN}\nassert f() == VALUES")


def test_numpy_arrays_and_scalars_make_the_round_trip(sandbox: Sandbox) -> None:
    judge = """
import numpy as np
for value in (np.arange(6.0).reshape(2, 3), np.array(["a", "bc"]), np.array([1, "x"], object)):
    assert type(f(value)) is np.ndarray and (f(value) == value).all() and f(value).dtype == value.dtype
assert type(f(np.float32(1.5))) is np.float32 and f(np.int64(3)) == 3
assert g().tolist() == [0, 1, 2]
"""  # noqa: E501
    code = f"{IDENTITY}\nimport numpy\ndef g(): return numpy.arange(3)"
    assert_passes(sandbox, code, judge)


def test_subclasses_of_plain_types_arrive_as_what_they_are(sandbox: Sandbox) -> None:
    code = """
import collections, enum
class Colour(enum.IntEnum): RED = 1
class Name(str): pass
class Row(list): pass
Pair = collections.namedtuple("Pair", "a b")
def f(): return Colour.RED, Name("x"), Row([1]), Pair(1, 2)
"""
    judge = "assert f() == (1, 'x', [1], (1, 2)) and type(f()[0]) is int"
    assert_passes(sandbox, code, judge)


def test_arguments_that_were_changed_in_place_are_changed_in_the_tests(sandbox: Sandbox) -> None:
    code = """
def f(rows, table, names, *, last):
    rows.sort(); rows[0].append(9); table["new"] = 1; table.pop("old"); names.add(3); last.clear()
"""
    judge = """
inner = [1]
rows, table, names, last = [[2], inner], {"old": 0}, {1, 2}, [5]
assert f(rows, table, names, last=last) is None
assert rows == [[1, 9], [2]] and table == {"new": 1} and names == {1, 2, 3} and last == []
"""
    assert_passes(sandbox, code, judge)


def test_objects_of_the_candidate_are_used_where_they_are(sandbox: Sandbox) -> None:
    code = """
class Stack:
    size = 0
    def __init__(self): self.items = []
    def push(self, item): self.items.append(item); self.size += 1; return self
    def __len__(self): return len(self.items)
    def __getitem__(self, index): return self.items[index]
    def __iter__(self): return iter(self.items)
    def __str__(self): return "stack"
    def __bool__(self): return True
def count(n): yield from range(n)
def top(stack): return stack[-1]
"""
    judge = """
stack = Stack()
assert stack.push(1) is stack and stack.push(2).size == 2
assert len(stack) == 2 and stack[0] == 1 and list(stack) == [1, 2] and 2 in stack and 3 not in stack
assert str(stack) == "stack" and stack and isinstance(stack, Stack) and not isinstance(3, Stack)
assert top(stack) == 2 and Stack() != Stack() and stack == stack
stack.size = 7
assert stack.size == 7 and list(count(3)) == [0, 1, 2] and sum(x for x in count(4)) == 6
assert sorted([3, 1, 2], key=top.__class__ and (lambda x: -x)) == [3, 2, 1]
"""
    assert_passes(sandbox, code, judge)


def test_ordering_and_arithmetic_of_the_candidates_objects_are_refused(sandbox: Sandbox) -> None:
    code = """
class Any:
    def __lt__(self, other): return True
    def __sub__(self, other): return self
    def __abs__(self): return self
    def __contains__(self, one): return True
    def __iter__(self): return iter(())
def f(): return Any()
"""
    for judge in ("assert f() < 3", "assert abs(f() - 2.5) < 1e-6", "assert 3 in f()"):
        assert sandbox.judge(code, judge, timeout=10).status in ("failed", "error")


POSING = """
class Array:
    def __len__(self): return {length}
    def __getitem__(self, index): return 1.0
    def __index__(self): return 1
    def __float__(self): return 1.0
    {interface}
def f(x): return {value}
"""
INTERFACES = {
    "__array_interface__": (
        "__array_interface__ = dict(shape=(0, 1), typestr='<f8', version=3, data=(1, False))"
    ),
    "__array__": "def __array__(self, *_, **__): return __import__('numpy').zeros((0, 1))",
    "__array_struct__": "__array_struct__ = 3",
    "__buffer__": "def __buffer__(self, flags): return memoryview(b'')",
    "__dlpack__": "def __dlpack__(self, **_): return 3",
    "a sequence": "pass",
}


@pytest.mark.parametrize("interface", INTERFACES)
@pytest.mark.parametrize("value", ["Array()", "[Array()]", "[[Array(), 1.0]]", "(Array(),) * 2"])
@pytest.mark.parametrize("length", [0, 1])
def test_objects_of_the_candidate_never_become_arrays(
    sandbox: Sandbox, interface: str, value: str, length: int
) -> None:
    code = POSING.format(length=length, interface=INTERFACES[interface], value=value)
    for judge in (
        "assert np.allclose(f(1), [1.0])",
        "assert np.asarray(f(1)).shape is not None",
        "assert (np.ones(1) == f(1)).all()",
    ):
        outcome = sandbox.judge(code, f"import numpy as np\n{judge}", timeout=10)
        assert outcome.status in ("error", "failed"), (judge, outcome)


def test_the_tests_may_pass_functions(sandbox: Sandbox) -> None:
    code = "def apply(g, x): return [g(one) for one in x]\ndef twice(g): return lambda x: g(g(x))"
    judge = """
assert apply(lambda x: x + 1, [1, 2]) == [2, 3]
assert twice(lambda x: x * 2)(3) == 12
def broken(x): raise ValueError("from the tests")
try: apply(broken, [1])
except ValueError as error: assert str(error) == "from the tests"
else: assert False
"""
    assert_passes(sandbox, code, judge)


def test_exceptions_arrive_as_the_nearest_builtin_one(sandbox: Sandbox) -> None:
    code = """
class TooLarge(ValueError): pass
def f(x): raise TooLarge(f"{x} is too large")
def g(): return {}["key"]
"""
    judge = """
try: f(3)
except ValueError as error: assert str(error) == "3 is too large" and type(error).__name__ == "TooLarge"
else: assert False
try: g()
except KeyError as error: assert error.args == ("key",)
"""  # noqa: E501
    assert_passes(sandbox, code, judge)
    outcome = sandbox.judge(code, "f(4)", timeout=10)
    assert (outcome.status, outcome.detail) == ("error", "TooLarge: 4 is too large")


SWALLOWED = "try: f()\nexcept BaseException: pass\nfinally: pass"


@pytest.mark.parametrize(
    ("body", "status", "detail"),
    [
        ("while True: pass", "timeout", "a call ran longer than 0.5 s"),
        ("raise SystemExit", "error", "SystemExit"),
        ("import os; os._exit(0)", "error", "left with exit code 0 before the end of the tests"),
    ],
)
def test_tests_that_catch_everything_do_not_catch_the_end_of_the_candidate(
    sandbox: Sandbox, body: str, status: str, detail: str
) -> None:
    code = f"def f():\n    {body}"
    outcome = sandbox.judge(code, SWALLOWED, timeout=10, call_timeout=0.5)
    assert (outcome.status, outcome.detail) == (status, detail)


def test_the_time_of_a_call_is_limited_and_not_the_sum_of_all(sandbox: Sandbox) -> None:
    code = "import time\ndef f(x): time.sleep(x)"
    assert_passes(sandbox, code, "for _ in range(4): f(0.3)", call_timeout=1.0)
    late = sandbox.judge("import time; time.sleep(5)", "", timeout=10, call_timeout=0.5)
    assert late.status == "timeout"


def test_names_resolve_to_the_tests_then_builtins_then_the_candidate(sandbox: Sandbox) -> None:
    code = "LIMIT = 3\nmine = 1\ndef sum(x): return 'sum'\ndef g(): return mine\nimport math"
    judge = "mine = 2\nassert (LIMIT, mine, g(), sum([1]), DATA['a']) == (3, 2, 1, 1, [1])"
    assert_passes(sandbox, code, judge, data={"a": [1]})
    assert_passes(sandbox, code, "assert sum([1]) == 'sum'", names=["sum"])
    assert_passes(sandbox, code, "def check(n): assert n == LIMIT\nexec('check(LIMIT)')")
    missing = sandbox.judge(code, "assert nowhere", timeout=10)
    assert missing.detail == "NameError: name 'nowhere' is not defined"
    missing = sandbox.judge(code, "", names=["nowhere"], timeout=10)
    assert missing.detail == "NameError: name 'nowhere' is not defined"


CACHED = 20_000 if sys.version_info < (3, 12) else 200
"""How deep a cached function may recurse: since 3.12 the interpreter ends it at some hundreds or
thousands of calls, whatever the recursion limit."""


def test_what_comes_before_shares_its_names_with_the_candidate(sandbox: Sandbox) -> None:
    before = "from math import *\nimport sys\nsys.setrecursionlimit(50000)\ndef aid(): return f()"
    code = f"import functools\n@functools.cache\ndef f(n={CACHED}): return n and 1 + f(n - 1)"
    for _ in range(2):
        judge = f"assert aid() == {CACHED} and f(floor(1.5)) == 1"
        assert_passes(sandbox, code, judge, before=before)
    broken = sandbox.judge(code, "", before="import nowhere", timeout=10)
    assert broken.detail == "ModuleNotFoundError: No module named 'nowhere'"
    broken = sandbox.judge("def f(:", "", timeout=10)
    assert broken.detail.startswith("SyntaxError")


def test_dataclasses_pickling_and_annotations_work(sandbox: Sandbox) -> None:
    code = """
from __future__ import annotations
import dataclasses, pickle
@dataclasses.dataclass
class Point:
    x: int
def f(): return pickle.loads(pickle.dumps(Point(1))) == Point(1), __name__
"""
    assert_passes(sandbox, code, "assert f() == (True, 'program')")


def test_random_numbers_and_set_order_are_the_same_in_every_worker() -> None:
    code = """
import numpy, random
def f():
    draws = [numpy.random.rand(), numpy.random.default_rng().random(), random.random()]
    return draws, list({'a', 'b', 'c', 'd'})
"""
    found = set()
    for _ in range(2):
        with load_sandbox("auto", memory_mib=512) as fresh:
            judge = "import numpy\nassert 0, (f(), numpy.random.rand())"
            found |= {fresh.judge(code, judge, timeout=10).detail for _ in range(2)}
    assert len(found) == 1 and "AssertionError: (" in found.pop()


def judge_of_size(sandbox: Sandbox, size: int) -> Outcome:
    return sandbox.judge(
        "def f(x): return x[::-1]", "assert f(DATA) == DATA[::-1]", data=[1] * size, timeout=30
    )


def test_large_data_passes(sandbox: Sandbox) -> None:
    assert judge_of_size(sandbox, 10**6).detail == ""


PROGRAMS = {
    "lines": ("import sys\nfor line in sys.stdin: print(line[0])", "ab\ncd\n", "a\nc\n"),
    "input": ("print(int(input()) + int(input()))", "1\n2", "3\n"),
    "bytes": ("import sys; sys.stdout.buffer.write(sys.stdin.buffer.read())", "äöü", "äöü"),
    "descriptor": ("import os; os.write(1, os.read(0, 100))", "text", "text"),
    "open(0)": ("print(sum(map(int, open(0).read().split())))", "1 2 3", "6\n"),
    "main": ("def main(): print(1)\nif __name__ == '__main__': main()", "", "1\n"),
    "sys.exit": ("import sys\nprint(1)\nsys.exit()\nprint(2)", "", "1\n"),
    "exit": ("print(1)\nexit(0)", "", "1\n"),
    "atexit": ("import atexit; atexit.register(print, 'end')", "", "end\n"),
    "thread": (
        "import threading, time\n"
        "threading.Thread(target=lambda: (time.sleep(0.1), print('late'))).start()",
        "",
        "late\n",
    ),
    "fork": ("import os\nif os.fork() == 0: print('child')\nelse: os.wait()", "", "child\n"),
    "replaced stdout": (
        "import io, sys\nsys.stdout = io.StringIO(); print(1)\n"
        "sys.__stdout__.write(sys.stdout.getvalue() * 2)",
        "",
        "1\n1\n",
    ),
    "/dev/stdin": (
        "text = open('/dev/stdin').read()\nopen('/dev/stdout', 'w').write(text)", "a\nb", "a\nb"
    ),
    "own file": ("import os\nfile = os.fdopen(1, 'w')\nprint('kept', file=file)", "", "kept\n"),
    "no modules": ("import sys\nprint(1)\nsys.modules.clear()", "", "1\n"),
    "stack": (
        "from resource import *\nsetrlimit(RLIMIT_STACK, (RLIM_INFINITY, RLIM_INFINITY))\n"
        "print(1)",
        "",
        "1\n",
    ),
    "much": ("print('x' * 10**6)", "", "x" * 10**6 + "\n"),
}  # fmt: skip


@pytest.mark.parametrize("name", PROGRAMS)
def test_programs_read_and_print_as_under_an_interpreter_of_their_own(
    sandbox: Sandbox, name: str
) -> None:
    code, stdin, stdout = PROGRAMS[name]
    execution = sandbox.execute(code, stdin, timeout=10)
    assert (execution.status, execution.detail, execution.stdout) == ("passed", "", stdout)


@pytest.mark.parametrize(
    ("code", "status", "detail"),
    [
        ("print(1)\n1 / 0", "error", "ZeroDivisionError: division by zero"),
        ("print(1)\nassert False, 'no'", "failed", "AssertionError: no"),
        ("import sys\nprint(1)\nsys.exit(3)", "error", "exit code 3"),
        ("import sys\nprint(1)\nsys.exit('gave up')", "error", "gave up"),
        ("print(1, flush=True)\nwhile True: pass", "timeout", "still running after 1 s"),
        ("print(1, flush=True)\nx = bytearray(10**10)", "memory", "MemoryError"),
        ("print(1, flush=True)\nimport os; os.abort()", "error", "ended by signal 6"),
        ("print(1)\nif __name__ == '__main__': raise KeyError('k')", "error", "KeyError: 'k'"),
    ],
)
def test_a_program_that_fails_says_how_and_keeps_its_output(
    sandbox: Sandbox, code: str, status: str, detail: str
) -> None:
    execution = sandbox.execute(code, "", timeout=1)
    assert (execution.status, execution.detail, execution.stdout) == (status, detail, "1\n")


def test_a_programs_output_is_capped(sandbox: Sandbox) -> None:
    execution = sandbox.execute("while True: print('x' * 10**5)", "", timeout=10)
    assert execution.status == "output"
    assert len(execution.stdout) < 17 * 2**20
