"""Real run folders: composed from conf/, saved by the project's writers, in the stages' schemas."""

import dataclasses
import json
import time
from pathlib import Path
from typing import Any

from runs import compose_config

from ssd.arms import INTERVALS
from ssd.artifacts.files import write_json
from ssd.errors import SSDError
from ssd.models import Weights
from ssd.run import Run, evidence, lineage, protocol, save_run

WEIGHTS = Weights(
    path="nowhere", identity="random-v1", tokenizer="bytes-v1", source="a random two-layer model"
)


def make_run(tmp_path: Path, name: str = "first", *overrides: str, finished: bool = True) -> Run:
    """A saved run under tmp_path/outputs/main, its corpus and checkpoint finished where asked."""
    config = compose_config("model=tiny", f"output_dir={tmp_path}/outputs", *overrides)
    config.run_name = name
    folder = tmp_path / "outputs" / "main" / name.replace("/", "_")
    run = Run(folder=folder, config=config, weights=WEIGHTS)
    save_run(run, ["python", "train.py", "model=tiny", "data.name=two words"])
    if finished:
        finish_corpus(run)
        finish_checkpoint(run)
    return run


def finish_corpus(run: Run, **more: Any) -> None:
    """A corpus of 61 samples, three of 64 dropped; `more` counts are what choosing it left."""
    counts = {
        "num_prompts": 64,
        "num_drawn": 64,
        "dropped": {"empty": 0, "stub": 3},
        "num_samples": 61,
        "num_tokens": 9000,
        "mean_tokens": 147.5,
        "finish_reasons": {"stop": 40, "length": 21},
        "skipped_long_prompts": 0,
        "duplicates": 0,
        "fence_share": 0.7,
        **more,
    }
    lineage.corpus(run).folder.mkdir(parents=True, exist_ok=True)
    lineage.corpus(run).finish(
        started=time.time() - 75, counts=counts, tokens_per_second=1234.5, engine_start_seconds=74.0
    )


def write_metrics(run: Run, num_steps: int) -> None:
    """Metrics of training so far; the loss falls from 0.9 by 0.01 a step."""
    lineage.checkpoint(run).folder.mkdir(parents=True, exist_ok=True)
    lines = [
        {
            "step": step,
            "train/loss": 0.9 - 0.01 * (step - 1),
            "train/lr": 1e-6 * step,
            "train/grad_norm": 1.2,
            "train/tokens_per_second": 210.0,
            "train/num_loss_tokens": 1180,
            "time": 1.0 * step,
        }
        for step in range(1, num_steps + 1)
    ]
    text = "".join(json.dumps(line) + "\n" for line in lines)
    (lineage.checkpoint(run).folder / "metrics.jsonl").write_text(text, encoding="utf-8")


def finish_checkpoint(run: Run) -> None:
    """A checkpoint after 16 steps."""
    write_metrics(run, num_steps=16)
    counts = {
        "num_steps": 16,
        "num_samples": 61,
        "num_parameters": 134515008,
        "num_trainable": 134515008,
        "epochs": 2.1,
        "skipped_long_samples": 0,
        "num_loss_tokens": 18000,
    }
    lineage.checkpoint(run).finish(
        started=time.time() - 8000, counts=counts, export_check={"max_logit_difference": 0.0}
    )


def write_scores(
    run: Run,
    selection: dict[str, Any] | None = None,
    sandbox: str = "namespaces",
    **benchmarks: object,
) -> None:
    """scores.json of a run, one entry per benchmark, belonging to the run's own settings."""
    try:
        inputs = evidence.score_inputs(run)
    except SSDError:  # a run whose prompts are gone
        inputs = {"verdicts": {}}
    stored = {
        "version": 2,
        "inputs": inputs,
        "sandbox": sandbox,
        "intervals": INTERVALS,
        "resample": "problems",
        "selection": selection,
        "benchmarks": benchmarks,
    }
    write_json(run.folder / "scores.json", stored)


def interval(value: float, low: float, high: float, **more: float) -> dict[str, float]:
    return {"value": value, "low": low, "high": high, **more}


def model_scores(
    run: Run, model: str, benchmark: str, pass_at_1: dict[str, float], **changed: Any
) -> dict[str, Any]:
    """One arm's entry in scores.json, under the run's first setting of the model."""
    how = protocol.candidates(run, model)[0]
    stored = {
        **dataclasses.asdict(how),
        "model": model,
        "pass@1": pass_at_1,
        "pass@2": interval(0.5, 0.3, 0.7),
        "mean_tokens": 120.0,
        "fence_share": 0.75,
        "cut_share": 0.125,
        "lost_to_form": {"usage block": 0.025, "unclosed fence": 0.0, "no fence": 0.0},
        "distinct_programs": 1.625,
        "curve": [pass_at_1["value"], 0.5],
        "statuses": {"failed": 30, "passed": 18},
        "generations": evidence.generations(run, model, benchmark).fingerprint,
        "verdicts": evidence.verdicts(run, model, benchmark).fingerprint,
    }
    return {**stored, **changed}


