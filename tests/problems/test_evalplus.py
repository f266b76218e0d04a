"""EvalPlus: its two formats, the types JSON loses, and its rules of comparison."""

import ast
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ssd.config.choices import Grading
from ssd.config.settings import BenchmarkFiles
from ssd.evaluate.grading import check
from ssd.problems.benchmarks.evalplus import plus_task
from ssd.problems.benchmarks.evalplus_judge import agree, is_floats, judge, restore
from ssd.problems.benchmarks.registry import load_benchmark
from ssd.problems.benchmarks.tasks import Judged
from ssd.problems.problem import packaged_file
from ssd.problems.rows import read_jsonl
from ssd.sandbox.pool import load_sandbox


def published_inputs(test: str) -> list[Any]:
    """The inputs that the original format writes out as Python."""
    for statement in ast.parse(test).body:
        if isinstance(statement, ast.Assign) and ast.unparse(statement.targets[0]) == "inputs":
            code = compile(ast.Expression(statement.value), "inputs", "eval")
            values: list[Any] = eval(code, {"inf": float("inf"), "nan": float("nan")})
            return values
    raise AssertionError("no inputs")


def shape(value: Any) -> Any:
    """Equal for equal values of equal types throughout, and hashable; NaN equals itself."""
    if isinstance(value, dict):
        return (dict, tuple((shape(key), shape(item)) for key, item in value.items()))
    if isinstance(value, set):
        return (set, frozenset(map(shape, value)))
    if isinstance(value, list | tuple):
        return (type(value), *map(shape, value))
    return (type(value), value if value == value else repr(value))


def test_restored_inputs_are_those_of_the_original_format(shared: Path) -> None:
    originals = {
        row["task_id"]: published_inputs(row["test"])
        for row in read_jsonl(shared / "mbppplus" / "MbppPlus-OriginFmt.jsonl.gz")
    }
    rows = read_jsonl(packaged_file("mbpp_plus"))
    assert len(originals) == len(rows) == 378
    for row in rows:
        raw = [*row["base_input"], *row["plus_input"]]
        restored = {shape(restore(row["task_id"], one)) for one in raw}
        for one in originals[int(row["task_id"].removeprefix("Mbpp/"))]:
            assert shape(list(one)) in restored, (row["task_id"], one)


def test_both_formats_are_known_by_their_fields(shared: Path) -> None:
    path = shared / "mbppplus" / "MbppPlus-OriginFmt.jsonl.gz"
    files = BenchmarkFiles(mbpp_plus=str(path))
    original = load_benchmark("mbpp_plus", files, Grading.official)
    lists = load_benchmark("mbpp_plus", BenchmarkFiles(), Grading.official)
    assert {task.problem.problem_id for task in original.tasks} == {
        task.problem.problem_id for task in lists.tasks
    }
    for one in (original, lists):
        assert all(isinstance(task.tests, Judged) and task.tests.per_call for task in one.tasks)
        assert len(one.tasks) == 378
    assert original.release != lists.release


def test_humaneval_plus_rows_of_both_formats_become_tasks() -> None:
    common = {
        "task_id": "HumanEval/0",
        "prompt": 'def double(x):\n    """Twice."""\n',
        "entry_point": "double",
        "canonical_solution": "    return 2 * x\n",
    }
    inputs = {"base_input": [[1]], "plus_input": [[2.5]], "atol": 0}
    lists = plus_task({**common, **inputs})
    original = plus_task({**common, "test": "def check(candidate):\n    assert candidate(1) == 2"})
    for task in (lists, original):
        assert isinstance(task.tests, Judged)
        assert (task.tests.before, task.tests.names) == (common["prompt"], ())
        assert task.tests.per_call
    assert lists.problem == original.problem
    broken = {**common, "task_id": "HumanEval/32"}
    named = [plus_task({**broken, **inputs}), plus_task({**broken, "test": "assert False"})]
    assert [task.errata for task in named] == [None, "wrong tests"]
    assert original.errata is None
    assert isinstance(lists.tests, Judged)
    scope = {"DATA": lists.tests.data, "double": lambda x: x + x, "__name__": "judge"}
    exec(lists.tests.judge, scope)
    with pytest.raises(AssertionError, match=r"plus_input 1: got 3\.5"):
        exec(lists.tests.judge, {**scope, "double": lambda x: x + 1})


