"""The stage: every model's answers, their verdicts, what they choose, and scores.json.

This process starts the generating ones and grades; it imports neither torch nor vllm.
"""

import contextlib
import functools
import sys
from collections.abc import Callable
from typing import Any

import numpy as np

from ssd.arms import INTERVALS, TUNED
from ssd.artifacts import write_json
from ssd.artifacts.names import SCORES, VERDICTS
from ssd.evaluate.generate import is_answered, is_whole, of_step, require_checkpoint
from ssd.evaluate.grade import benchmark_facts, grade_answers, open_sandbox
from ssd.evaluate.metrics import track
from ssd.evaluate.parts import load_part
from ssd.evaluate.scores import benchmark_scores
from ssd.evaluate.selection import (
    Arm,
    choice_jobs,
    choose,
    list_arms,
    list_jobs,
    write_selection,
)
from ssd.evaluate.table import score_table
from ssd.problems.benchmarks import Benchmark
from ssd.records.verdicts import read_verdicts
from ssd.run import Run, evidence, protocol
from ssd.run.launch import export_model
from ssd.run.protocol import ALL
from ssd.runtime.stage import run_child
from ssd.sandbox.pool import Sandbox

VERSION = 2


def evaluate(run: Run) -> None:
    """Bring the run's scores.json up to date and print its table;
    what is finished is used as it is.

    Raises:
        ArtifactError: the run trains, and a checkpoint is not finished.
        HardwareError: generated code cannot be isolated on this machine.
        StageError: a generating process failed; it has printed its reason.
    """
    models = protocol.models(run)
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

        for model in reversed(models):  # the base model last: it answers as the tuned one does too
            answer_and_grade(run, model, sandbox)
    selection = choose(run) if protocol.selects(run) else None
    if selection is not None:
        write_selection(run, selection)
    scores = build_scores(run, selection)
    write_json(run.folder / SCORES, scores)
    track(run, scores)
    print(f"\n{score_table(scores)}\n", flush=True)


def answer_and_grade(run: Run, model: str, sandbox: Callable[[], Sandbox]) -> None:
    """All that a model is asked, with its verdicts."""
    if not all(job.verdicts(run).done for job in list_jobs(run, model)):
        sandbox()  # before anything is generated: a machine that cannot grade should say so first
    steps = dict.fromkeys(how.checkpoint_step for how in protocol.candidates(run, model))
    # The first round ends in the choice, and the process that brought it on has gone on to what is
    # reported, unless it answers for another step than the chosen one.
    for jobs in (choice_jobs, list_jobs):
        for step in steps:
            if not is_answered(run, of_step(step, jobs(run, model))):
                generate_answers(run, model, step)
        for job in jobs(run, model):
            if not job.verdicts(run).done:
                grade_answers(run, job, sandbox())


def generate_answers(run: Run, model: str, step: int | None) -> None:
    """Let a process of its own answer all that a step of a model is asked."""
    export_model(run, model, step)
    command = [sys.executable, "-m", "ssd.evaluate.generate", str(run.folder), model]
    run_child(
        command + ([] if step is None else ["--step", str(step)]),
        f"generating answers of the {model} model",
        is_whole=lambda: is_whole(run, model, step),
    )


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
    arms = list_arms(run, evidence.chosen_settings(run))
    backends: set[str] = set()
    benchmarks: dict[str, Any] = {}
    for name, part in protocol.reported_on(run):
        artifacts = {
            arm.name: evidence.verdicts(run, arm.model, name, arm.how, part) for arm in arms
        }
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
            **benchmark_facts(benchmark, run.config.eval.extraction),
            "num_total": len(load_part(run.config.eval, name, ALL).tasks),
            "split": part,
            "regression": name in run.config.eval.regression,
            **scores,
        }
    kept = ("mode", "validation", "problems", "sweeps")
    return {
        "version": VERSION,
        "inputs": evidence.score_inputs(run),
        "sandbox": ", ".join(sorted(backends)),
        "resample": run.config.eval.resample.value,
        "intervals": INTERVALS,
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
        "generations": evidence.generations(run, arm.model, benchmark, how, part).fingerprint,
        "verdicts": evidence.verdicts(run, arm.model, benchmark, how, part).fingerprint,
    }
