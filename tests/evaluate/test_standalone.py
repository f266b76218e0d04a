"""The grader by itself, as people run it on answers from elsewhere."""

import json
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ssd.artifacts.locks import holding
from ssd.config.choices import Extraction, Grading
from ssd.config.settings import BenchmarkFiles
from ssd.errors import REPORTED, ArtifactError, ConfigError, DataError
from ssd.evaluate.answers import Answer, read_answers
from ssd.evaluate.grading import WAITING, as_they_come
from ssd.evaluate.options import naming_options
from ssd.evaluate.standalone import marks_of, parse, require_answers, scored_problems
from ssd.evaluate.verdict_lines import beside, require_writable, stored_rows, write_row
from ssd.problems.benchmarks.registry import load_benchmark
from ssd.problems.problem import packaged_file
from ssd.problems.rows import read_jsonl
from ssd.records.samples import Sample, write_samples
from ssd.sandbox.pool import load_sandbox

GRADE = [sys.executable, "-m", "ssd.evaluate", "grade"]
HUMANEVAL = read_jsonl(packaged_file("humaneval"))
WRONG = "    return 1\n"
BENCHMARK = load_benchmark("humaneval", BenchmarkFiles(), Grading.official)
TASKS = BENCHMARK.tasks


def grade(*arguments: str | Path, code: int = 0) -> str:
    """What the command prints, where it ends with `code`; an error where it does not."""
    command = [*GRADE, *map(str, arguments)]
    ended = subprocess.run(command, capture_output=True, text=True, check=False, timeout=600)
    assert ended.returncode == code, ended.stderr
    return ended.stdout if code == 0 else ended.stderr


