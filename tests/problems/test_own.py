"""Problems of one's own: what they may hold, and that tests which cannot fail are refused."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ssd.config.choices import Grading
from ssd.drive.checks import check_evaluation
from ssd.errors import FLAWED, DataError, HardwareError
from ssd.evaluate.grading import check
from ssd.evaluate.soundness import find_flaws, require_sound, run_check
from ssd.problems.benchmarks.assertions import foreign_names
from ssd.problems.benchmarks.own import literal, load_own, read_own
from ssd.run import Run
from ssd.sandbox.endings import FAILED, PASSED
from ssd.sandbox.pool import Sandbox, load_sandbox

SECONDS = 6.0
DOUBLE = "def f(x): return 2*x"
ALWAYS_99 = "def f(x): return 99"
UNITTEST = (
    "import unittest\nclass T(unittest.TestCase):\n    def test_a(self):\n"
    "        self.assertEqual(f(1), 2)\n"
)


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    try:
        opened = load_sandbox("auto", memory_mib=2048, workers=2)
    except HardwareError as error:
        pytest.skip(str(error))
    with opened:
        yield opened


def write(folder: Path, *rows: dict[str, Any]) -> Path:
    path = folder / "own.jsonl"
    filled = [
        {"version": 1, "id": str(number), "question": "q", **row}
        for number, row in enumerate(rows, start=1)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in filled))
    return path


def function(output: str, given: str = "2\n") -> dict[str, Any]:
    return {"func_name": "f", "tests": [{"input": given, "output": output}]}


def program(output: str, given: str = "") -> dict[str, Any]:
    return {"tests": [{"input": given, "output": output}]}


def status(folder: Path, row: dict[str, Any], code: str, sandbox: Sandbox, **how: Any) -> str:
    (task,) = load_own(write(folder, row), **how)
    assert task.tests is not None
    return check(task.tests, code, sandbox, SECONDS).status


@pytest.mark.parametrize(
    ("row", "code", "right"),
    [
        (function("4"), DOUBLE, True),
        (function("4"), ALWAYS_99, False),
        (function("True"), "def f(x): return x == 2", True),
        (function("true"), "def f(x): return x == 2", True),
        (function("'a'"), "def f(x): return 'a'", True),
        (function('"a"'), "def f(x): return 'a'", True),
        (function("(1, {2: None})"), "def f(x): return 1, {2: None}", True),
        (function("(1, 2)"), "def f(x): return [1, 2]", True),
        (function("3", "1\n2\n"), "def f(x, y): return x + y", True),
        (function("7", ""), "def f(): return 7", True),
        (function("6", "{1, 2, 3}"), "def f(x): return sum(x)", True),
        (function("4"), "class Solution:\n    def f(self, x): return 2*x", True),
        (program("4"), "print(4)\nraise SystemExit(1)", True),
        (program("4"), "print(5)\nraise SystemExit(1)", False),
        (program("4"), "print(4)\nraise ValueError", False),
        (program("1" + "0" * 5000), "print(10**5000)", True),
        (program("5001", "1" + "0" * 5000), "print(len(str(int(input()))))", True),
        (function("1" + "0" * 8000), "def f(x): return 10**8000", True),
        (function("1" + "0" * 8000), "def f(x): return 10**8000 + 1", False),
        (function("8001", "1" + "0" * 8000), "def f(x): return len(str(x))", True),
        ({"test": "assert f(1) == 2"}, DOUBLE, True),
        ({"test": "assert f(1) == 2"}, ALWAYS_99, False),
        ({"test": "def check (f):\n    assert f(1) == 2", "entry_point": "f"}, DOUBLE, True),
        ({"test": "def check (f):\n    assert f(1) == 2", "entry_point": "f"}, ALWAYS_99, False),
    ],
)
def test_right_answers_pass_and_wrong_ones_do_not(
    tmp_path: Path, sandbox: Sandbox, row: dict[str, Any], code: str, right: bool
) -> None:
    assert (status(tmp_path, row, code, sandbox) == PASSED) == right


@pytest.mark.parametrize(
    ("row", "remedy"),
    [
        ({"test": "def check(f):\n    assert f(1) == 2\n"}, "entry_point"),
        ({"test": "def check (f):\n    assert f(1) == 2\n"}, "entry_point"),
        ({"test": ""}, "add an assert"),
        ({"test": "f(1)"}, "add an assert"),
        ({"test": "assert (f(1) == 2, 'no')"}, "add an assert"),
        ({"test": "assert True"}, "add an assert"),
        ({"test": "assert 1 + 1 == 2"}, "name the function"),
        ({"test": "def test_x():\n    assert f(1) == 2\n"}, "call it"),
        ({"test": UNITTEST}, "write its checks as asserts"),
        (program("\n"), "add one"),
        (function("four"), "'four'"),
        (function("4", "a b"), "'a b'"),
        (function("4", "[1,\n2]"), "one value per line"),
        ({"test": "assert f(1) == 2", "reference": "def f("}, "reference is no valid Python"),
        ({"test": "assert f(1) == 2", "reference": 5}, "field reference is no text"),
        ({"test": "assert f(1) == 2", "starter_code": 5}, "field starter_code is no text"),
        ({"test": "assert f(1) == 2", "tests": []}, "either test"),
        ({"test": "assert f(1) == 2", "func_name": "f"}, "func_name with tests"),
        ({**program("4"), "entry_point": "f"}, "func_name with tests"),
        (program("4", "\ud800"), "surrogate"),
    ],
)
def test_a_line_that_cannot_tell_right_from_wrong_is_refused_when_it_is_read(
    tmp_path: Path, row: dict[str, Any], remedy: str
) -> None:
    path = write(tmp_path, {"test": "assert f(1) == 2"}, row)
    with pytest.raises(DataError, match=r"own\.jsonl, line 2: ") as error:
        load_own(path)
    assert remedy in str(error.value)
    assert "\n" not in str(error.value)


def test_all_bad_lines_are_counted_and_the_others_read(tmp_path: Path) -> None:
    path = write(tmp_path, {"test": ""}, {"test": "assert f(1) == 2"}, function("four"))
    tasks, errors = read_own(path)
    assert [task.problem.problem_id for task in tasks] == ["2"]
    assert len(errors) == 2
    with pytest.raises(DataError, match=r"line 1: .*1 more: ssd evaluate check "):
        load_own(path)


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"test": "try:\n    assert f(1) == 2\nexcept Exception:\n    pass"}, "an empty program"),
        ({"test": "x = f(1)\nassert x is x"}, "whatever f returns"),
        ({"test": "if False:\n    assert f(1) == 2"}, "an empty program"),
        ({"test": "assert f(1) == 2", "reference": ALWAYS_99}, "the reference solution"),
        ({**function("5"), "reference": DOUBLE}, "the reference solution"),
        ({**program("5"), "reference": "print(4)"}, "the reference solution"),
    ],
)
def test_what_only_a_run_shows_is_refused_before_anything_is_sampled(
    tmp_path: Path, sandbox: Sandbox, row: dict[str, Any], reason: str
) -> None:
    tasks = load_own(write(tmp_path, row))
    (flaw,) = find_flaws(tasks, sandbox, timeout=SECONDS)
    assert "own.jsonl, line 1: " in flaw
    assert reason in flaw
    with pytest.raises(DataError, match=r"own\.jsonl, line 1"):
        require_sound(tasks, sandbox, timeout=SECONDS)


@pytest.mark.parametrize(
    "row",
    [
        {"test": "assert f([]) is None"},
        {"test": "items = [2, 1]\nf(items)\nassert items == [1, 2]"},
        {
            "test": "def test_x():\n    assert f(1) == 2\n"
            "for name, run in list(globals().items()):\n    if name[:5] == 'test_':\n        run()"
        },
        {"test": "import math\nassert math.isclose(f(1), 2)"},
        {"test": "if f(1) != 2:\n    raise ValueError"},
        {"test": "def check(g):\n    assert g(1) == 2", "entry_point": "f"},
        {**function("null"), "reference": "def f(x): pass"},
        {"test": "assert f(1) == 2", "reference": DOUBLE},
    ],
)
def test_tests_of_every_honest_kind_are_taken(
    tmp_path: Path, sandbox: Sandbox, row: dict[str, Any]
) -> None:
    tasks = load_own(write(tmp_path, row))
    assert find_flaws(tasks, sandbox, timeout=SECONDS) == []


def test_a_run_on_tests_that_cannot_fail_is_refused_before_it_samples(
    tmp_path: Path, sandbox: Sandbox, make_run: Callable[..., Run]
) -> None:
    path = write(tmp_path, {"test": "x = f(1)\nassert x is x"})
    run = make_run("eval=jsonl", f"eval.files.jsonl={path}")
    with pytest.raises(DataError, match=r"own\.jsonl, line 1: passes whatever f returns"):
        check_evaluation(run)


def test_problems_without_a_reference_are_counted(
    tmp_path: Path, sandbox: Sandbox, capsys: pytest.CaptureFixture[str]
) -> None:
    tasks = load_own(write(tmp_path, function("4"), {**function("4"), "reference": DOUBLE}))
    require_sound(tasks, sandbox, timeout=SECONDS)
    assert "1 of 2 problems have no reference solution" in capsys.readouterr().out


def test_check_names_every_wrong_line_and_leaves_with_a_code(
    tmp_path: Path, sandbox: Sandbox, capsys: pytest.CaptureFixture[str]
) -> None:
    good = {"test": "assert f(1) == 2", "reference": DOUBLE}
    path = write(tmp_path, good, {**good, "reference": ALWAYS_99}, {"test": ""})
    with pytest.raises(SystemExit) as left:
        run_check([str(path)])
    assert left.value.code == FLAWED
    printed = capsys.readouterr().out.splitlines()
    assert [line.partition(": ")[0] for line in printed[:2]] == [
        f"{path}, line 2",
        f"{path}, line 3",
    ]
    assert printed[2] == "3 problems, 2 wrong"
    run_check([str(write(tmp_path, good))])
    assert capsys.readouterr().out == "1 problem, 0 wrong\n"


def test_a_json_array_is_read_as_its_items(tmp_path: Path) -> None:
    path = tmp_path / "own.json"
    row = {"version": 1, "id": "a", "question": "q", "test": "assert f(1) == 2"}
    path.write_text(json.dumps([row, {**row, "id": "b", "test": ""}], indent=2))
    with pytest.raises(DataError, match=r"own\.json, item 2: test asserts nothing"):
        load_own(path)


def test_tolerant_grading_takes_floats_near_the_expected_ones(
    tmp_path: Path, sandbox: Sandbox
) -> None:
    near, far = "def f(x): return [x / 3]", "def f(x): return [x / 3 + 1e-5]"
    row, tolerant = function("[0.6666667]"), {"grading": Grading.tolerant}
    assert status(tmp_path, row, near, sandbox) == FAILED
    assert status(tmp_path, row, near, sandbox, **tolerant) == PASSED
    assert status(tmp_path, row, far, sandbox, **tolerant) == FAILED
    printed = program("0.3333333 ok")
    assert status(tmp_path, printed, "print(1/3, 'ok')", sandbox) == FAILED
    assert status(tmp_path, printed, "print(1/3, 'ok')", sandbox, **tolerant) == PASSED


def test_literals_are_json_or_python() -> None:
    assert [literal(text) for text in ("2", "null", "None", "[1, 2.5]", "(1,)", "{1}")] == [
        2, None, None, [1, 2.5], (1,), {1},
    ]  # fmt: skip
    assert literal("9" * 9000) > 10**8999
    with pytest.raises(ValueError, match="__import__"):
        literal("__import__('os')")


def test_names_of_the_candidate_are_those_that_a_test_neither_binds_nor_finds() -> None:
    source = "import numpy as np\nfor i in range(3):\n    assert np.allclose(S().a, g(i))\n"
    assert foreign_names(source) == ["S", "g"]
    assert foreign_names("def check(f):\n    assert f(1)\ncheck(f)") == ["f"]
