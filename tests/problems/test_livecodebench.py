"""LiveCodeBench: windows, files, hidden tests, errata and the comparison of outputs."""

import base64
import csv
import datetime
import gzip
import json
import pickle
import tracemalloc
import zlib
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from ssd.config.choices import Grading
from ssd.config.settings import BenchmarkFiles
from ssd.errors import DataError
from ssd.problems.benchmarks.livecodebench import ERRATA
from ssd.problems.benchmarks.livecodebench_files import decode_tests, file_names
from ssd.problems.benchmarks.livecodebench_windows import SIZES, parse_window
from ssd.problems.benchmarks.prelude import APPLE_RELEASE, OFFICIAL
from ssd.problems.benchmarks.registry import load_benchmark
from ssd.problems.benchmarks.tasks import Benchmark, Judged, StdinTests
from ssd.problems.outputs import same_output


def encode(tests: Any) -> str:
    """Hidden tests as the official files hold them."""
    return base64.b64encode(zlib.compress(pickle.dumps(json.dumps(tests)))).decode()


def row(question_id: str, date: str = "2025-03-01", **changes: Any) -> dict[str, Any]:
    return {
        "question_title": "Twice",
        "question_content": "Print twice the number.",
        "platform": "atcoder",
        "question_id": question_id,
        "contest_id": "1",
        "contest_date": f"{date}T00:00:00",
        "starter_code": "",
        "difficulty": "easy",
        "public_test_cases": json.dumps([{"input": "1\n", "output": "2\n", "testtype": "stdin"}]),
        "private_test_cases": encode([{"input": "3\n", "output": "6\n", "testtype": "stdin"}]),
        "metadata": "{}",
        **changes,
    }


def write(path: Path, *rows: dict[str, Any]) -> str:
    opened = gzip.open if path.suffix == ".gz" else open
    with opened(path, "wt") as file:
        file.writelines(json.dumps(one) + "\n" for one in rows)
    return str(path)


def load(name: str, lcb: str, grading: Grading = Grading.official) -> Benchmark:
    return load_benchmark(name, BenchmarkFiles(lcb=lcb), grading)


def ids(benchmark: Benchmark) -> list[str]:
    return [task.problem.problem_id for task in benchmark.tasks]


@pytest.fixture
def contests(shared: Path) -> list[tuple[str, str]]:
    """Date and difficulty of all 1,055 problems; the website's dates are one day late."""
    with (shared / "livecodebench_meta" / "v6_questions_pass1.csv").open() as file:
        rows = list(csv.DictReader(file))
    day = datetime.timedelta(days=1)
    return [
        (str(datetime.date.fromisoformat(one["leaderboard_date"]) - day), one["difficulty"])
        for one in rows
    ]


@pytest.mark.parametrize(
    ("name", "sizes"),
    [
        ("lcb_v6", {"easy": 31, "medium": 39, "hard": 61}),
        ("lcb_v5_374", {"easy": 92, "medium": 116, "hard": 166}),
    ],
)
def test_named_windows_hold_the_papers_problems(
    contests: list[tuple[str, str]], name: str, sizes: dict[str, int]
) -> None:
    window = parse_window(name)
    assert Counter(level for date, level in contests if window.holds(date)) == sizes
    assert window.count == sum(sizes.values())


def test_counts_of_releases_and_of_release_v5s_window_add_up(
    contests: list[tuple[str, str]],
) -> None:
    names = "lcb_v5_279", "lcb_v6_delta175", "lcb_release_v6"
    late, delta, release = map(parse_window, names)
    assert delta.count == SIZES[6] - SIZES[5] == 175
    assert release.count == len(contests)
    # Every problem that release_v6 added is of 2025, so it lies in the unbounded window too.
    assert late.count == sum(late.holds(date) for date, _ in contests) - delta.count


def test_windows_by_release_and_dates() -> None:
    window = parse_window("lcb_release_v6@2025-02-01..2025-05-31")
    assert (str(window), window.count) == ("2025-02-01..2025-05-31", None)
    assert [window.holds(f"2025-{day}") for day in ("01-31", "02-01", "05-31", "06-01")] == [
        False,
        True,
        True,
        False,
    ]
    names = "lcb_release_v5@..2024-01-01", "lcb_delta_v5@2024-10-01.."
    ends = map(parse_window, names)
    assert [(window.release, window.delta, str(window)) for window in ends] == [
        (5, False, "..2024-01-01"),
        (5, True, "2024-10-01.."),
    ]


def test_only_files_that_can_hold_a_window_are_needed() -> None:
    needed = {
        name: [
            file.removeprefix("test").removesuffix(".jsonl")
            for file in file_names(parse_window(name))
        ]
        for name in ("lcb_v6", "lcb_v5_374", "lcb_v5_279", "lcb_v6_delta175", "lcb_release_v2")
    }
    assert needed == {
        "lcb_v6": ["6"],
        "lcb_v5_374": ["3", "4", "5", "6"],
        "lcb_v5_279": ["3", "4", "5"],
        "lcb_v6_delta175": ["6"],
        "lcb_release_v2": ["", "2"],
    }