def write_lines(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    return path


def completions(path: Path, number: int = 164, solved: int = 164) -> Path:
    """HumanEval's own format: the first `solved` answers are right."""
    rows = [
        {
            "task_id": row["task_id"],
            "completion": row["canonical_solution"] if index < solved else WRONG,
        }
        for index, row in enumerate(HUMANEVAL[:number])
    ]
    return write_lines(path, rows)


def verdicts(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_all_canonical_solutions_of_humaneval_pass_and_are_not_run_again(tmp_path: Path) -> None:
    answers = completions(tmp_path / "samples.jsonl")
    assert "164 passed" in grade(answers, "--benchmark", "humaneval")
    rows = verdicts(tmp_path / "samples.verdicts.jsonl")
    assert [row["task_id"] for row in rows] == [row["task_id"] for row in HUMANEVAL]
    assert all(row["passed"] and row["seconds"] > 0 for row in rows)
    assert "164 passed" in grade(answers, "--benchmark", "humaneval")
    assert verdicts(tmp_path / "samples.verdicts.jsonl") == rows  # the times are those from before


@pytest.mark.slow
def test_all_canonical_solutions_of_mbpp_plus_pass(tmp_path: Path) -> None:
    rows = [
        {"task_id": row["task_id"], "solution": row["canonical_solution"]}
        for row in read_jsonl(packaged_file("mbpp_plus"))
    ]
    answers = write_lines(tmp_path / "samples.jsonl", rows)
    generous = ("--timeout", "30", "--memory-mib", "4096")  # of Mbpp/255, see docs/benchmarks.md
    assert "378 passed" in grade(answers, "--benchmark", "mbpp_plus", *generous)


def test_two_files_are_compared_problem_by_problem(tmp_path: Path) -> None:
    better = completions(tmp_path / "better.jsonl", 30, 30)
    worse = completions(tmp_path / "worse.jsonl", 30, 12)
    printed = grade(better, worse, "--benchmark", "humaneval", "--answered-only")
    assert "humaneval, 30 problems x 1 answer" in printed
    assert re.search(r"better minus it.*\n-+\nbetter +100\.0 .*\nworse +40\.0 .*\+60\.0", printed)
    assert "worse: 18 failed, 12 passed" in printed


def test_problems_without_an_answer_count_as_wrong_and_are_said(tmp_path: Path) -> None:
    printed = grade(completions(tmp_path / "few.jsonl", 41), "--benchmark", "humaneval")
    assert "123 of 164 problems have no answer, such as HumanEval/41, and count as wrong" in printed
    assert "few  25.0" in printed


def test_a_grading_that_is_killed_twice_goes_on_from_its_last_verdict(tmp_path: Path) -> None:
    answers = completions(tmp_path / "samples.jsonl")
    kept = tmp_path / "samples.verdicts.jsonl"
    command = [*GRADE, str(answers), "--benchmark", "humaneval", "--workers", "1"]
    for number in (5, 10):
        killed = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        while not kept.is_file() or len(kept.read_text().splitlines()) < number:
            assert killed.poll() is None
            time.sleep(0.01)
        killed.send_signal(signal.SIGKILL)
        killed.wait()
        kept.write_text(kept.read_text()[:-9])  # as a full disk or a power cut may leave it
    before = verdicts_until_broken(kept)
    assert len(before) >= 9
    assert "164 passed" in grade(answers, "--benchmark", "humaneval")
    after = {row["task_id"]: row for row in verdicts(kept)}
    assert len(after) == 164
    assert all(after[row["task_id"]] == row for row in before)


@pytest.mark.parametrize("sandbox", ["auto", "none"])
def test_an_interruption_ends_the_programs_that_run(tmp_path: Path, sandbox: str) -> None:
    rows = [
        {"task_id": "HumanEval/0", "completion": HUMANEVAL[0]["canonical_solution"]},
        {"task_id": "HumanEval/1", "completion": "    while True: pass\n"},
    ]
    answers = write_lines(tmp_path / "samples.jsonl", rows)
    limits = ("--timeout", "500", "--workers", "2", "--sandbox", sandbox)
    command = [*GRADE, str(answers), "--benchmark", "humaneval", *limits]
    grader = subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )  # fmt: skip
    kept = tmp_path / "samples.verdicts.jsonl"
    while not kept.is_file() or not kept.read_text():
        assert grader.poll() is None
        time.sleep(0.01)
    grader.send_signal(signal.SIGINT)
    _, said = grader.communicate(timeout=60)
    assert grader.returncode == 128 + signal.SIGINT
    assert "the same command goes on" in said and "Traceback" not in said
    assert [row["task_id"] for row in verdicts(kept)] == ["HumanEval/0"]


def verdicts_until_broken(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()[:-1]]


def test_what_isolated_the_code_is_said_of_stored_verdicts_too(tmp_path: Path) -> None:
    answers = completions(tmp_path / "samples.jsonl", 2)
    grade(answers, "--benchmark", "humaneval", "--sandbox", "none")
    kept = tmp_path / "samples.verdicts.jsonl"
    write_lines(kept, verdicts(kept)[:1])
    assert re.search("isolated by .*, not isolated", grade(answers, "--benchmark", "humaneval"))


def test_another_limit_grades_again(tmp_path: Path) -> None:
    answers = completions(tmp_path / "samples.jsonl", 3)
    grade(answers, "--benchmark", "humaneval")
    first = verdicts(tmp_path / "samples.verdicts.jsonl")
    grade(answers, "--benchmark", "humaneval", "--timeout", "5")
    second = verdicts(tmp_path / "samples.verdicts.jsonl")
    assert [row["timeout"] for row in second] == [5, 5, 5]
    assert {row["key"] for row in first}.isdisjoint(row["key"] for row in second)


CODE = HUMANEVAL[0]["prompt"] + HUMANEVAL[0]["canonical_solution"]
TEXT = f"Here it is:\n```python\n{CODE}\n```"


def as_parquet(folder: Path) -> Path:
    sample = Sample(
        prompt_id="HumanEval/0", sample_index=0, seed=0, prompt_token_ids=[1],
        completion_token_ids=[2], text=TEXT, finish_reason="stop",
    )  # fmt: skip
    write_samples(folder / "shards" / "00000.parquet", [sample])
    return folder


def as_list(folder: Path, **fields: Any) -> Path:
    (folder / "answers.json").write_text(json.dumps([fields]))
    return folder / "answers.json"


@pytest.mark.parametrize(
    "write",
    [
        lambda folder: write_lines(
            folder / "a.jsonl", [{"task_id": "HumanEval/0", "solution": CODE}]
        ),
        lambda folder: completions(folder / "a.jsonl", 1),
        lambda folder: as_list(folder, question_id="HumanEval/0", code_list=[CODE]),
        lambda folder: as_list(folder, question_id=0, output_list=[TEXT]),
        lambda folder: write_lines(folder / "a.jsonl", [{"id": "humaneval/0", "text": TEXT}]),
        as_parquet,
    ],
)
def test_the_formats_of_other_tools_are_read(write: Callable[[Path], Path], tmp_path: Path) -> None:
    (answer,) = read_answers(write(tmp_path), TASKS, extraction=Extraction.official, thinking=False)
    assert (answer.problem_id, answer.index) == ("HumanEval/0", 0)
    assert (answer.code or "").strip() == CODE.strip()


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([], "holds no answer"),
        ([{"task_id": "Mbpp/2", "solution": "x"}], "Mbpp/2.*check --benchmark"),
        ([{"task_id": "HumanEval/0"}], "answer 1 needs a problem"),
        ([{"solution": "x"}], "answer 1 needs a problem"),
        ([{"task_id": "HumanEval/0", "solution": 5}], "answer 1: solution holds no text"),
        ([{"task_id": "HumanEval/0", "solution": None}], "answer 1: solution holds no text"),
    ],
)
def test_what_cannot_be_graded_is_refused_in_one_line(
    rows: list[dict[str, Any]], message: str, tmp_path: Path
) -> None:
    path = write_lines(tmp_path / "answers.jsonl", rows)
    with pytest.raises(DataError, match=message):
        read_answers(path, TASKS, extraction=Extraction.official, thinking=False)


