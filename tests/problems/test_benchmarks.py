"""Benchmarks by name: what each holds, where it comes from, and what is said of bad files."""

import dataclasses
import gzip
import json
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from runs import compose_config

from ssd.config.choices import Grading
from ssd.config.settings import BenchmarkFiles
from ssd.errors import ConfigError, DataError
from ssd.problems.benchmarks.entry import Entry
from ssd.problems.benchmarks.mbpp import mbpp_task
from ssd.problems.benchmarks.registry import (
    ENTRIES,
    benchmark_identity,
    find_entry,
    load_benchmark,
    require_benchmarks,
)
from ssd.problems.benchmarks.tasks import Benchmark, Judged, StdinTests, pooled_limit
from ssd.problems.problem import packaged_file
from ssd.problems.rows import read_jsonl

OWN_STDIN = {
    "version": 1,
    "id": "double",
    "question": "Double a number.",
    "tests": [{"input": "2\n", "output": "4\n"}],
}
OWN_ASSERTS = {
    "version": 1,
    "id": "add",
    "question": "Add two numbers.",
    "test": "assert add(1, 2) == 3",
    "entry_point": "add",
    "difficulty": "easy",
}


def load(name: str, limit: int | None = None, **files: str) -> Benchmark:
    return load_benchmark(name, BenchmarkFiles(**files), Grading.official, limit)


def ids(benchmark: Benchmark) -> list[str]:
    return [task.problem.problem_id for task in benchmark.tasks]


@pytest.fixture
def own(tmp_path: Path) -> Callable[..., Benchmark]:
    """Loads rows as one's own benchmark."""

    def write(*rows: dict[str, Any]) -> Benchmark:
        path = tmp_path / "own.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        return load("jsonl", jsonl=str(path))

    return write


def test_programs_with_odd_escapes_are_read_without_a_warning() -> None:
    with warnings.catch_warnings(record=True) as shown:
        warnings.simplefilter("always")
        load("mbpp")
    assert not shown


@pytest.mark.parametrize(
    ("name", "size"),
    [
        ("humaneval", 164),
        ("mbpp", 500),
        ("mbpp_validation", 90),
        ("mbpp_full", 974),
        ("mbpp_sanitized", 427),
        ("mbpp_plus", 378),
    ],
)
def test_packaged_benchmarks_have_their_published_sizes(name: str, size: int) -> None:
    benchmark = load(name)
    assert len(set(ids(benchmark))) == len(benchmark.tasks) == find_entry(name).size == size
    assert (benchmark.name, benchmark.window, benchmark.grading) == (name, None, "official")
    assert all(isinstance(task.tests, Judged) for task in benchmark.tasks)


def test_mbpp_is_its_test_split_and_parts_lie_in_the_whole() -> None:
    assert ids(load("mbpp")) == [f"mbpp/{number}" for number in range(11, 511)]
    assert ids(load("mbpp_validation")) == [f"mbpp/{number}" for number in range(511, 601)]
    assert ids(load("mbpp_full")) == [f"mbpp/{number}" for number in range(1, 975)]
    numbers = [int(problem_id.partition("/")[2]) for problem_id in ids(load("mbpp_sanitized"))]
    assert (min(numbers), max(numbers)) == (2, 809)


def test_the_packaged_files_are_the_published_ones(shared: Path) -> None:
    sanitized = json.loads((shared / "mbpp" / "sanitized-mbpp.json").read_text())
    assert read_jsonl(packaged_file("mbpp_sanitized")) == sanitized
    plus = shared / "mbppplus" / "MbppPlus.jsonl.gz"
    assert packaged_file("mbpp_plus").read_bytes() == plus.read_bytes()


def test_only_names_that_python_has_too_are_listed_as_the_candidates() -> None:
    for name in ("mbpp_full", "mbpp_sanitized", "mbpp_plus", "humaneval"):
        listed = {
            task.problem.problem_id.partition("/")[2]: task.tests.names
            for task in load(name).tasks
            if isinstance(task.tests, Judged) and task.tests.names
        }
        assert listed == ({} if name == "humaneval" else {"126": ("sum",)})


def test_limits_nest_and_keep_the_order() -> None:
    small, large = ids(load("mbpp", 5)), ids(load("mbpp", 50))
    assert len(small) == 5
    assert set(small) < set(large)
    assert large == sorted(large, key=lambda problem_id: int(problem_id.partition("/")[2]))


@pytest.mark.parametrize("name", ENTRIES)
def test_every_entry_is_known_by_its_name_and_says_where_its_file_is(name: str) -> None:
    entry = find_entry(name)
    assert entry.name == name
    assert entry.shipped or entry.fetch or entry.setting
    assert entry.shipped is None or entry.shipped.is_file()


