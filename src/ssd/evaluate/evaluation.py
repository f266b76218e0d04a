"""The stage: every model's answers, their verdicts, what they choose, and scores.json.

This process starts the generating ones and grades; it imports neither torch nor vllm.
"""

import contextlib
import functools
import os
import sys
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np

from ssd.arms import TUNED
from ssd.artifacts import write_json
from ssd.config import ModelKind
from ssd.evaluate.benchmarks import Benchmark
from ssd.evaluate.extraction import EXTRACTION
from ssd.evaluate.generate import CHOOSE, REPORT, Job, list_jobs, require_checkpoint
from ssd.evaluate.grading import VERDICTS, grade, read_verdicts
from ssd.evaluate.metrics import track
from ssd.evaluate.parts import load_part
from ssd.evaluate.sandbox import Sandbox, load_sandbox
from ssd.evaluate.scores import benchmark_scores
from ssd.evaluate.selection import Arm, choose, list_arms, write_selection
from ssd.evaluate.table import score_table
from ssd.generation import read_samples
from ssd.generation.records import SHARDS
from ssd.launch import export_model
from ssd.run import ALL, SCORES, Run
from ssd.stage import run_child

VERSION = 2


def evaluate(run: Run) -> None:
    """Bring the run's scores.json up to date and print its table;
    what is finished is used as it is.

    Raises:
        ArtifactError: the run trains, and a checkpoint is not finished.
        HardwareError: generated code cannot be isolated on this machine.
        StageError: a generating process failed; it has printed its reason.
    """
    models = run.models()
    if TUNED not in models:
        print(
            "no checkpoint, and stages leaves out train: only the base model is evaluated",
            flush=True,
        )
    for model in models:
        require_checkpoint(run, model)
    with contextlib.ExitStack() as stack:

        @functools.cache
        def sandbox() -> Sandbox:
            return stack.enter_context(open_sandbox(run))

        selection = None
        if run.selects:
            answer_and_grade(run, CHOOSE, sandbox)
            selection = choose(run)
            write_selection(run, selection)
        answer_and_grade(run, REPORT, sandbox)
    scores = build_scores(run, selection)
    write_json(run.folder / SCORES, scores)
    track(run, scores)
    print(f"\n{score_table(scores)}\n", flush=True)


def open_sandbox(run: Run) -> Sandbox:
    """The sandbox that the settings name, with its workers."""
    settings = run.config.eval
    return load_sandbox(settings.sandbox, memory_mib=settings.memory_mib, workers=num_workers(run))


def num_workers(run: Run) -> int:
    """Programs that are graded at once."""
    return run.config.eval.workers or len(os.sched_getaffinity(0))


def answer_and_grade(run: Run, purpose: str, sandbox: Callable[[], Sandbox]) -> None:
    """Everything that is answered for one purpose, with its verdicts."""
    jobs = list_jobs(run, purpose)
    ungraded = [job for job in jobs if not job.verdicts(run).done]
    if ungraded:
        sandbox()  # before anything is generated: a machine that cannot grade should say so first
    unanswered = [job for job in jobs if not job.generations(run).done]
    for model, step in dict.fromkeys((job.model, job.how.checkpoint_step) for job in unanswered):
        export_model(run, model, step)
        command = [sys.executable, "-m", "ssd.evaluate.generate", str(run.folder), model]
        command += ["--to", purpose, *([] if step is None else ["--step", str(step)])]
        drawn = [
            job.generations(run)
            for job in unanswered
            if (job.model, job.how.checkpoint_step) == (model, step)
        ]
        run_child(command, f"generating answers of the {model} model", makes=drawn)
    for job in ungraded:
        grade_answers(run, job, sandbox())