@pytest.mark.parametrize(
    ("text", "options", "passes"),
    [
        (f"<think>\n{TEXT}", [], False),
        (f"{TEXT}\n</think>\n{TEXT}", ["--thinking"], True),
        (TEXT, ["--thinking"], False),
        (f"[THINK]{TEXT}[/THINK]", [], True),  # marks that nobody named
        (f"[THINK]{TEXT}[/THINK]", ["--reasoning", "[THINK]", "[/THINK]"], False),
        (f"[THINK]a[/THINK]{TEXT}", ["--reasoning", "[THINK]", "[/THINK]"], True),
        (f"a[/THINK]{TEXT}", ["--reasoning", "[THINK]", "[/THINK]", "--thinking"], True),
        (f"analysisa.assistantfinal{TEXT}", ["--thinking"], True),
    ],
)
def test_texts_with_reasoning_are_read_behind_it(
    tmp_path: Path, text: str, options: list[str], passes: bool
) -> None:
    path = write_lines(tmp_path / "a.jsonl", [{"id": "HumanEval/0", "text": text}])
    parsed = parse([str(path), "--benchmark", "humaneval", *options])
    (answer,) = read_answers(
        path,
        TASKS,
        extraction=Extraction.official,
        thinking=parsed.thinking,
        marks=marks_of(parsed),
    )
    assert (answer.code is not None) == passes


def test_a_file_that_holds_no_verdicts_is_never_written_over(tmp_path: Path) -> None:
    answers = completions(tmp_path / "samples.jsonl", 1)
    text = answers.read_text()
    command = (answers, "--benchmark", "humaneval", "--out", answers)
    assert "line 1 is no verdict: set --out" in grade(*command, code=REPORTED)
    assert answers.read_text() == text
    answers.write_text("notes")
    with pytest.raises(DataError, match="no verdict"):
        list(stored_rows(answers))


