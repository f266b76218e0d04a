import json
from collections.abc import Callable
from pathlib import Path

import pytest

from ssd.config import LoggerConfig, WandbMode
from ssd.run import Run
from ssd.tracking import Tracker, has_login, read_metrics, wandb_mode


def test_metrics_land_in_jsonl_without_wandb(make_run: Callable[..., Run], tmp_path: Path) -> None:
    with Tracker(make_run(), "train", "abc", tmp_path) as tracker:
        tracker.log({"train/loss": 1.5}, step=1)
        tracker.log({"train/loss": 1.25}, step=2)
    assert [line["train/loss"] for line in read_metrics(tmp_path)] == [1.5, 1.25]
    assert not list(tmp_path.rglob("wandb"))


def test_a_resumed_run_counts_a_repeated_step_once(tmp_path: Path) -> None:
    lines = [
        {"loss": 1, "step": 1},
        {"loss": 2, "step": 2},
        {"loss": 3, "step": 2},
        {"loss": 4, "step": 3},
    ]
    text = (
        "\n".join(map(json.dumps, lines)) + '\n{"loss": 5, "st'
    )  # the last line was cut by a kill
    (tmp_path / "metrics.jsonl").write_text(text)
    assert [(line["step"], line["loss"]) for line in read_metrics(tmp_path)] == [
        (1, 1),
        (2, 3),
        (3, 4),
    ]


def test_offline_wandb_keeps_the_run_and_says_how_to_sync(
    make_run: Callable[..., Run], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = make_run("logger.wandb=true", "logger.mode=offline")
    with Tracker(run, "sample", "abc", tmp_path) as tracker:
        tracker.log({"sample/num_tokens": 12})
        tracker.table("samples", ("prompt_id", "text"), [("p", "t")])
        tracker.summary({"final": 1})
        assert (tracker.wandb.group, tracker.wandb.name, tracker.wandb.job_type) == (
            "main",
            "test",
            "sample",
        )
        assert tracker.wandb.config["sampler"]["temp"] == 1.2
    (folder,) = (run.folder / "wandb").glob("offline-run-*-sample-abc")
    (printed,) = [line for line in capsys.readouterr().out.splitlines() if "wandb sync" in line]
    assert printed.endswith(str(folder))


def test_the_mode_follows_login_setting_and_environment(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("WANDB_MODE")
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert not has_login()
    assert wandb_mode(LoggerConfig()) == "offline"
    (tmp_path / ".netrc").write_text("machine api.wandb.ai login user password key\n")
    (tmp_path / ".netrc").chmod(0o600)
    assert has_login()
    assert wandb_mode(LoggerConfig()) == "online"
    assert wandb_mode(LoggerConfig(mode=WandbMode.offline)) == "offline"
    monkeypatch.setenv("WANDB_MODE", "disabled")
    assert wandb_mode(LoggerConfig(mode=WandbMode.online)) == "disabled"
