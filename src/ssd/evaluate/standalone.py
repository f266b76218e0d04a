"""The grader by itself: `python -m ssd.evaluate grade ANSWERS [OTHER] --benchmark NAME`."""

import argparse
import json
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from ssd.artifacts import fingerprint, write_text
from ssd.config import BenchmarkFiles, Extraction, Grading
from ssd.errors import ConfigError
from ssd.evaluate.answers import Answer, read_answers
from ssd.evaluate.benchmarks import Benchmark, Task, benchmark_identity, load_benchmark
from ssd.evaluate.grading import Verdict, program_hash, require_modules, run
from ssd.evaluate.options import add_sandbox_options, open_sandbox
from ssd.evaluate.sandbox import PASSED, Sandbox
from ssd.evaluate.scores import benchmark_scores
from ssd.evaluate.soundness import require_sound
from ssd.evaluate.table import aligned, isolation, percent, signed
from ssd.evaluate.verdict_lines import require_writable, stored_rows, verdict_of, write_row
from ssd.progress import progress_bar

NO_ANSWER = "no_answer"
RESAMPLES = 10_000
EXAMPLES = """\
examples:
  %(prog)s samples.jsonl --benchmark humaneval
  %(prog)s tuned.json base.json --benchmark lcb_v6 --file FOLDER --k 1 5

ANSWERS is EvalPlus's or HumanEval's samples.jsonl (task_id with solution or completion),
LiveCodeBench's list (question_id with code_list or output_list), JSON Lines with an id and a text,
or a Parquet file or generations folder of this project. Verdicts are written beside it, as they
come: the same command goes on from them. See docs/grading.md.
"""


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
    answers = {
        path: read_answers(path, benchmark.tasks, extraction=extraction, thinking=options.thinking)
        for path in paths
    }
    for path in paths:
        most = 1 + max(answer.index for answer in answers[path])
        if min(options.k) < 1 or max(options.k) > most:
            raise ConfigError(
                f"--k {max(options.k)}: {path} has {most} for each problem; choose 1 to {most}"
            )
    tasks = {task.problem.problem_id: task for task in benchmark.tasks}
    rules = {
        "benchmark": benchmark.name,
        "edition": fingerprint(benchmark_identity(benchmark.name, files)),
        "grading": benchmark.grading,
        "timeout": options.timeout,
        "memory_mib": options.memory_mib,
    }
    outs = {path: beside(path) for path in paths} | ({paths[0]: options.out} if options.out else {})
    for out in outs.values():
        require_writable(out)
    verdicts = {}
    with open_sandbox(options) as sandbox:
        require_modules(benchmark, sandbox)
        if benchmark.name == "jsonl":
            require_sound(
                benchmark.tasks, sandbox, timeout=options.timeout, workers=options.workers
            )
        for path in paths:
            rows = grade_file(outs[path], answers[path], tasks, sandbox, rules, options.workers)
            verdicts[path] = with_missing(rows, benchmark, answered_only=options.answered_only)
            print(f"verdicts: {outs[path]}", flush=True)
    print(f"\n{summary(benchmark, verdicts, options.k, extraction, sandbox.name)}\n", flush=True)


