"""One model's verdicts: `python -m ssd.evaluate.grade RUN_DIR base|t1|tuned`."""

import contextlib
import shutil
import time
from pathlib import Path
from typing import Any

from ssd.artifacts.names import SHARDS, VERDICTS
from ssd.artifacts.seals import drop_damaged
from ssd.evaluate.grading import Judge, as_they_come, grade_answer, require_modules
from ssd.evaluate.reading import reader
from ssd.evaluate.selection import Job, list_jobs, load_part
from ssd.problems.benchmarks.registry import find_entry
from ssd.problems.benchmarks.tasks import Benchmark
from ssd.problems.comparer import Comparer
from ssd.records.samples import Sample
from ssd.records.tables import DRAWN, iterate_samples, num_rows, shard_files
from ssd.records.verdicts import Verdict, join_verdicts, verdict_keys, write_verdicts
from ssd.run import Run, load_run, stage_parser
from ssd.run.protocol import MODELS
from ssd.runtime.progress import progress_bar
from ssd.runtime.reporting import reporting_errors
from ssd.runtime.threads import allowed_cores
from ssd.sandbox.pool import Sandbox, load_sandbox

PARTS = "parts"
PART_SIZE = 256
"""Verdicts that are written together; a killed grading loses at most those in flight."""


def open_sandbox(run: Run) -> Sandbox:
    """The sandbox that the settings name, with its workers."""
    settings = run.config.eval
    return load_sandbox(
        settings.sandbox.value,
        memory_mib=settings.memory_mib,
        workers=settings.workers or allowed_cores(),
    )


class Judges(contextlib.ExitStack):
    """The judges of a run's benchmarks, each opened where it is first asked for."""

    def __init__(self, run: Run) -> None:
        super().__init__()
        self._run = run
        self._open: dict[bool, Judge] = {}

    def of(self, benchmark: str) -> Judge:
        """The sandbox, or the comparer where the benchmark's answers are values."""
        settings = self._run.config.eval
        runs = find_entry(benchmark).form(settings.grading).runs
        if runs not in self._open:
            judge: Judge = open_sandbox(self._run) if runs else open_comparer(self._run)
            self._open[runs] = judge
            self.enter_context(judge)
        return self._open[runs]


def open_comparer(run: Run) -> Comparer:
    """What compares values, under the limits of the settings."""
    settings = run.config.eval
    return Comparer(memory_mib=settings.memory_mib, workers=settings.workers or allowed_cores())


def grade_answers(run: Run, job: Job, sandbox: Judge) -> None:
    """Write the verdicts on one job's answers."""
    settings, verdicts = run.config.eval, job.verdicts(run)
    with verdicts.writing() as folder:
        if verdicts.done:
            return
        started = time.time()
        benchmark = load_part(settings, job.benchmark, job.part)
        require_modules(benchmark, sandbox)
        counts = grade(run, job, benchmark, sandbox, folder)
        verdicts.finish(
            started=started,
            counts=counts,
            sandbox=sandbox.name,
            benchmark=benchmark.name,
            release=benchmark.release,
            window=benchmark.window,
            grading=benchmark.grading,
            extraction=benchmark.form.rule_name(settings.extraction),
        )


def grade(run: Run, job: Job, benchmark: Benchmark, sandbox: Judge, folder: Path) -> dict[str, Any]:
    """Write a verdict per answer, in order, and count them. They are written to `folder` in parts,
    and parts that exist are reused."""
    settings, parts = run.config.eval, folder / PARTS
    drop_damaged(parts)
    tasks = {task.problem.problem_id: task for task in benchmark.tasks}
    answers = shard_files(job.generations(run).intact(f"{SHARDS}/") / SHARDS)
    done = verdict_keys(parts)
    missing = (
        sample
        for sample in iterate_samples(answers, DRAWN)
        if (sample.prompt_id, sample.sample_index) not in done
    )
    read = reader(run)

    def verdict_on(sample: Sample) -> Verdict:
        return grade_answer(
            tasks[sample.prompt_id],
            sample,
            sandbox,
            timeout=settings.timeout,
            reading=read(sample),
            extraction=settings.extraction,
            form=benchmark.form,
        )

    fresh: list[Verdict] = []
    num_answers = num_rows(answers)
    with (
        progress_bar(f"grading {job.label}", num_answers, done=len(done), unit="answer") as bar,
        as_they_come(verdict_on, missing, sandbox) as verdicts_as_they_come,
    ):
        for verdict in verdicts_as_they_come:
            fresh.append(verdict)
            bar.update(1)
            if len(fresh) == PART_SIZE:
                write_verdicts(parts / f"{time.time_ns()}.parquet", fresh)
                fresh = []
    if fresh:
        write_verdicts(parts / f"{time.time_ns()}.parquet", fresh)
    counts = join_verdicts(parts, folder / VERDICTS)
    shutil.rmtree(parts, ignore_errors=True)
    return counts


def main() -> None:
    """Command line of this module."""
    parser = stage_parser("ssd.evaluate.grade", "Grade what one model of a run has answered.")
    parser.add_argument("model", choices=MODELS, help="whose answers")
    arguments = parser.parse_args()
    with reporting_errors():
        run = load_run(arguments.run_dir)
        answered = [job for job in list_jobs(run, arguments.model) if job.generations(run).done]
        with Judges(run) as judges:
            for job in answered:
                grade_answers(run, job, judges.of(job.benchmark))


if __name__ == "__main__":
    main()