def test_a_folder_that_is_named_by_a_dot_has_its_verdicts_beside_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "answers").mkdir()
    monkeypatch.chdir(tmp_path / "answers")
    assert beside(Path(".")) == tmp_path / "answers.verdicts.jsonl"


def test_ones_own_benchmark_that_cannot_fail_grades_nothing(tmp_path: Path) -> None:
    row = {"version": 1, "id": "a", "question": "q", "test": "x = f(1)\nassert x is x"}
    own = write_lines(tmp_path / "own.jsonl", [row])
    answers = write_lines(tmp_path / "a.jsonl", [{"task_id": "a", "code": "def f(x): return 1"}])
    command = (answers, "--benchmark", "jsonl", "--file", own)
    assert "own.jsonl, line 1: " in grade(*command, code=REPORTED)


def test_the_command_says_what_is_wrong_and_ends_with_the_code_of_a_refusal(tmp_path: Path) -> None:
    answers = completions(tmp_path / "samples.jsonl", 2)
    printed = grade(answers, "--benchmark", "humanevil", code=REPORTED)
    assert "did you mean" in printed.lower() and "Traceback" not in printed
    assert "nowhere.jsonl is not there" in grade(
        tmp_path / "nowhere.jsonl", "--benchmark", "lcb_v6", code=REPORTED
    )
    assert "--k 5" in grade(answers, "--benchmark", "humaneval", "--k", "5", code=REPORTED)
    assert "examples:" in grade("--help")


def solutions(path: Path, *numbers: int) -> Path:
    """A file with so many answers to the first problems."""
    rows = [
        {"task_id": f"HumanEval/{problem}", "solution": f"x = {index}"}
        for problem, number in enumerate(numbers)
        for index in range(number)
    ]
    return write_lines(path, rows)


def read(path: Path) -> list[Answer]:
    return read_answers(path, TASKS, extraction=Extraction.official, thinking=False)


