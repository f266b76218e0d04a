"""A search: what a trial runs, what it goes by, and how it goes on."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from runs import ROOT, compose_config

from ssd.errors import ConfigError
from ssd.search import (
    Space,
    compose_run,
    make_space,
    num_finished,
    open_search,
    require_held_out,
    trial_overrides,
)

optuna = pytest.importorskip("optuna", reason="the extra search is not installed")

CHOOSES = "eval.temps=[0.5,0.9]"


def test_a_trials_settings_are_overrides_that_compose(tmp_path: Path) -> None:
    space = make_space(compose_config("model=tiny"), [])
    study = open_search(tmp_path / "search.log", "s", [], seed=0)
    for _ in range(3):
        trial = study.ask()
        overrides = trial_overrides(trial, space)
        config = compose_config("model=tiny", *overrides)
        assert 0.5 <= config.sampler.temp <= 2
        assert 0.25e-3 <= config.optimizer.lr <= 4e-3
        assert trial_overrides(study.trials[trial.number], space) == overrides


def test_what_the_command_line_fixes_is_not_searched() -> None:
    fixed = ["sampler.temp=1.2", "truncation=none", "optimizer.lr=1e-3"]
    config = compose_config("model=tiny", *fixed)
    assert make_space(config, fixed) == Space(temp=None, truncations=None, lr=None)
    assert make_space(config, ["truncation.top_k=5"]).truncations is None
    assert make_space(config, []).lr == (2.5e-4, 4e-3)
    by_power = make_space(compose_config("model=tiny", "experiment=power"), [])
    assert (by_power.temp, by_power.truncations) == (None, None)
    assert by_power.lr is not None


def test_a_search_never_goes_by_the_reported_problems() -> None:
    require_held_out(compose_config("model=tiny", CHOOSES))
    with pytest.raises(ConfigError, match=r"add temperatures, such as eval\.temps="):
        require_held_out(compose_config("model=tiny"))
    with pytest.raises(ConfigError, match=r"use eval\.selection=heldout"):
        require_held_out(compose_config("model=tiny", CHOOSES, "eval.selection=test"))
    with pytest.raises(ConfigError, match=r"eval\.arms=\[base\] leaves out the tuned model"):
        require_held_out(compose_config("model=tiny", CHOOSES, "eval.arms=[base]"))
    with pytest.raises(ConfigError, match="stages leaves out train"):
        require_held_out(compose_config("model=tiny", CHOOSES, "stages=[evaluate]"))


def test_an_interrupted_trial_is_drawn_again_and_counts_for_nothing(tmp_path: Path) -> None:
    space = make_space(compose_config("model=tiny"), [])
    before = open_search(tmp_path / "search.log", "s", ["a=1"], seed=0)
    overrides = trial_overrides(before.ask(), space)
    after = open_search(tmp_path / "search.log", "s", ["a=1"], seed=0)
    assert num_finished(after) == 0
    assert trial_overrides(after.ask(), space) == overrides
    with pytest.raises(ConfigError, match=r"searched with other settings \(a=1\)"):
        open_search(tmp_path / "search.log", "s", ["a=2"], seed=0)


@pytest.mark.parametrize("override", ["run_name=x", "-m", "sweep=t_train"])
def test_what_is_no_setting_of_a_trial_is_refused(
    override: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    with pytest.raises(ConfigError, match="is no setting for a search"):
        compose_run("s", [override])


@pytest.mark.slow
def test_a_search_runs_trials_goes_on_and_survives_a_failing_one(tmp_path: Path) -> None:
    settings = (
        "model=tiny", f"output_dir={tmp_path}/out", CHOOSES, "eval.benchmarks=[mbpp]",
        "eval.limit=12", "eval.num_samples=1", "eval.k=[1]", "sampler=transformers",
        "logger=none", "train.max_steps=2", "optimizer.lr=1e-3", "truncation=none",
        "stages=[sample,train,evaluate]",
    )  # fmt: skip

    def search(num_trials: int, study: str = "s", *more: str) -> str:
        command = [sys.executable, "-m", "ssd.search", "--trials", str(num_trials), study]
        done = subprocess.run(
            [*command, *settings, *more], capture_output=True, text=True, cwd=ROOT, check=True,
            env={**os.environ, "WANDB_MODE": "offline"},
        )  # fmt: skip
        return done.stdout

    first = search(1)
    assert "search: trial 0: " in first and "best of 1" in first
    again = search(2)
    assert "search: trial 1: " in again and "trial 0" not in again
    assert "trial(s) to go" not in search(2)
    assert (tmp_path / "out" / "s" / "study.html").is_file()

    none_left = ("sampler.max_new_tokens=1", "sampler.filters=[empty,stub]")
    failing = search(2, "failing", *none_left)
    assert failing.count(": failed") >= 2
    assert "best of" not in failing
    assert "no sample is left after sampler.filters" in failing
