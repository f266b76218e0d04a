"""Real run folders: composed from conf/, saved by the project's writers, in the stages' schemas."""

import json
import time
from pathlib import Path
from typing import Any

from runs import compose_config

from ssd.artifacts import write_json
from ssd.models import Weights
from ssd.run import Run, save_run

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


def finish_corpus(run: Run) -> None:
    """A corpus of 61 samples, three of 64 dropped."""
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
    }
    run.corpus.folder.mkdir(parents=True, exist_ok=True)
    run.corpus.finish(started=time.time() - 75, counts=counts, tokens_per_second=1234.5)


def write_metrics(run: Run, num_steps: int) -> None:
    """Metrics of training so far; the loss falls from 0.9 by 0.01 a step."""
    run.checkpoint.folder.mkdir(parents=True, exist_ok=True)
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
    (run.checkpoint.folder / "metrics.jsonl").write_text(text, encoding="utf-8")


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
    run.checkpoint.finish(
        started=time.time() - 8000, counts=counts, export_check={"max_logit_difference": 0.0}
    )


def write_scores(run: Run, **benchmarks: object) -> None:
    """scores.json of a run, one entry per benchmark."""
    write_json(
        run.folder / "scores.json",
        {"version": 1, "sandbox": "namespaces", "benchmarks": benchmarks},
    )


def interval(value: float, low: float, high: float, **more: float) -> dict[str, float]:
    return {"value": value, "low": low, "high": high, **more}


def model_scores(
    run: Run, role: str, benchmark: str, pass_at_1: dict[str, float], **changed: Any
) -> dict[str, Any]:
    """One model's entry in scores.json, belonging to the run's own settings."""
    stored = {
        "pass@1": pass_at_1,
        "pass@2": interval(0.5, 0.3, 0.7),
        "mean_tokens": 120.0,
        "fence_share": 0.75,
        "cut_share": 0.125,
        "statuses": {"failed": 30, "passed": 18},
        "temp": 0.7,
        "top_k": 20,
        "top_p": 0.8,
        "generations": run.generations(role, benchmark).fingerprint,
        "verdicts": run.verdicts(role, benchmark).fingerprint,
    }
    return {**stored, **changed}


def benchmark_scores(
    run: Run,
    difference: dict[str, float],
    benchmark: str = "humaneval",
    num_problems: int = 24,
    tuned: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """One benchmark's entry: the base passes 37.5%, the tuned model by the difference more."""
    base_share = 0.375
    moved = base_share + difference["value"]
    return {
        "num_problems": num_problems,
        "num_samples": 2,
        "split": "test",
        "models": {
            "base": model_scores(run, "base", benchmark, interval(base_share, 0.1875, 0.5625)),
            "tuned": model_scores(
                run, "tuned", benchmark, interval(moved, 0.2, 0.65), **(tuned or {})
            ),
        },
        "difference": {"pass@1": difference, "pass@2": interval(0.0, -0.1, 0.1)},
    }


UNDECIDED = interval(0.0417, -0.0833, 0.1667, p_value=0.55)
BETTER = interval(0.0625, 0.01, 0.12, p_value=0.012)
WORSE = interval(-0.0625, -0.12, -0.01, p_value=0.0004)
ALIKE = interval(0.0, 0.0, 0.0, p_value=1.0)
