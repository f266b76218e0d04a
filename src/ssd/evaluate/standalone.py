"""The grader by itself: `ssd grade ANSWERS [OTHER] --benchmark NAME`."""

import argparse
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from ssd.artifacts.files import write_text
from ssd.artifacts.fingerprints import fingerprint
from ssd.artifacts.locks import holding
from ssd.config.choices import Extraction, Grading
from ssd.config.settings import BenchmarkFiles, ReasoningConfig
from ssd.errors import ConfigError, DataError
from ssd.evaluate.answer_scores import summary, with_missing
from ssd.evaluate.answers import Answer, read_answers
from ssd.evaluate.grading import Judge, as_they_come, program_hash, require_modules, run
from ssd.evaluate.options import add_sandbox_options, naming_options, open_sandbox
from ssd.evaluate.soundness import require_sound
from ssd.evaluate.verdict_lines import beside, require_writable, stored_rows, verdict_of, write_row
from ssd.problems.benchmarks.registry import benchmark_identity, find_entry, load_benchmark
from ssd.problems.benchmarks.tasks import Benchmark, Task
from ssd.problems.comparer import Comparer
from ssd.records.verdicts import Verdict
from ssd.runtime.command_line import command_line
from ssd.runtime.progress import progress_bar
from ssd.sandbox.endings import PASSED

NOTES = """\
ANSWERS is EvalPlus's or HumanEval's samples.jsonl (task_id with solution or completion),
LiveCodeBench's list (question_id with code_list or output_list), JSON Lines with an id and a text,
or a Parquet file or generations folder of this project. Verdicts are written beside it, as they
come: the same command goes on from them. See docs/grading.md.
"""


@naming_options()
def run_grade(arguments: list[str]) -> None:
    """Grade one or two files of answers and print their scores.

    Raises:
        SSDError: nothing could be graded; says why.
    """
    options = parse(arguments)
    files = files_of(options)
    benchmark = load_benchmark(options.benchmark, files, Grading(options.grading))
    paths = [options.answers, *([options.other] if options.other else [])]
    extraction = Extraction(options.extraction)
    read = partial(
        read_answers,
        extraction=extraction,
        thinking=options.thinking,
        marks=marks_of(options),
        form=benchmark.form,
    )
    answers = {path: read(path, benchmark.tasks) for path in paths}
    scored = scored_problems(benchmark, answers, answered_only=options.answered_only)
    for path in paths:
        require_answers(path, answers[path], set(scored), options.k)
    tasks = {task.problem.problem_id: task for task in benchmark.tasks}
    rules = {
        "benchmark": benchmark.name,
        "edition": fingerprint(benchmark_identity(benchmark.name, files)),
        "grading": benchmark.grading,
        "timeout": options.timeout,
        "memory_mib": options.memory_mib,
    }
    outs = {path: beside(path) for path in paths} | ({paths[0]: options.out} if options.out else {})
    if len(outs) > len({out.resolve() for out in outs.values()}):
        raise ConfigError(f"the verdicts on both files would go to {outs[paths[0]]}: set --out")
    for out in outs.values():
        require_writable(out)
    verdicts = {}
    with open_judge(options, benchmark) as sandbox:
        require_modules(benchmark, sandbox)
        if not find_entry(benchmark.name).trusted_tests:
            require_sound(benchmark.tasks, sandbox, timeout=options.timeout)
        for path in paths:
            out = outs[path]
            with holding(out.with_name(f".{out.name}.lock"), out):  # another grader of it waits
                rows = grade_file(out, answers[path], tasks, sandbox, rules)
            verdicts[path] = with_missing(rows, scored, max(options.k))
            print(f"verdicts: {out}", flush=True)
    print(f"\n{summary(benchmark, verdicts, options.k, extraction)}\n", flush=True)


def parse(arguments: list[str]) -> argparse.Namespace:
    """The command line.

    Raises:
        ConfigError: two answers are compared with themselves.
        DataError: a file is not there.
    """
    parser = command_line(
        "grade",
        "Grade answers from anywhere, without a run: verdicts and pass@k.",
        "samples.jsonl --benchmark humaneval",
        "answers.jsonl --benchmark gsm8k --file test.jsonl.gz",
        "tuned.json base.json --benchmark lcb_v6 --file FOLDER --k 1 5",
        notes=NOTES,
    )
    parser.add_argument("answers", metavar="ANSWERS", type=Path, help="a file of answers")
    parser.add_argument(
        "other", metavar="OTHER", type=Path, nargs="?",
        help="another one, that the first is compared with, paired by problem",
    )  # fmt: skip
    parser.add_argument("--benchmark", required=True, help="its name, as in eval.benchmarks")
    parser.add_argument("--file", help="its file or folder, where it is not shipped with ssd")
    parser.add_argument("--out", type=Path, help="verdicts of ANSWERS (default: beside it)")
    parser.add_argument("--k", type=int, nargs="+", default=[1], help="pass@k (default 1)")
    parser.add_argument(
        "--answered-only", action="store_true",
        help="leave out problems without an answer, which otherwise count as wrong",
    )  # fmt: skip
    parser.add_argument(
        "--thinking", action="store_true", help="texts begin within reasoning, which prompts opened"
    )
    parser.add_argument(
        "--reasoning", nargs=2, metavar=("OPEN", "CLOSE"),
        help="marks of reasoning in texts, as model.reasoning (default <think> </think>)",
    )  # fmt: skip
    choices = (("grading", Grading), ("extraction", Extraction))
    for name, kind in choices:
        values = [value.value for value in kind]
        parser.add_argument(f"--{name}", choices=values, default=values[0], help=f"eval.{name}")
    add_sandbox_options(parser)
    options = parser.parse_args(arguments)
    for path in filter(None, (options.answers, options.other)):
        if not path.exists():
            raise DataError(f"{path} is not there: name a file of answers, or a corpus's folder")
    if options.other and options.other.resolve() == options.answers.resolve():
        raise ConfigError("grade takes two different files to compare")
    return options


