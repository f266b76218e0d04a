"""What W&B gets of an evaluation: one flat row for a sweep's parallel coordinates."""

import time
from collections.abc import Callable
from typing import Any

import pytest

from ssd.evaluate.metrics import headline
from ssd.run import Run, evidence, lineage


def scores_of(
    run: Run, selection: dict[str, Any] | None = None, tuned: bool = True
) -> dict[str, Any]:
    """The part of scores.json that a row is made of."""
    arms = ("base", "tuned") if tuned else ("base",)
    models = {
        arm: {
            "temp": 0.5, "mean_tokens": 80.0, "pass@2": {"value": 0.6}, "pass@1": {"value": 0.4},
            "generations": evidence.generations(run, arm, "humaneval").fingerprint,
            "verdicts": evidence.verdicts(run, arm, "humaneval").fingerprint,
        }
        for arm in arms
    }  # fmt: skip
    gain = {"pass@1": {"value": 0.1, "low": -0.05, "high": 0.25, "p_value": 0.2}}
    comparisons = {"base": gain} if tuned else {}
    one = {"models": models, "comparisons": comparisons}
    return {"selection": selection, "benchmarks": {"humaneval": one}}


def finish(artifact: Any, seconds: float, **counts: int) -> None:
    artifact.folder.mkdir(parents=True)
    artifact.finish(started=time.time() - seconds, counts=counts)


def test_a_row_has_settings_score_gain_and_cost(make_run: Callable[..., Run]) -> None:
    run = make_run(
        "sampler.temp=1.6", "eval.benchmarks=[humaneval]", "eval.num_samples=2", "eval.k=[2,1]"
    )
    finish(lineage.corpus(run), 1800, num_tokens=5000)
    finish(lineage.checkpoint(run), 3600)
    finish(evidence.generations(run, "base", "humaneval"), 1800)
    row = headline(run, scores_of(run))
    cut, lr = run.config.truncation, run.config.optimizer.lr
    assert row == {
        "t_train": 1.6, "top_k": cut.top_k, "top_p": cut.top_p, "lr": lr, "tokens": 5000,
        "hours": pytest.approx(2, abs=0.01), "t_eval": 0.5, "t_eff": 0.8, "pass@1": 0.4,
        "answer_tokens": 80.0, "gain": 0.1, "gain_low": -0.05, "gain_high": 0.25,
    }  # fmt: skip


def test_a_row_has_the_held_out_score_of_what_was_chosen_on_held_out_problems(
    make_run: Callable[..., Run],
) -> None:
    run = make_run("truncation=none", "eval.benchmarks=[humaneval]")
    cells = [
        {"chosen": chosen, "pass@1": {"value": value}}
        for chosen, value in ((False, 0.2), (True, 0.7))
    ]
    chosen = {"mode": "heldout", "sweeps": {"tuned": cells}}
    row = headline(run, scores_of(run, chosen))
    assert (row["held_out"], row["top_k"]) == (0.7, 0)
    assert "tokens" not in row
    assert "held_out" not in headline(run, scores_of(run, chosen | {"mode": "test"}))


def test_a_row_of_the_base_model_alone_has_no_score(make_run: Callable[..., Run]) -> None:
    run = make_run("eval.benchmarks=[humaneval]")
    row = headline(run, scores_of(run, tuned=False))
    assert {"t_train", "lr", "hours"} <= set(row)
    assert not {"t_eval", "pass@1", "gain"} & set(row)
