"""Ground truth: the benchmarks' own solutions pass their own tests, in the sandbox."""

import os
from pathlib import Path

import pytest
from answers import fenced, make_sample

from ssd.evaluate.benchmarks import Task, load_benchmark, mbpp_task
from ssd.evaluate.grading import grade
from ssd.evaluate.sandbox import Sandbox
from ssd.evaluate.scores import passed_matrix
from ssd.problems import Problem, packaged_rows, read_jsonl


def failures(tasks: list[Task], codes: list[str], sandbox: Sandbox) -> list[tuple[str, str, str]]:
    """What does not pass when `codes` are graded as answers."""
    answers = [
        make_sample(task.problem.problem_id, fenced(code))
        for task, code in zip(tasks, codes, strict=True)
    ]
    verdicts = grade(tasks, answers, sandbox, workers=os.cpu_count() or 1, label="reference")
    assert len(verdicts) == len(tasks)
    return [
        (verdict.problem_id, verdict.status, verdict.detail)
        for verdict in verdicts
        if not verdict.passed
    ]


def test_all_164_humaneval_solutions_pass(patient: Sandbox) -> None:
    rows = packaged_rows("humaneval", "test")
    assert len(rows) == 164
    codes = [row["prompt"] + row["canonical_solution"] for row in rows]
    assert failures(load_benchmark("humaneval"), codes, patient) == []


def mbpp_failures(rows: list[dict], sandbox: Sandbox) -> list[tuple[str, str, str]]:
    return failures([mbpp_task(row) for row in rows], [row["code"] for row in rows], sandbox)


def all_mbpp_rows() -> list[dict]:
    return [
        row
        for split in ("prompt", "test", "validation", "train")
        for row in packaged_rows("mbpp", split)
    ]


def test_a_hundred_mbpp_references_pass(patient: Sandbox) -> None:
    rows = all_mbpp_rows()
    with_setup = [row for row in rows if row["test_setup_code"]]
    assert [row["task_id"] for row in with_setup] == [367, 927]
    chosen = {row["task_id"]: row for row in [*with_setup, *rows[::10]]}
    assert mbpp_failures(list(chosen.values()), patient) == []


@pytest.mark.slow
def test_all_974_mbpp_references_pass(patient: Sandbox) -> None:
    rows = all_mbpp_rows()
    assert len(rows) == 974
    assert mbpp_failures(rows, patient) == []


def test_wrong_humaneval_answers_fail_with_the_reason(namespaces: Sandbox) -> None:
    tasks = load_benchmark("humaneval", limit=3)
    codes = ["def f(:", "pass", "raise KeyError('x')"]
    syntax, wrong, raised = failures(tasks, codes, namespaces)
    assert syntax[1] == "error"
    assert syntax[2].startswith("SyntaxError: invalid syntax")
    assert wrong[1] == "failed"
    assert wrong[2].startswith("AssertionError")
    assert raised[1:] == ("error", "KeyError: 'x'")


def test_human_evals_own_example_scores_one_half(namespaces: Sandbox, shared: Path) -> None:
    folder = shared / "humaneval"
    (problem,) = read_jsonl(folder / "example_problem.jsonl")
    completions = [row["completion"] for row in read_jsonl(folder / "example_samples.jsonl")]
    # Its prompt has no docstring, so it is no program by itself and goes into the answers instead.
    task = Task(
        Problem("test/0", ""),
        before="",
        after=f"\n{problem['test']}\ncheck({problem['entry_point']})\n",
    )
    samples = [
        make_sample("test/0", fenced(problem["prompt"] + completion), index)
        for index, completion in enumerate(completions)
    ]
    verdicts = grade([task], samples, namespaces, workers=2, label="example")
    assert [verdict.status for verdict in verdicts] == [
        "error",
        "timeout",
        "error",
        "passed",
        "passed",
        "passed",
    ]
    assert passed_matrix(verdicts).mean() == 0.5


def test_benchmarks_are_the_documented_ones_and_limits_nest() -> None:
    assert len(load_benchmark("humaneval")) == 164
    assert [task.problem.problem_id for task in load_benchmark("mbpp")] == [
        f"mbpp/{i}" for i in range(11, 511)
    ]
    small, large = (
        {task.problem.problem_id for task in load_benchmark("mbpp", limit=limit)}
        for limit in (5, 50)
    )
    assert len(small) == 5
    assert small < large