def test_a_folder_of_official_files_is_read_by_release_and_window(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(tmp_path / "test3.jsonl", row("old", "2024-07-01"), row("a", "2024-08-01"))
    write(tmp_path / "test4.jsonl", row("older", "2024-07-31"))
    write(tmp_path / "test5.jsonl.gz", row("b", "2025-01-04"))
    write(tmp_path / "test6.jsonl", row("c", "2025-02-28"), row("d", "2025-03-01"))
    folder = str(tmp_path)
    assert ids(load("lcb_v5_374", folder)) == ["lcb/a", "lcb/b", "lcb/c"]
    assert (
        "holds 3 problems of lcb_v5_374, whose official files hold 374" in capsys.readouterr().out
    )
    assert ids(load("lcb_v5_279", folder)) == ["lcb/a", "lcb/b"]
    assert ids(load("lcb_v6_delta175", folder)) == ["lcb/c", "lcb/d"]
    benchmark = load("lcb_release_v6@2025-03-01..", folder)
    assert ids(benchmark) == ["lcb/d"]
    assert benchmark.window == "2025-03-01.."
    assert benchmark.release is not None
    assert benchmark.release.startswith("release_v6, test6.jsonl sha256 ")
    with pytest.raises(DataError, match=r"has no test\.jsonl: download it"):
        load("lcb_release_v6", folder)


def test_a_window_without_problems_and_a_missing_folder_are_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "some.jsonl", row("a", "2024-08-01"))
    with pytest.raises(DataError, match=r"some\.jsonl: no problem of lcb_v6 .*2025-02-01"):
        load("lcb_v6", path)
    with pytest.raises(DataError, match=r"eval\.files\.lcb=.* is not there"):
        load("lcb_v6", str(tmp_path / "nowhere"))


def test_without_files_and_offline_the_remedy_is_named() -> None:
    with pytest.raises(DataError, match=r"hub cannot be reached.*set eval\.files\.lcb=FOLDER"):
        load_benchmark("lcb_v6", BenchmarkFiles(), Grading.official)


def test_damaged_files_are_refused_with_file_and_line(tmp_path: Path) -> None:
    path = tmp_path / "test6.jsonl"
    whole = json.dumps(row("a")) + "\n"
    path.write_text(whole + whole[:40])
    with pytest.raises(DataError, match=r"test6\.jsonl, line 2 is not JSON .*fetch it again"):
        load("lcb_v6_delta175", str(path))
    write(path, {"question": "x", "contest_date": "2025-03-01"})
    with pytest.raises(DataError, match=r"problem \? has no column question_id"):
        load("lcb_v6_delta175", str(path))
    write(path, row("a", private_test_cases="AAAA"))
    with pytest.raises(DataError, match="the tests of problem a cannot be decoded"):
        load("lcb_v6_delta175", str(path))
    write(path, row("a", metadata='{"func_name": "f(); import os"}'))
    with pytest.raises(DataError, match="is no name"):
        load("lcb_v6_delta175", str(path))


def test_hidden_tests_are_decoded_from_every_official_form() -> None:
    tests = [{"input": "1", "output": "2", "testtype": "stdin"}]
    assert decode_tests(json.dumps(tests)) == tests
    assert decode_tests(encode(tests)) == tests