def test_every_file_that_can_be_set_is_some_entrys() -> None:
    fields = {field.name for field in dataclasses.fields(BenchmarkFiles)}
    assert {entry.setting for entry in ENTRIES.values()} == fields - {"lcb_revision"} | {None}


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("humanevl", "no benchmark 'humanevl'; did you mean 'humaneval'"),
        ("lcb_v7", "'lcb_v7' is no window of LiveCodeBench"),
        ("lcb_v6@2025-02-01..", "is no window of LiveCodeBench"),
        ("lcb_release_v6@2025-02..", "is no window of LiveCodeBench"),
        ("lcb_release_v6@2025-03-01..2025-02-01", "ends before it begins"),
    ],
)
def test_unknown_names_are_refused_with_the_known_ones(name: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        find_entry(name)
    with pytest.raises(ConfigError, match=r"^eval\.regression: "):
        require_benchmarks(compose_config(f"eval.regression=['{name}']").eval)


def test_identity_is_name_and_file(tmp_path: Path) -> None:
    path = tmp_path / "own.jsonl"
    path.write_text(json.dumps(OWN_STDIN))
    files = BenchmarkFiles(jsonl=str(path))
    first = benchmark_identity("jsonl", files)
    assert first["name"] == "jsonl"
    path.write_text(json.dumps({**OWN_STDIN, "question": "Double it."}))
    assert benchmark_identity("jsonl", files) != first
    assert benchmark_identity("mbpp", files) != benchmark_identity("mbpp_full", files)


@pytest.mark.parametrize("name", ["humaneval_plus", "jsonl"])
def test_files_that_are_not_set_are_asked_for(name: str) -> None:
    with pytest.raises(DataError, match=rf"set eval\.files\.{name}=FILE"):
        load(name)


def test_missing_truncated_and_foreign_files_are_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"eval\.files\.mbpp_plus=.*nowhere is no file"):
        load("mbpp_plus", mbpp_plus=str(tmp_path / "nowhere"))
    whole = packaged_file("mbpp_plus").read_bytes()
    cut = tmp_path / "cut.jsonl.gz"
    cut.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match=r"cut\.jsonl\.gz cannot be read"):
        load("mbpp_plus", mbpp_plus=str(cut))
    foreign = tmp_path / "foreign.jsonl.gz"
    with gzip.open(foreign, "wt") as file:
        file.write('{"task_id": "Mbpp/2"}\n')
    with pytest.raises(DataError, match=r"line 1 has no field .*eval\.files\.mbpp_plus"):
        load("mbpp_plus", mbpp_plus=str(foreign))
    shipped = Entry(name="own", parse=mbpp_task)
    with pytest.raises(DataError, match=r"line 1 has no field .*mend or remove that line$"):
        shipped.tasks([foreign], Grading.official, None)


def test_ones_own_problems_may_have_asserts_or_input_and_output(
    own: Callable[..., Benchmark],
) -> None:
    functional = {**OWN_STDIN, "id": "f", "func_name": "double"}
    checked = {**OWN_ASSERTS, "id": "c", "test": "def check(add):\n    assert add(1, 2) == 3"}
    stdin, asserts, function, check = own(OWN_STDIN, OWN_ASSERTS, functional, checked).tasks
    assert isinstance(stdin.tests, StdinTests)
    assert stdin.tests.tests == (("2\n", "4\n"),)
    assert stdin.problem.reads_stdin
    assert isinstance(asserts.tests, Judged)
    assert asserts.tests.judge == "assert add(1, 2) == 3\n"
    assert asserts.difficulty == "easy"
    assert isinstance(function.tests, Judged)
    assert function.tests.data == [[[2], 4]]
    assert not function.problem.reads_stdin
    assert isinstance(check.tests, Judged)
    assert check.tests.judge.endswith("\ncheck(add)\n")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"version": 2}, 'version is 2: this ssd reads "version": 1'),
        ({"version": None}, "version is None"),
        ({"id": ""}, "no text in field id"),
        ({"question": None}, "no text in field question"),
        ({"test": "assert f()"}, "needs either test"),
        ({"tests": []}, "tests needs one test"),
        ({"tests": [{"input": "1"}]}, "no list of objects with input and output"),
        ({"tests": [{"input": "1", "output": 2}]}, "as JSON strings"),
        ({"func_name": "a b"}, "no function name"),
        ({"tets": 1}, "unknown field tets"),
        ({"difficulty": 3}, "field difficulty is no text"),
    ],
)
def test_a_bad_line_of_ones_own_is_refused_with_file_and_line(
    own: Callable[..., Benchmark], changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(DataError, match=r"own\.jsonl, line 2: ") as error:
        own(OWN_ASSERTS, {**OWN_STDIN, **changes})
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_repeated_ids_invalid_tests_and_empty_files_of_ones_own_are_refused(
    own: Callable[..., Benchmark],
) -> None:
    with pytest.raises(DataError, match="line 2: the id double comes twice"):
        own(OWN_STDIN, OWN_STDIN)
    with pytest.raises(DataError, match="test is no valid Python"):
        own({**OWN_ASSERTS, "test": "assert ("})
    with pytest.raises(DataError, match=r"holds no problems.*eval\.files\.jsonl"):
        own()


def test_a_shared_limit_grows_with_the_tests() -> None:
    assert pooled_limit(6, 10) == 75


def test_tasks_are_frozen() -> None:
    task = load("humaneval", 1).tasks[0]
    with pytest.raises(dataclasses.FrozenInstanceError):
        task.tests = None  # type: ignore[misc]
