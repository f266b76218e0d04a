"""What W&B gets of an evaluation: one flat row for a sweep's parallel coordinates."""

import time
from collections.abc import Callable
from typing import Any

import pytest
from score_records import benchmark, change, model, scores, selection

from ssd.evaluate.metrics import flat_metrics, headline
from ssd.method.decoding import Setting
from ssd.method.intervals import Interval
from ssd.records.scores import Scores, write_scores
from ssd.records.selection import Selection
from ssd.report.run.facts import Facts, collect, run_costs
from ssd.run import Run, evidence, lineage, protocol


def scores_of(run: Run, selected: Selection | None = None, tuned: bool = True) -> Scores:
    """Scores of humaneval, in the artifacts of a run's own settings."""
    models = {
        arm: model(
            0.4,
            pass_at={
                2: Interval(value=0.6, low=0.5, high=0.7),
                1: Interval(value=0.4, low=0.3, high=0.5),
            },
            setting=Setting(0.5),
            mean_tokens=80.0,
            generations=evidence.generations(run, arm, "humaneval").fingerprint,
            verdicts=evidence.verdicts(run, arm, "humaneval").fingerprint,
        )
        for arm in (("base", "tuned") if tuned else ("base",))
    }
    gain = {"base": change(0.1, 0.2, half=0.15)} if tuned else {}
    return scores(benchmark(models, gain), selection=selected)


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
        "answer_tokens": 80.0, "gain": 0.1, "gain_low": pytest.approx(-0.05), "gain_high": 0.25,
    }  # fmt: skip


def test_a_power_of_whole_answers_has_no_temperature_for_another_to_multiply(
    make_run: Callable[..., Run],
) -> None:
    run = make_run("experiment=power", "eval.benchmarks=[humaneval]", "eval.num_samples=2",
                   "eval.k=[2,1]")  # fmt: skip
    row = headline(run, scores_of(run))
    assert row["t_eval"] == 0.5
    assert not {"t_train", "t_eff"} & {*row}


def test_a_row_has_the_held_out_score_of_what_was_chosen_on_held_out_problems(
    make_run: Callable[..., Run],
) -> None:
    run = make_run("truncation=none", "eval.benchmarks=[humaneval]")
    row = headline(run, scores_of(run, selection(tuned={0.7: 0.2, 0.9: 0.7})))
    assert (row["held_out"], row["top_k"]) == (0.7, 0)
    assert "tokens" not in row
    assert "held_out" not in headline(run, scores_of(run, selection("test")))


def test_hours_count_the_answers_that_chose_once_as_the_report_does(
    make_run: Callable[..., Run],
) -> None:
    run = make_run(
        "eval.benchmarks=[mbpp]", "eval.validation=mbpp_validation", "eval.temps=[0.5,0.7]"
    )
    for how in protocol.candidates(run, "tuned"):
        finish(evidence.generations(run, "tuned", "mbpp_validation", how), 1800)
    scored = scores(benchmark({"base": model(0.5)}, {}, name="mbpp"))
    assert headline(run, scored)["hours"] == pytest.approx(1, abs=0.01)
    assert sum(cost.seconds for cost in run_costs(collect_run(run, scored))) == pytest.approx(
        3600, abs=60
    )


def collect_run(run: Run, scored: Scores) -> Facts:
    """What a report reads of a run with these scores."""
    write_scores(run.folder, scored)
    return collect(run.folder)


def test_every_score_has_a_flat_name(make_run: Callable[..., Run]) -> None:
    lost = {"usage block": 0.02, "no fence": 0.01}
    models = {"base": model(0.4), "tuned": model(0.5, lost_to_form=lost)}
    metrics = flat_metrics(scores(benchmark(models, {"base": change(0.1, 0.2)})))
    assert metrics["eval/humaneval/base/pass@1"] == 0.4
    assert metrics["eval/humaneval/tuned/pass@1/high"] == 0.6
    assert metrics["eval/humaneval/tuned_minus_base/pass@1/p_value"] == 0.2
    assert metrics["eval/humaneval/tuned/lost_share"] == pytest.approx(0.03)
    assert "eval/humaneval/base/lost_share" not in metrics
    assert "eval/humaneval/base/pass@1/p_value" not in metrics


def test_a_row_of_the_base_model_alone_has_no_score(make_run: Callable[..., Run]) -> None:
    run = make_run("eval.benchmarks=[humaneval]")
    row = headline(run, scores_of(run, tuned=False))
    assert {"t_train", "lr", "hours"} <= set(row)
    assert not {"t_eval", "pass@1", "gain"} & set(row)
