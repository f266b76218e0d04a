import base64
import json
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from wandb_records import closed, offline_history
from wandb_server import history, serving

from ssd.config.choices import WandbMode
from ssd.config.settings import LoggerConfig
from ssd.run import Run
from ssd.run.loggers import where_logged
from ssd.run.tracking import Tracker, read_metrics
from ssd.run.wandb_logger import WandbLogger, has_login, wandb_mode

PIXEL = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR4nGNgAAAAAgABSK+kcQAAAABJRU5ErkJggg=="
)
"""A PNG of one pixel."""


def test_metrics_land_in_jsonl_without_wandb(make_run: Callable[..., Run], tmp_path: Path) -> None:
    with Tracker(make_run(), "train", "abc", tmp_path) as tracker:
        tracker.log({"train/loss": 1.5}, step=1)
        tracker.log({"train/loss": 1.25}, step=2)
    assert [line["train/loss"] for line in read_metrics(tmp_path)] == [1.5, 1.25]
    assert not list(tmp_path.rglob("wandb"))


@pytest.mark.parametrize(("step", "kept"), [(2, [1, 2]), (0, [])])
def test_a_resumed_run_drops_the_steps_that_it_takes_again(
    make_run: Callable[..., Run], tmp_path: Path, step: int, kept: list[int]
) -> None:
    lines = [{"loss": number, "time": 1.5, "step": number} for number in (1, 2, 3)]
    text = "\n".join(map(json.dumps, lines)) + '\n{"loss": 4, "st'  # cut by a kill
    (tmp_path / "metrics.jsonl").write_text(text)
    with Tracker(make_run(), "train", "abc", tmp_path) as tracker:
        tracker.resume(step)
        tracker.log({"loss": 30}, step=step + 1)
    written = list(map(json.loads, (tmp_path / "metrics.jsonl").read_text().splitlines()))
    assert [line["step"] for line in written] == [*kept, step + 1]
    assert written[-1]["loss"] == 30


def test_a_line_that_a_kill_cut_short_spoils_no_later_one(
    make_run: Callable[..., Run], tmp_path: Path
) -> None:
    (tmp_path / "metrics.jsonl").write_text('{"score": 1, "time": 1}\n{"sco')
    with Tracker(make_run(), "evaluate", "abc", tmp_path) as tracker:
        tracker.log({"score": 2})
    written = map(json.loads, (tmp_path / "metrics.jsonl").read_text().splitlines())
    assert [line["score"] for line in written] == [1, 2]


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


def test_an_offline_run_keeps_everything_and_says_how_to_sync(
    make_run: Callable[..., Run], tmp_path: Path
) -> None:
    run = make_run("logger.wandb=true", "logger.mode=offline")
    picture, model = tmp_path / "scores.png", tmp_path / "model"
    picture.write_bytes(PIXEL)
    model.mkdir()
    (model / "model.safetensors").write_bytes(b"weights")
    with Tracker(run, "sample", "abc", tmp_path) as tracker:
        tracker.log({"sample/num_tokens": 12})
        tracker.table("samples", ("prompt_id", "text"), [("p", "t")])
        tracker.summary({"t_train": 1.2})
        tracker.images({"figures/scores": picture})
        tracker.reference(model, "model-abc")
        (logger,) = tracker.loggers
        assert isinstance(logger, WandbLogger)
        started = logger.run
        assert (started.group, started.name, started.job_type) == ("main", "test", "sample")
        assert started.config["sampler"]["temp"] == 1.2
    (folder,) = (run.folder / "wandb").glob("offline-run-*-sample-abc")
    (said,) = where_logged(run)
    assert said.endswith(f"wandb sync {folder.parent}")
    assert list((folder / "files/media/table").glob("samples*.table.json"))
    (copied,) = (folder / "files/media/images/figures").glob("scores*.png")
    assert copied.read_bytes() == PIXEL
    records = closed(folder)
    summary = {item.key: item.value_json for one in records for item in one.summary.update}
    assert summary["t_train"] == "1.2"
    (reference,) = [one.artifact for one in records if one.artifact.type == "model"]
    assert reference.name == "model-abc"
    (entry,) = reference.manifest.contents
    assert entry.ref == (model / "model.safetensors").as_uri()
    assert not list(folder.rglob("model.safetensors"))


TRAINING = """
import os, signal
from pathlib import Path
from ssd.run import load_run
from ssd.run.tracking import Tracker
with Tracker(load_run(Path({run!r})), "train", "abc", Path({folder!r})) as tracker:
    tracker.resume({resumed})
    for step in range({resumed} + 1, {last} + 1):
        tracker.log({{"loss": {factor} * step}}, step=step)
    if {killed}:
        os.kill(os.getpid(), signal.SIGKILL)
"""
"""A training that goes on from a step, and ends or is killed after its last one."""


@pytest.mark.parametrize("online", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_wandb_has_every_step_of_a_killed_run_once_and_none_that_was_rolled_back(
    make_run: Callable[..., Run], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, online: bool
) -> None:
    with serving() as (address, runs):
        monkeypatch.setenv("WANDB_BASE_URL", address)
        monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
        monkeypatch.setenv("WANDB_MODE", "online" if online else "offline")
        monkeypatch.delenv("WANDB_SERVICE", raising=False)  # that of this process's other runs
        run = make_run("logger.wandb=true")
        places = {"run": str(run.folder), "folder": str(tmp_path)}
        for resumed, last, factor in ((0, 7, 1), (5, 8, 10), (7, 9, 100)):
            killed = last < 9 and not online  # online it would not have sent anything yet
            program = TRAINING.format(
                **places, resumed=resumed, last=last, factor=factor, killed=killed
            )
            done = subprocess.run([sys.executable, "-c", program], check=False, timeout=120)
            assert done.returncode == (-signal.SIGKILL if killed else 0)
            assert not online or len(history(runs, "train-abc")) == last
        expected = [(step, step) for step in range(1, 6)] + [(6, 60), (7, 70), (8, 800), (9, 900)]
        if not online:
            (folder,) = (run.folder / "wandb").glob("offline-run-*")
            assert offline_history(closed(folder), "loss") == expected
            sync = [sys.executable, "-m", "wandb", "sync", str(run.folder / "wandb")]
            monkeypatch.setenv("WANDB_MODE", "online")
            # The client writes logs to the working folder.
            subprocess.run(sync, check=True, capture_output=True, timeout=120, cwd=tmp_path)
        assert [(line["_step"], line["loss"]) for line in history(runs, "train-abc")] == expected


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