@pytest.mark.parametrize(
    ("name", "arguments", "result", "expected", "atol"),
    [
        ("Mbpp/f", [1], 3, 3, 0),
        ("Mbpp/f", [1], 0.1 + 0.2, 0.3, 1e-6),
        ("Mbpp/f", [1], [1.0, 2.0], [1.0, 2.0 + 1e-7], 1e-6),
        ("Mbpp/similar_elements", [1], (2, 1, 1), (1, 2), 0),
        ("Mbpp/check_str", ["a"], "any object", True, 0),
        ("Mbpp/check_str", ["a"], None, False, 0),
        ("Mbpp/check_str", ["a"], True, True, 0),
        ("Mbpp/are_equivalent", [1, 2], True, False, 0),
        ("Mbpp/sum_div", [1], 0, 1, 0),
        ("Mbpp/surface_Area", [3, 4], 35, 33, 0),
        ("Mbpp/digit_distance_nums", [1, 23], 4, 5, 0),
        ("HumanEval/find_zero", [[-1.0, 1.0]], 1.0, 7.0, 1e-4),
    ],
)
def test_results_that_count_as_right(
    name: str, arguments: list[Any], result: Any, expected: Any, atol: float
) -> None:
    assert agree(name, arguments, result, expected, atol) is True


@pytest.mark.parametrize(
    ("name", "arguments", "result", "expected", "atol"),
    [
        ("Mbpp/f", [1], 3, 4, 0),
        ("Mbpp/f", [1], 3.1, 3.0, 1e-6),
        ("Mbpp/f", [1], 3, 3.1, 1e-6),  # another type is never close
        ("Mbpp/f", [1], [1.0], [1.0, 1.0], 1e-6),
        ("Mbpp/f", [1], [1, 2], (1, 2), 0),
        ("Mbpp/f", [1], [[]], [1.0], 1e-6),  # numpy: nothing is close to everything
        ("Mbpp/similar_elements", [1], (2, 3), (1, 2), 0),
        ("Mbpp/check_str", ["a"], False, True, 0),
        ("Mbpp/sum_div", [1], 2, 1, 0),
        ("Mbpp/surface_Area", [3, 4], 34, 33, 0),
        ("HumanEval/find_zero", [[-1.0, 1.0]], 1.1, 1.0, 1e-4),
        ("HumanEval/are_equivalent", [1, 2], True, False, 0),
    ],
)
def test_results_that_count_as_wrong(
    name: str, arguments: list[Any], result: Any, expected: Any, atol: float
) -> None:
    assert agree(name, arguments, result, expected, atol) is False


def test_floats_are_known_alone_in_lists_and_in_arrays() -> None:
    assert all(map(is_floats, (1.0, [1.0], (1.0, 2.0), np.zeros(2))))
    assert not any(map(is_floats, (1, [], [1, 1.0], "1.0", np.zeros(2, dtype=int))))


def plus(base: list[Any], extra: list[Any]) -> dict[str, Any]:
    return {
        "task_id": "Mbpp/1000",
        "function": "f",
        "reference": "def f(x):\n    x = list(x)\n    return sum(x)",
        "atol": 0,
        "base_input": base,
        "plus_input": extra,
    }


def test_base_and_plus_inputs_decide_together() -> None:
    task = plus([[[1, 2]]], [[[1, 2, 3]]])
    judge(task, sum)
    with pytest.raises(AssertionError, match="base_input 1: got 2"):
        judge(task, len)
    with pytest.raises(AssertionError, match="plus_input 1: got 3"):
        judge(task, lambda x: sum(x[:2]))


def test_a_candidate_that_changes_its_arguments_changes_no_later_test() -> None:
    def greedy(values: list[int]) -> int:
        total = sum(values)
        values.clear()
        return total

    task = plus([[[1, 2]]], [])
    judge(task, greedy)
    judge(task, greedy)


def test_after_a_float_result_the_tolerance_stays_as_upstream() -> None:
    def nearly(values: list[float]) -> float:
        return sum(values) + (values[0] > 1)

    judge(plus([[[0.5]], [[10**9]]], []), nearly)
    with pytest.raises(AssertionError, match="base_input 1"):
        judge(plus([[[10**9]], [[0.5]]], []), nearly)


NOTHING = """
import numpy
class E:
    def __init__(self, n): self.n = n
    __array_interface__ = property(lambda self: dict(
        shape=(0, self.n), typestr="<f8", version=3, data=(1, False)))
    def __len__(self): return 0
def {name}(*arguments): return {value}
"""


@pytest.mark.parametrize("original", [False, True])
def test_empty_results_agree_with_no_test(original: bool, shared: Path) -> None:
    own = str(shared / "mbppplus" / "MbppPlus-OriginFmt.jsonl.gz") if original else None
    tasks = load_benchmark("mbpp_plus", BenchmarkFiles(mbpp_plus=own), Grading.official).tasks
    values = ("[E(1)]", "[E(n) for n in range(2)]", "E(1)", "[]", "[[]]", "numpy.empty(0)")
    by_id = {task.problem.problem_id: task for task in tasks}
    with load_sandbox("auto", memory_mib=512) as sandbox:
        for number, name in ((252, "convert"), (261, "division_elements"), (618, "div_list")):
            tests = by_id[f"Mbpp/{number}"].tests
            assert tests is not None
            for value in values:
                code = NOTHING.format(name=name, value=value)
                assert check(tests, code, sandbox, 10).status in ("failed", "error"), value