def comparison(pass_at_1: dict[str, float]) -> dict[str, Any]:
    """The tuned model minus another arm."""
    return {
        "pass@1": pass_at_1,
        "pass@2": interval(0.0, -0.1, 0.1, p_value=1.0),
        "mean_tokens": interval(-12.3, -20.0, 4.0),
    }


FACTS = {
    "release": None,
    "window": None,
    "grading": "official",
    "extraction": "last_fenced_block",
    "num_samples": 2,
    "split": "all",
    "regression": False,
}
"""What stands beside every score."""


def benchmark_scores(
    run: Run,
    difference: dict[str, float],
    benchmark: str = "humaneval",
    num_problems: int = 24,
    tuned: dict[str, Any] | None = None,
    **changed: Any,
) -> dict[str, Any]:
    """One benchmark's entry: the base passes 37.5%, the tuned model by the difference more."""
    base_share = 0.375
    moved = base_share + difference["value"]
    stored = {
        **FACTS,
        "num_total": num_problems,
        "num_problems": num_problems,
        "models": {
            "base": model_scores(run, "base", benchmark, interval(base_share, 0.1875, 0.5625)),
            "tuned": model_scores(
                run, "tuned", benchmark, interval(moved, 0.2, 0.65), **(tuned or {})
            ),
        },
        "comparisons": {"base": comparison(difference)},
    }
    return {**stored, **changed}


def base_scores(run: Run, benchmark: str = "humaneval") -> dict[str, Any]:
    """One benchmark's entry without a tuned model."""
    base = model_scores(run, "base", benchmark, interval(0.375, 0.1875, 0.5625))
    counts = {"num_problems": 24, "num_total": 24}
    return {**FACTS, **counts, "models": {"base": base}, "comparisons": {}}


def controlled_scores(
    run: Run, differences: dict[str, dict[str, float]], **changed: Any
) -> dict[str, Any]:
    """humaneval with controls: each arm passes the tuned model's 55% less its difference."""
    stored = benchmark_scores(run, BETTER, num_problems=164)
    models = {}
    for arm, difference in differences.items():
        share = 0.55 - difference["value"]
        model = "base" if arm.startswith("base") else arm
        scored = interval(share, share - 0.07, share + 0.07)
        models[arm] = {**stored["models"]["base"], "pass@1": scored, "model": model}
    models["tuned"] = {**stored["models"]["tuned"], "pass@1": interval(0.55, 0.48, 0.62)}
    comparisons = {arm: comparison(difference) for arm, difference in differences.items()}
    return {**stored, "models": models, "comparisons": comparisons, **changed}


def with_groups(stored: dict[str, Any], **sizes: int) -> dict[str, Any]:
    """A benchmark's entry with groups of these sizes, which score as the whole does."""
    for model in stored["models"].values():
        model["groups"] = {
            name: {"num_problems": size, "pass@1": model["pass@1"]} for name, size in sizes.items()
        }
    for change in stored["comparisons"].values():
        scored = {name: change[name] for name in ("pass@1", "mean_tokens")}
        change["groups"] = dict.fromkeys(sizes, scored)
    return stored


def make_selection(mode: str = "heldout") -> dict[str, Any]:
    """A choice by three problems: of two settings for the base model, three for the tuned one."""
    settings = {"top_k": 20, "top_p": 0.8, "checkpoint_step": None, "num_problems": 3}
    return {
        "mode": mode,
        "validation": "hash",
        "problems": {"humaneval": ["HumanEval/3", "HumanEval/7", "HumanEval/9"]},
        "sweeps": {
            model: [
                {
                    **settings,
                    "temp": temp,
                    "pass@1": interval(share, share - 0.2, share + 0.2),
                    "chosen": share == 0.5,
                }
                for temp, share in shares.items()
            ]
            for model, shares in (
                ("base", {0.7: 0.5, 1.0: 0.25}),
                ("tuned", {0.7: 0.25, 1.0: 0.5, 1.3: 0.375}),
            )
        },
    }


UNDECIDED = interval(0.0417, -0.0833, 0.1667, p_value=0.55)
BETTER = interval(0.0625, 0.01, 0.12, p_value=0.012)
WORSE = interval(-0.0625, -0.12, -0.01, p_value=0.0004)
ALIKE = interval(0.0, 0.0, 0.0, p_value=1.0)
