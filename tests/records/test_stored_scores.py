"""scores.json: what is written is what is read, in the layout that older versions wrote too."""

import dataclasses
import json
from pathlib import Path

import pytest
from runs import ROOT
from score_records import benchmark, change, difference, model, scores, selection

from ssd.artifacts.files import read_json
from ssd.artifacts.names import SCORES
from ssd.errors import ArtifactError
from ssd.method.decoding import Setting
from ssd.method.intervals import Interval
from ssd.records.scores import (
    VERSION,
    Scores,
    read_scores,
    scores_json,
    stored_version,
    write_scores,
)

LOST = {"usage block": 0.02, "no fence": 0.01}


def everything() -> Scores:
    """Scores in which every field is set."""
    one = model(0.4, lost_to_form=LOST, setting=Setting(0.9, None, 0.95, 20))
    models = {
        arm: dataclasses.replace(one, model=arm, groups={"hard": one.pass_at})
        for arm in ("base", "tuned")
    }
    changes = {"base": change(0.1, groups={"hard": difference(0.2)})}
    scored = benchmark(models, changes, group_sizes={"hard": 9}, release="v6", window="2025")
    return scores(scored, dataclasses.replace(scored, name="mbpp"), selection=selection())


def test_what_is_written_is_read(tmp_path: Path) -> None:
    assert read_scores(tmp_path) is None and stored_version(tmp_path) is None
    for written in (everything(), scores(benchmark({"base": model(0.4)}, {}))):
        write_scores(tmp_path, written)
        assert read_scores(tmp_path) == written
        assert stored_version(tmp_path) == VERSION


def test_the_layout_is_that_of_every_version_so_far() -> None:
    stored = json.loads(json.dumps(scores_json(everything())))
    assert list(stored) == [
        "version", "inputs", "sandbox", "resample", "intervals", "selection", "benchmarks",
    ]  # fmt: skip
    scored = stored["benchmarks"]["humaneval"]
    assert list(scored) == [
        "benchmark", "release", "window", "grading", "extraction", "num_total", "split",
        "regression", "num_problems", "num_samples", "models", "comparisons",
    ]  # fmt: skip
    assert list(scored["models"]["tuned"]) == [
        "pass@1", "mean_tokens", "fence_share", "cut_share", "distinct_programs", "lost_to_form",
        "statuses", "curve", "groups", "model", "temp", "top_k", "top_p", "checkpoint_step",
        "generations", "verdicts",
    ]  # fmt: skip
    assert scored["models"]["tuned"]["groups"]["hard"]["num_problems"] == 9
    assert set(scored["models"]["tuned"]["pass@1"]) == {"value", "low", "high"}
    assert list(scored["comparisons"]["base"]) == ["pass@1", "mean_tokens", "groups"]
    assert set(scored["comparisons"]["base"]["pass@1"]) == {"value", "low", "high", "p_value"}
    assert list(stored["selection"]) == ["mode", "validation", "problems", "sweeps"]


def test_scores_of_earlier_versions_are_read(tmp_path: Path) -> None:
    stored = scores_json(scores(benchmark({"base": model(0.4)}, {})))
    del stored["intervals"]
    for name in ("lost_to_form", "curve"):
        del stored["benchmarks"]["humaneval"]["models"]["base"][name]
    (tmp_path / SCORES).write_text(json.dumps(stored))
    read = read_scores(tmp_path)
    assert read is not None and read.intervals is None
    old = read.benchmarks[0].models["base"]
    assert (old.lost_to_form, old.lost_share, old.curve) == (None, None, ())


def test_scores_are_read_by_ascending_k(tmp_path: Path) -> None:
    base = model(0.4)
    several = dataclasses.replace(
        base, pass_at={10: Interval(value=0.8, low=0.7, high=0.9), **base.pass_at}
    )
    write_scores(tmp_path, scores(benchmark({"base": several}, {})))
    read = read_scores(tmp_path)
    assert read is not None
    assert list(read.benchmarks[0].models["base"].pass_at) == [1, 10]
    assert read.benchmarks[0].k == 1


@pytest.mark.parametrize("results", sorted((ROOT / "results").rglob(SCORES)), ids=str)
def test_published_scores_are_read_without_loss(results: Path, tmp_path: Path) -> None:
    read = read_scores(results.parent)
    assert read is not None
    write_scores(tmp_path, read)
    assert read_scores(tmp_path) == read
    stored = read_json(results)
    assert len(read.benchmarks) == len(stored["benchmarks"])


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"version": 1}, "version 1, not 2"),
        ({"benchmarks": {"humaneval": {}}}, "damaged"),
        ({"selection": {"mode": "heldout"}}, "damaged"),
    ],
)
def test_damaged_scores_are_refused(
    changed: dict[str, object], message: str, tmp_path: Path
) -> None:
    stored = scores_json(everything()) | changed
    (tmp_path / SCORES).write_text(json.dumps(stored))
    with pytest.raises(ArtifactError, match=message):
        read_scores(tmp_path)


def test_only_a_choice_on_held_out_problems_is_held_out() -> None:
    chosen = scores(selection=selection()).held_out
    assert chosen is not None and chosen.setting.temp == 0.9
    assert scores(selection=selection("test")).held_out is None
    assert scores().held_out is None


@pytest.mark.parametrize(
    ("value", "p_value", "half", "gain"),
    [
        (0.1, 0.01, 0.05, True),
        (0.1, 0.2, 0.05, False),
        (0.1, 0.01, 0.2, False),
        (-0.1, 0.01, 0.05, False),
    ],
)
def test_a_gain_takes_interval_and_test(
    value: float, p_value: float, half: float, gain: bool
) -> None:
    assert difference(value, p_value, half).pass_at[1].is_gain is gain


def test_a_verdict_weighs_the_best_arm_that_is_not_beaten() -> None:
    models = {arm: model(share) for arm, share in (("base", 0.4), ("t1", 0.45), ("tuned", 0.5))}
    beaten, unbeaten = change(0.05, 0.01), change(0.1, 0.3)
    assert benchmark(models, {"base": beaten, "t1": beaten}).rival == "t1"
    assert benchmark(models, {"base": unbeaten, "t1": beaten}).rival == "base"