class Malicious:
    """Pickles to a call."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (exec, ("raise SystemExit('the pickle ran')",))


def test_a_pickle_that_names_a_function_is_refused_and_not_run() -> None:
    packed = base64.b64encode(zlib.compress(pickle.dumps(Malicious()))).decode()
    with pytest.raises(ValueError, match=r"the pickle asks for builtins\.exec"):
        decode_tests(packed)


def test_official_grading_takes_public_and_hidden_tests_and_the_paper_s_release_the_hidden(
    tmp_path: Path,
) -> None:
    function = json.dumps([{"input": "[1]\n2", "output": "3", "testtype": "functional"}])
    changes = {
        "public_test_cases": function,
        "private_test_cases": encode(json.loads(function) * 2),
        "metadata": '{"func_name": "add"}',
        "starter_code": "class Solution:\n    def add(self, a, b):\n        ",
    }
    path = write(tmp_path / "x.jsonl", row("stdin"), row("function", **changes))
    stdin, called = (task.tests for task in load("lcb_v6", path).tasks)
    assert stdin == StdinTests(
        tests=(("1\n", "2\n"), ("3\n", "6\n")), before=OFFICIAL, any_exit=True
    )
    assert isinstance(called, Judged)
    assert called.data == [["[1]\n2", "3"]] * 3
    assert (called.per_call, called.num_pooled) == (True, 0)
    benchmark = load("lcb_v6", path, Grading.apple_release)
    stdin, called = (task.tests for task in benchmark.tasks)
    assert stdin == StdinTests(
        tests=(("3\n", "6\n"),), before=APPLE_RELEASE, pooled=True, any_exit=True
    )
    assert isinstance(called, Judged)
    assert called.data == [["[1]\n2", "3"]] * 2
    assert (called.per_call, called.num_pooled) == (False, 2)
    assert benchmark.grading == "apple_release"


def test_problems_keep_their_statement_starter_date_and_level(tmp_path: Path) -> None:
    starter = "class Solution:\n    def add(self, a, b):\n        "
    path = write(
        tmp_path / "x.jsonl",
        row("p"),
        row("f", starter_code=starter, metadata='{"func_name": "add"}'),
    )
    program, function = load("lcb_v6", path).tasks
    assert program.problem.reads_stdin
    assert program.problem.starter_code is None
    assert (program.date, program.difficulty) == ("2025-03-01", "easy")
    assert not function.problem.reads_stdin
    assert function.problem.starter_code == starter.rstrip()


def test_a_problem_without_tests_has_none(tmp_path: Path) -> None:
    path = write(tmp_path / "x.jsonl", row("a", public_test_cases="[]", private_test_cases="[]"))
    assert [task.tests for task in load("lcb_v6", path).tasks] == [None]


def test_errata_come_from_the_list_and_from_the_file(tmp_path: Path, shared: Path) -> None:
    path = write(tmp_path / "x.jsonl", row("abc350_c"), row("x", errata="bad tests"), row("y"))
    errata = [task.errata for task in load("lcb_v6", path).tasks]
    assert errata == ["wrong tests", "bad tests", None]
    with (shared / "livecodebench_meta" / "v6_questions_pass1.csv").open() as file:
        assert {one["question_id"] for one in csv.DictReader(file)} >= set(ERRATA)
    # The list names three LeetCode problems by title; its numbers are those of these titles.
    titles = {
        one["task_id"]: str(one["meta"]["question_id"])
        for name in ("train", "test")
        for one in gzip_rows(shared / "leetcode" / f"LeetCodeDataset-v0.2.0-{name}.jsonl.gz")
    }
    named = "find-words-containing-character", "find-the-peaks"
    numbers = {titles[title] for title in named}
    assert numbers | {titles["generate-binary-strings-without-adjacent-zeros"]} == {
        question for question in ERRATA if question.isdigit()
    }
    questions = gzip_rows(shared / "livecodebench" / "lcb_v5_public.jsonl.gz")
    shared_titles = [one for one in questions if one["question_title"] in titles]
    assert len(shared_titles) > 100
    assert all(titles[one["question_title"]] == one["question_id"] for one in shared_titles)


def gzip_rows(path: Path) -> list[dict[str, Any]]:
    with gzip.open(path, "rt") as file:
        return [json.loads(line) for line in file]


@pytest.mark.parametrize(
    ("printed", "expected"),
    [
        ("4", "4\n"),
        ("  4  \n\n", "4"),
        ("a \n b", "a\nb"),
        ("0.50 1e1", "0.5 10"),
        ("", "\n"),
        ("YES\n1.0", "YES\n1"),
    ],
)
def test_outputs_that_agree(printed: str, expected: str) -> None:
    assert same_output(printed, expected)


@pytest.mark.parametrize(
    ("printed", "expected"),
    [
        ("4\n5", "4"),
        ("a\n\nb", "a\nb"),
        ("yes", "YES"),
        ("1  a", "1 a"),  # words are compared as text, so the space between them counts
        ("50000000000000000", "50000000000000001"),
        ("0.3333333", "0.33333333"),
        ("1 2", "1 2 3"),
        ("nan", "NaN x"),
        ("nan", "NaN"),
        ("snan", "1"),
        ("", "0"),
    ],
)
def test_outputs_that_differ(printed: str, expected: str) -> None:
    assert not same_output(printed, expected)


def test_of_what_is_printed_no_more_is_taken_apart_than_is_expected() -> None:
    for printed in ("12 " * 10**6, "12\n" * 10**6):
        tracemalloc.start()
        assert not same_output(printed, "12", tolerant=True)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 4 * len(printed)


@pytest.mark.parametrize("printed", ["1e999", "-1e999", "inf", "1e400 "])
def test_a_number_that_no_float_holds_is_close_to_itself_alone(printed: str) -> None:
    assert not same_output(printed, "9" * 400, tolerant=True)
    assert not same_output(printed, "1.5e401", tolerant=True)
    assert same_output("15e400", "1.5e401", tolerant=True)


@pytest.mark.parametrize("prelude", [OFFICIAL, APPLE_RELEASE])
def test_preludes_run_and_bring_their_names(prelude: str) -> None:
    import sys

    limit, scope = sys.getrecursionlimit(), {}
    try:
        exec(prelude, scope)
        assert (sys.getrecursionlimit() == 50000) == (prelude is OFFICIAL)
    finally:
        sys.setrecursionlimit(limit)
    names = {"List", "defaultdict", "heappush", "gcd", "sys", "deepcopy", "accumulate", "lru_cache"}
    assert names <= set(scope)
    assert scope.get("pow", pow) is pow
    assert scope.get("open", open) is open