def open_judge(options: argparse.Namespace, benchmark: Benchmark) -> Judge:
    """The sandbox that the options name, or what compares values under its limits.

    Raises:
        HardwareError: it does not start here.
    """
    if benchmark.form.runs:
        return open_sandbox(options)
    return Comparer(memory_mib=options.memory_mib, workers=options.workers)


def marks_of(options: argparse.Namespace) -> ReasoningConfig | None:
    """`--reasoning` as the setting; None where it is left out."""
    if options.reasoning is None:
        return None
    opens, closes = options.reasoning
    return ReasoningConfig(open=opens, close=closes)


def files_of(options: argparse.Namespace) -> BenchmarkFiles:
    """`--file` as the setting of the benchmark that is read from it."""
    setting = find_entry(options.benchmark, "--benchmark").setting
    if options.file is None:
        return BenchmarkFiles()
    if setting is None:
        raise ConfigError(f"--benchmark {options.benchmark} is shipped with ssd: leave --file out")
    return BenchmarkFiles(**{setting: options.file})


def scored_problems(
    benchmark: Benchmark, answers: Mapping[Path, Sequence[Answer]], *, answered_only: bool
) -> list[str]:
    """The problems that count, in the benchmark's order: all, or what every file answers. A note is
    printed about problems that a file does not answer.

    Raises:
        DataError: no problem is answered by every file.
    """
    names = [task.problem.problem_id for task in benchmark.tasks]
    answered = {path: {answer.problem_id for answer in rows} for path, rows in answers.items()}
    for path, its in answered.items():
        missing = [name for name in names if name not in its]
        if missing:
            counts = "are left out" if answered_only else "count as wrong (--answered-only)"
            print(
                f"note: {path}: {len(missing)} of {len(names)} problems have no answer, such as "
                f"{missing[0]}, and {counts}",
                flush=True,
            )
    if not answered_only:
        return names
    common = set.intersection(*answered.values())
    if not common:
        raise DataError(f"{' and '.join(map(str, answered))} answer no problem in common")
    return [name for name in names if name in common]


def require_answers(
    path: Path, answers: Sequence[Answer], scored: set[str], k: Sequence[int]
) -> None:
    """Refuse a k for which a problem has too few answers: pass@k is defined from k answers on.

    Raises:
        ConfigError: names the k and such a problem.
    """
    numbers = Counter(answer.problem_id for answer in answers if answer.problem_id in scored)
    fewest = min(numbers, key=lambda name: numbers[name])
    if min(k) < 1 or max(k) > numbers[fewest]:
        wrong = min(k) if min(k) < 1 else max(k)
        raise ConfigError(
            f"--k {wrong}: {path} has {numbers[fewest]} for {fewest}; choose 1 to {numbers[fewest]}"
        )


def grade_file(
    out: Path,
    answers: Sequence[Answer],
    tasks: dict[str, Task],
    sandbox: Judge,
    rules: dict[str, Any],
) -> list[Verdict]:
    """A verdict per answer, in order. Each is written to `out` as it comes, and read from there if
    the same program was graded by the same rules before. The caller has locked the file."""
    # Equal for answers that get the same verdict.
    keys = [fingerprint({"problem": a.problem_id, "code": a.code, **rules}) for a in answers]
    done = {row["key"]: row for row in stored_rows(out)}
    # Drops a line that a kill has cut short; the next verdict would be appended to it.
    write_text(out, "".join(f"{json.dumps(row)}\n" for row in done.values()))
    missing = {key: answer for key, answer in zip(keys, answers, strict=True) if key not in done}

    def row_of(item: tuple[str, Answer]) -> dict[str, Any]:
        key, answer = item
        outcome = run(tasks[answer.problem_id], answer.code, sandbox, rules["timeout"])
        return {
            "task_id": answer.problem_id, "sample_index": answer.index,
            "passed": outcome.status == PASSED, "status": outcome.status,
            "detail": outcome.detail, "seconds": round(outcome.seconds, 4),
            "program": program_hash(answer.code or ""), "sandbox": sandbox.name,
            **rules, "key": key,
        }  # fmt: skip

    total = len(set(keys))
    other = len(done) - (total - len(missing))
    if other:
        print(
            f"note: {out}: verdicts on other programs or by other rules, replaced: {other}",
            flush=True,
        )
    if not missing:
        print(f"note: {out}: all verdicts are there from before", flush=True)
    with (
        out.open("ab", buffering=0) as file,
        progress_bar(
            f"grading {out.name}", total, done=total - len(missing), unit="answer",
            hidden=not missing,
        ) as bar,
        as_they_come(row_of, missing.items(), sandbox) as rows_as_they_come,
    ):  # fmt: skip
        for row in rows_as_they_come:
            write_row(file, row)
            done[row["key"]] = row
            bar.update(1)
    rows = [
        {**done[key], "sample_index": answer.index}
        for key, answer in zip(keys, answers, strict=True)
    ]
    write_text(out, "".join(f"{json.dumps(row)}\n" for row in rows))
    return [verdict_of(row) for row in rows]