def grade_answers(run: Run, job: Job, sandbox: Sandbox) -> None:
    """Write the verdicts on one job's answers."""
    settings, verdicts = run.config.eval, job.verdicts(run)
    with verdicts.writing() as folder:
        if verdicts.done:
            return
        started = time.time()
        benchmark = load_part(settings, job.benchmark, job.part)
        rows = grade(
            benchmark.tasks,
            read_samples(job.generations(run).folder / SHARDS),
            sandbox,
            folder,
            timeout=settings.timeout,
            thinking=run.config.model.kind is ModelKind.thinking,
            workers=num_workers(run),
            label=f"grading {job.label}",
        )
        statuses = Counter(row.status for row in rows)
        counts = {
            "num_problems": len({row.problem_id for row in rows}),
            "num_samples": len(rows),
            "num_passed": sum(row.passed for row in rows),
            "statuses": dict(statuses.most_common()),
        }
        verdicts.finish(
            started=started, counts=counts, sandbox=sandbox.name, **benchmark_facts(benchmark)
        )


def benchmark_facts(benchmark: Benchmark) -> dict[str, Any]:
    """What has to be known of a benchmark beside every score on it."""
    return {
        "benchmark": benchmark.name,
        "release": benchmark.release,
        "window": benchmark.window,
        "grading": benchmark.grading,
        "extraction": EXTRACTION,
    }


def problem_groups(benchmark: Benchmark) -> dict[str, list[str]]:
    """Problem ids by difficulty, and without those whose official tests are known to be faulty;
    only groups that are a part of the benchmark."""
    tasks = benchmark.tasks
    named = {name: [t for t in tasks if t.difficulty == name] for name in difficulties(benchmark)}
    named["without errata"] = [task for task in tasks if not task.errata]
    return {
        name: [task.problem.problem_id for task in group]
        for name, group in named.items()
        if 0 < len(group) < len(tasks)
    }


def difficulties(benchmark: Benchmark) -> list[str]:
    """A benchmark's difficulties, the known ones in their order."""
    found = {task.difficulty for task in benchmark.tasks if task.difficulty}
    known = ("easy", "medium", "hard")
    return [*(name for name in known if name in found), *sorted(found.difference(known))]


def build_scores(run: Run, selection: dict[str, Any] | None) -> dict[str, Any]:
    """The contents of scores.json, from finished verdicts."""
    arms = list_arms(run, run.chosen_settings())
    backends: set[str] = set()
    benchmarks: dict[str, Any] = {}
    for name, part in run.reported_on():
        artifacts = {arm.name: run.verdicts(arm.model, name, arm.how, part) for arm in arms}
        backends |= {one.manifest()["sandbox"] for one in artifacts.values()}
        benchmark = load_part(run.config.eval, name, part)
        scores = benchmark_scores(
            {arm: read_verdicts(one.folder / VERDICTS) for arm, one in artifacts.items()},
            run.config.eval.k,
            groups=problem_groups(benchmark),
            reference=TUNED,
            resample=run.config.eval.resample,
            num_resamples=run.config.eval.bootstrap,
            rng=np.random.default_rng(run.config.seed),
        )
        for arm in arms:
            scores["models"][arm.name] |= arm_facts(run, arm, name, part)
        benchmarks[name] = {
            **benchmark_facts(benchmark),
            "num_total": len(load_part(run.config.eval, name, ALL).tasks),
            "split": part,
            "regression": name in run.config.eval.regression,
            **scores,
        }
    kept = ("mode", "validation", "problems", "sweeps")
    return {
        "version": VERSION,
        "inputs": run.score_inputs(),
        "sandbox": ", ".join(sorted(backends)),
        "resample": run.config.eval.resample.value,
        "selection": selection and {name: selection[name] for name in kept},
        "benchmarks": benchmarks,
    }


def arm_facts(run: Run, arm: Arm, benchmark: str, part: str) -> dict[str, Any]:
    """Which model an arm is, under which setting, and where its answers and verdicts lie."""
    how = arm.how
    return {
        "model": arm.model,
        "temp": how.temp,
        "top_k": how.top_k,
        "top_p": how.top_p,
        "checkpoint_step": how.checkpoint_step,
        "generations": run.generations(arm.model, benchmark, how, part).fingerprint,
        "verdicts": run.verdicts(arm.model, benchmark, how, part).fingerprint,
    }
