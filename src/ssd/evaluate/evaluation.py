"""The stage: answers of base and tuned model, their verdicts, and scores.json.

This process starts the generating ones and grades; it imports neither torch nor vllm.
"""

import os
import sys
import time
from collections import Counter
from typing import Any

import numpy as np

from ssd.artifacts import fingerprint, write_json
from ssd.errors import ArtifactError
from ssd.evaluate.benchmarks import SPLIT, load_benchmark
from ssd.evaluate.grading import VERDICTS, grade, read_verdicts, write_verdicts
from ssd.evaluate.sandbox import Sandbox, load_sandbox
from ssd.evaluate.scores import benchmark_scores
from ssd.evaluate.table import pass_names, score_table
from ssd.generation import read_samples
from ssd.generation.records import SHARDS
from ssd.run import SCORES, Run
from ssd.stage import run_child
from ssd.tracking import Tracker

VERSION = 1


def evaluate(run: Run) -> None:
    """Bring the run's scores.json up to date and print its table;
    what is finished is used as it is.

    Raises:
        ArtifactError: the run trains, and its checkpoint is not finished.
        HardwareError: generated code cannot be isolated on this machine.
        StageError: a generating process failed; it has printed its reason.
    """
    settings, answers = run.config.eval, run.answers()
    roles = tuple(dict.fromkeys(role for role, _ in answers))
    if "tuned" not in roles:
        print(
            "no checkpoint, and stages leaves out train: only the base model is evaluated",
            flush=True,
        )
    elif not run.checkpoint.done:
        raise ArtifactError(
            f"{run.checkpoint.folder} holds no finished checkpoint: run python -m ssd.train "
            f"{run.folder} first, or leave train out of stages to evaluate the base model alone"
        )
    ungraded = [answer for answer in answers if not run.verdicts(*answer).done]
    # Before anything is generated: a machine that cannot grade should say so first.
    sandbox = (
        load_sandbox(settings.sandbox, timeout=settings.timeout, memory_mib=settings.memory_mib)
        if ungraded
        else None
    )
    for role in roles:
        if not all(run.generations(role, benchmark).done for benchmark in settings.benchmarks):
            command = [sys.executable, "-m", "ssd.evaluate.generate", str(run.folder), role]
            run_child(command, f"generating answers of the {role} model")
    for role, benchmark in ungraded:
        assert sandbox is not None
        grade_answers(run, role, benchmark, sandbox)
    scores = build_scores(run, roles)
    write_json(run.folder / SCORES, scores)
    track(run, scores)
    print(f"\n{score_table(scores)}\n", flush=True)


def grade_answers(run: Run, role: str, benchmark: str, sandbox: Sandbox) -> None:
    """Write the verdicts on one model's answers to one benchmark."""
    settings = run.config.eval
    verdicts = run.verdicts(role, benchmark)
    with verdicts.writing() as folder:
        if verdicts.done:
            return
        started = time.time()
        rows = grade(
            load_benchmark(benchmark, settings.limit),
            read_samples(run.generations(role, benchmark).folder / SHARDS),
            sandbox,
            workers=settings.workers or len(os.sched_getaffinity(0)),
            label=f"grading {benchmark} {role}",
        )
        write_verdicts(folder / VERDICTS, rows)
        statuses = Counter(row.status for row in rows)
        counts = {
            "num_problems": len({row.problem_id for row in rows}),
            "num_samples": len(rows),
            "num_passed": sum(row.passed for row in rows),
            "statuses": dict(statuses.most_common()),
        }
        verdicts.finish(started=started, counts=counts, sandbox=sandbox.name)


def build_scores(run: Run, roles: tuple[str, ...]) -> dict[str, Any]:
    """The contents of scores.json, from finished verdicts."""
    settings = run.config.eval
    backends: set[str] = set()
    benchmarks: dict[str, Any] = {}
    for benchmark in settings.benchmarks:
        verdicts = {role: run.verdicts(role, benchmark) for role in roles}
        backends |= {one.manifest()["sandbox"] for one in verdicts.values()}
        scores = benchmark_scores(
            {role: read_verdicts(one.folder / VERDICTS) for role, one in verdicts.items()},
            settings.k,
            num_resamples=settings.bootstrap,
            rng=np.random.default_rng(run.config.seed),
        )
        for role, model in scores["models"].items():
            truncation = settings.truncation if role == "tuned" else settings.base_truncation
            model |= {
                "temp": settings.temp if role == "tuned" else settings.base_temp,
                "top_k": truncation.top_k,
                "top_p": truncation.top_p,
                "generations": run.generations(role, benchmark).fingerprint,
                "verdicts": verdicts[role].fingerprint,
            }
        benchmarks[benchmark] = {"split": SPLIT, **scores}
    return {
        "version": VERSION,
        "inputs": run.score_inputs(),
        "sandbox": ", ".join(sorted(backends)),
        "benchmarks": benchmarks,
    }


def flat_metrics(scores: dict[str, Any]) -> dict[str, float]:
    """Metric names and values, such as `eval/humaneval/tuned/pass@1` and
    `eval/humaneval/difference/pass@1/low`."""
    metrics: dict[str, float] = {}
    for benchmark, one in scores["benchmarks"].items():
        parts = {
            **one["models"],
            **({"difference": one["difference"]} if "difference" in one else {}),
        }
        for part, values in parts.items():
            for name in pass_names(values):
                for field, value in values[name].items():
                    suffix = "" if field == "value" else f"/{field}"
                    metrics[f"eval/{benchmark}/{part}/{name}{suffix}"] = value
            for name in ("mean_tokens", "fence_share", "cut_share"):
                if name in values:
                    metrics[f"eval/{benchmark}/{part}/{name}"] = values[name]
    return metrics


def track(run: Run, scores: dict[str, Any]) -> None:
    """Log the scores to the run folder's metrics file and to W&B,
    with a table of graded answers."""
    metrics = flat_metrics(scores)
    with Tracker(run, "evaluate", fingerprint(scores), run.folder) as tracker:
        tracker.log(metrics)
        tracker.summary(metrics)
        columns = (
            "benchmark",
            "model",
            "problem",
            "sample",
            "status",
            "detail",
            "tokens",
            "answer",
        )
        tracker.table("answers", columns, answer_rows(run, scores))


def answer_rows(run: Run, scores: dict[str, Any]) -> list[tuple[Any, ...]]:
    """The first answers of every model and benchmark with their verdicts,
    `logger.num_sample_rows` in all."""
    parts = [
        (benchmark, role)
        for benchmark, one in scores["benchmarks"].items()
        for role in one["models"]
    ]
    rows: list[tuple[Any, ...]] = []
    for benchmark, role in parts:
        verdicts = read_verdicts(run.verdicts(role, benchmark).folder / VERDICTS)
        samples = read_samples(run.generations(role, benchmark).folder / SHARDS)
        texts = {(sample.prompt_id, sample.sample_index): sample.text for sample in samples}
        for one in verdicts[: -(-run.config.logger.num_sample_rows // len(parts))]:
            text = texts[one.problem_id, one.sample_index]
            answer = (
                one.problem_id,
                one.sample_index,
                one.status,
                one.detail,
                one.num_tokens,
                text,
            )
            rows.append((benchmark, role, *answer))
    return rows[: run.config.logger.num_sample_rows]