def test_uneven_numbers_of_answers_are_said_and_bound_k(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = solutions(tmp_path / "a.jsonl", 3, 3, 2)
    answers = read(path)
    assert "usual 3 answers: 1, such as HumanEval/2 with 2" in capsys.readouterr().out
    require_answers(path, answers, {f"HumanEval/{n}" for n in range(164)}, [1, 2])
    with pytest.raises(ConfigError, match=r"--k 3: .* has 2 for HumanEval/2; choose 1 to 2"):
        require_answers(path, answers, {"HumanEval/0", "HumanEval/2"}, [1, 3])
    require_answers(path, answers, {"HumanEval/0", "HumanEval/1"}, [3])


def test_of_two_files_the_problems_that_both_answer_are_left(tmp_path: Path) -> None:
    files = {
        tmp_path / "a.jsonl": (1, 0, 1, 1),
        tmp_path / "b.jsonl": (2, 1, 0, 3),
        tmp_path / "c.jsonl": (0, 1),
    }
    answers = {path: read(solutions(path, *numbers)) for path, numbers in files.items()}
    first, second, third = answers
    both = {path: answers[path] for path in (first, second)}
    left = scored_problems(BENCHMARK, both, answered_only=True)
    assert left == ["HumanEval/0", "HumanEval/3"]
    assert len(scored_problems(BENCHMARK, both, answered_only=False)) == 164
    with pytest.raises(DataError, match="no problem in common"):
        apart = {path: answers[path] for path in (first, third)}
        scored_problems(BENCHMARK, apart, answered_only=True)


def test_files_with_different_numbers_of_answers_are_compared(tmp_path: Path) -> None:
    rows = [
        {"task_id": row["task_id"], "completion": text}
        for row in HUMANEVAL[:8]
        for text in (row["canonical_solution"], WRONG)
    ]
    two = write_lines(tmp_path / "qwen2.5-two.jsonl", rows)
    one = completions(tmp_path / "one.jsonl", 9)
    printed = grade(two, one, "--benchmark", "humaneval", "--answered-only")
    assert "humaneval, 8 problems x 1 to 2 answers" in printed
    assert re.search(r"\nqwen2.5-two +50\.0 .*\none +100\.0 .* -50\.0 ", printed)
    assert "one: 8 passed" in printed
    assert len(verdicts(tmp_path / "one.verdicts.jsonl")) == 9


def test_a_second_grader_of_the_same_file_waits_and_uses_what_the_first_has_graded(
    tmp_path: Path,
) -> None:
    answers = completions(tmp_path / "samples.jsonl", 3)
    kept = tmp_path / "samples.verdicts.jsonl"
    grade(answers, "--benchmark", "humaneval")
    graded = kept.read_text()
    kept.unlink()
    with holding(tmp_path / ".samples.verdicts.jsonl.lock", kept):
        command = [*GRADE, str(answers), "--benchmark", "humaneval"]
        second = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert second.stdout is not None
        while not second.stdout.readline().startswith("waiting: "):
            assert second.poll() is None
        assert not kept.exists()
        kept.write_text(graded)
    printed, _ = second.communicate(timeout=60)
    assert "all verdicts are there from before" in printed
    assert kept.read_text() == graded


def test_a_file_as_windows_tools_write_it_is_read(tmp_path: Path) -> None:
    text = json.dumps({"task_id": "HumanEval/0", "solution": CODE})
    (tmp_path / "a.jsonl").write_bytes(f"\ufeff{text}\r\n\r\n".encode())
    (tmp_path / "b.json").write_bytes(f"\ufeff[{text}]".encode())
    assert [len(read(tmp_path / name)) for name in ("a.jsonl", "b.json")] == [1, 1]


def test_programs_that_look_like_texts_are_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [{"task_id": "HumanEval/0", "solution": TEXT}, {"task_id": "x", "solution": CODE}]
    read(write_lines(tmp_path / "a.jsonl", rows))
    printed = capsys.readouterr().out
    assert "code fences, run as they are: 1; name their field text" in printed
    assert "left out: 1, such as to x" in printed


def test_verdicts_go_to_no_device_and_to_no_file_of_both(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"/dev/null.*set --out"):
        require_writable(Path("/dev/null"))
    require_writable(tmp_path / "new.jsonl")
    assert not (tmp_path / "new.jsonl").exists()
    plain = completions(tmp_path / "a.jsonl", 1)
    array = tmp_path / "a.json"
    array.write_text(json.dumps([{"task_id": "HumanEval/0", "solution": CODE}]))
    assert "set --out" in grade(plain, array, "--benchmark", "humaneval", code=REPORTED)


@pytest.mark.parametrize(
    ("setting", "option"),
    [
        ("set eval.files.lcb=FOLDER", "set --file FOLDER"),
        ("name another as eval.files.jsonl", "name another as --file"),
        ("eval.benchmarks: no benchmark", "--benchmark: no benchmark"),
        ("type eval.sandbox=none", "type --sandbox none"),
        ("set output_dir=OTHER_FOLDER", "set --out OTHER_FOLDER"),
        ("needs eval.memory_mib=4096", "needs --memory-mib 4096"),
    ],
)
def test_errors_name_the_options_of_the_command(setting: str, option: str) -> None:
    with pytest.raises(DataError, match=f"^{option}$"), naming_options():
        raise DataError(setting)


def test_a_full_disk_is_said_with_the_remedy() -> None:
    with (
        open("/dev/full", "ab", buffering=0) as file,
        pytest.raises(ArtifactError, match=r"no space left while writing /dev/full: .*free some"),
    ):
        write_row(file, {"key": "a"})


def test_grading_imports_nothing_of_training_or_generation() -> None:
    heavy = "torch", "transformers", "vllm", "lightning", "pandas", "pyarrow"
    code = f"import ssd.evaluate.standalone, sys; print([m for m in {heavy} if m in sys.modules])"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ended.stdout == "[]\n"


@pytest.mark.usefixtures("interruptible")
def test_a_signal_that_comes_just_before_the_grader_waits_is_seen() -> None:
    ended = []

    def work(_: int) -> None:
        time.sleep(0.3)  # by then the main thread waits, and no signal to another one wakes it
        signal.pthread_kill(threading.get_ident(), signal.SIGINT)
        ended.append(sandbox.execute("while True: pass", "", timeout=20))

    with (
        load_sandbox("none", memory_mib=64, workers=1) as sandbox,
        pytest.raises(KeyboardInterrupt),
        as_they_come(work, [0], sandbox) as results,
    ):
        next(results)
    assert ended == []


def test_a_slow_program_holds_up_no_verdict_of_the_others() -> None:
    others_are_there = threading.Event()

    def work(item: int) -> int:
        return item if item or others_are_there.wait(30) else -1

    with (
        load_sandbox("none", memory_mib=64, workers=2) as sandbox,
        as_they_come(work, range(4), sandbox) as results,
    ):
        assert {next(results) for _ in range(3)} == {1, 2, 3}
        others_are_there.set()
        assert next(results) == 0


def test_answers_are_taken_as_workers_come_free() -> None:
    taken = []

    def items() -> Iterator[int]:
        for item in range(1000):
            taken.append(item)
            yield item

    with (
        load_sandbox("none", memory_mib=64, workers=2) as sandbox,
        as_they_come(lambda item: item, items(), sandbox) as results,
    ):
        first = next(results)
        assert len(taken) <= WAITING * 2
        assert sorted([first, *results]) == [*range(1000)]


def test_values_are_graded_from_texts_and_two_files_are_compared(tmp_path: Path) -> None:
    rows = [{"question": f"{n}?", "answer": f"#### {n}"} for n in range(8)]
    problems = write_lines(tmp_path / "test.jsonl", rows)
    right = [
        {"task_id": f"gsm8k/{n}", "output": rf"<think>\boxed{{9}}</think>It is \boxed{{{n}}}."}
        for n in range(8)
    ]
    bare = [{"id": n, "answer": str(n if n < 4 else 99)} for n in range(8)]
    paths = [write_lines(tmp_path / f"{name}.jsonl", rows) for name, rows in
             (("right", right), ("bare", bare))]  # fmt: skip
    printed = grade(*paths, "--benchmark", "gsm8k", "--file", problems)
    assert "number grading; texts: last box or number" in printed
    assert "right: 8 passed" in printed and "bare: 4 passed, 4 failed" in printed
    assert "+50.0" in printed and "code ran" not in printed
    (verdict, *_) = stored_rows(beside(paths[1]))
    assert (verdict["sandbox"], verdict["grading"]) == ("", "number")
    strict = ("--benchmark", "gsm8k", "--file", problems, "--extraction", "boxed")
    assert "bare: 8 no_value" in grade(paths[1], *strict, "--out", tmp_path / "strict.jsonl")


def test_own_values_are_checked_by_their_lines(tmp_path: Path) -> None:
    row = {"version": 1, "id": "a", "question": "?", "answer": "3"}
    path = write_lines(tmp_path / "own.jsonl", [row, {**row, "id": "b", "answer": "Paris"}])
    command = [sys.executable, "-m", "ssd.evaluate", "check", str(path), "--benchmark", "values"]
    wrong = subprocess.run(command, capture_output=True, text=True, check=False)
    assert wrong.returncode == 1 and "2 problems, 1 wrong" in wrong.stdout
    assert "line 2: " in wrong.stdout and "eval.grading=exact" in wrong.stdout
    whole = subprocess.run([*command, "--grading", "exact"], capture_output=True, text=True)
    assert (whole.returncode, whole.stdout) == (0, "2 problems, 0 wrong\n")