def parse(arguments: list[str]) -> argparse.Namespace:
    """The command line.

    Raises:
        ConfigError: two answers are compared with themselves.
    """
    parser = argparse.ArgumentParser(
        prog="python -m ssd.evaluate grade",
        description="Grade answers from anywhere, without a run: verdicts and pass@k.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
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
    parser.add_argument("--thinking", action="store_true", help="texts begin with their reasoning")
    choices = (("grading", Grading), ("extraction", Extraction))
    for name, kind in choices:
        values = [one.value for one in kind]
        parser.add_argument(f"--{name}", choices=values, default=values[0], help=f"eval.{name}")
    add_sandbox_options(parser)
    options = parser.parse_args(arguments)
    if options.other and options.other.resolve() == options.answers.resolve():
        raise ConfigError("grade takes two different files to compare")
    return options


def files_of(options: argparse.Namespace) -> BenchmarkFiles:
    """`--file` as the setting of the benchmark that is read from it."""
    if options.file is None:
        return BenchmarkFiles()
    name = "lcb" if options.benchmark.startswith("lcb_") else options.benchmark
    if name not in ("lcb", "humaneval_plus", "mbpp_plus", "jsonl"):
        raise ConfigError(f"--benchmark {name} is shipped with ssd: leave --file out")
    return BenchmarkFiles(**{name: options.file})


def beside(path: Path) -> Path:
    """Where the verdicts on a file of answers go."""
    path = path.resolve()  # a folder may be typed as `.`
    name = path.name.removesuffix(".gz")
    return path.with_name(f"{name.rpartition('.')[0] or name}.verdicts.jsonl")


def grade_file(
    out: Path,
    answers: Sequence[Answer],
    tasks: dict[str, Task],
    sandbox: Sandbox,
    rules: dict[str, Any],
    workers: int,
) -> list[Verdict]:
    """A verdict per answer, in order; written to `out` as they come, and taken from there where the
    same program was graded by the same rules before."""
    keys = [key_of(answer, rules) for answer in answers]
    done = {row["key"]: row for row in stored_rows(out)}
    # Without the line that a kill has cut short, which the next one would be appended to.
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

    pool = ThreadPoolExecutor(workers)
    try:
        total = len(set(keys))
        with (
            out.open("a", encoding="utf-8") as file,
            progress_bar(out.stem, total, done=total - len(missing), unit="program") as bar,
        ):
            for row in pool.map(row_of, missing.items()):
                write_row(file, row)
                done[row["key"]] = row
                bar.update(1)
    finally:
        pool.shutdown(cancel_futures=True)
    rows = [
        {**done[key], "sample_index": answer.index}
        for key, answer in zip(keys, answers, strict=True)
    ]
    write_text(out, "".join(f"{json.dumps(row)}\n" for row in rows))
    return [verdict_of(row) for row in rows]


def key_of(answer: Answer, rules: dict[str, Any]) -> str:
    """Equal for answers to which the same verdict applies."""
    return fingerprint({"problem": answer.problem_id, "code": answer.code, **rules})


def with_missing(
    verdicts: list[Verdict], benchmark: Benchmark, *, answered_only: bool
) -> list[Verdict]:
    """The verdicts, and failed ones for the problems that nobody answered."""
    answered = {verdict.problem_id for verdict in verdicts}
    names = [task.problem.problem_id for task in benchmark.tasks]
    missing = [name for name in names if name not in answered]
    if missing:
        counts = "are left out" if answered_only else "count as wrong (--answered-only)"
        print(
            f"note: {len(missing)} of {len(names)} problems have no answer, such as {missing[0]}, "
            f"and {counts}",
            flush=True,
        )
    empty = {"passed": False, "status": NO_ANSWER, "detail": "", "program": "", "seconds": 0.0}
    samples = range(1 + max(verdict.sample_index for verdict in verdicts))
    return verdicts + [
        verdict_of({**empty, "task_id": name, "sample_index": index, "sandbox": ""})
        for name in ([] if answered_only else missing)
        for index in samples
    ]


def summary(
    benchmark: Benchmark,
    verdicts: dict[Path, list[Verdict]],
    k: list[int],
    extraction: Extraction,
    backend: str,
) -> str:
    """The scores as a table, and what has to be said beside them.

    Raises:
        DataError: two files answer different problems.
    """
    names = distinct_names(list(verdicts))
    first = next(iter(names.values()))
    scores = benchmark_scores(
        {names[path]: rows for path, rows in verdicts.items()}, k, reference=first,
        num_resamples=RESAMPLES, rng=np.random.default_rng(0),
    )  # fmt: skip
    compared = bool(scores["comparisons"])
    rows: list[list[str] | str] = [
        ["", *(f"pass@{at}" for at in k)] + [f"{first} minus it, pass@{at}" for at in k if compared]
    ]
    for name, model in scores["models"].items():
        changes = scores["comparisons"].get(name, {})
        row = [name, *(percent(model[f"pass@{at}"]) for at in k)]
        rows.append(
            row + [signed(changes[f"pass@{at}"]) if changes else "" for at in k if compared]
        )
    facts = [benchmark.release, benchmark.window, f"{benchmark.grading} grading"]
    statuses = [
        f"{names[path]}: "
        + ", ".join(f"{n} {s}" for s, n in Counter(v.status for v in listed).most_common())
        for path, listed in verdicts.items()
    ]
    return "\n".join([
        f"{benchmark.name}, {scores['num_problems']} problems x {scores['num_samples']} "
        f"answer{'' if scores['num_samples'] == 1 else 's'} "
        f"({', '.join(fact for fact in facts if fact)}; texts: {extraction.value} extraction)",
        aligned(rows), "", *statuses,
        f"percent with 95 % intervals over problems; code ran {isolation(backend)}",
    ])  # fmt: skip


def distinct_names(paths: Sequence[Path]) -> dict[Path, str]:
    """The files' names, with their folders where these are alike."""
    names = {path: path.name.partition(".")[0] for path in paths}
    return names if len(set(names.values())) == len(paths) else {path: str(path) for path in paths}
