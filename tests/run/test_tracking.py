import base64
import json
import struct
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ssd.config.choices import WandbMode
from ssd.config.settings import LoggerConfig
from ssd.run import Run
from ssd.run.tracking import Tracker, has_login, read_metrics, wandb_mode

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


def logged(folder: Path) -> Iterator[Any]:
    """What an offline W&B run keeps for `wandb sync`: protocol records in LevelDB's log format,
    32 KiB blocks of fragments with a checksum, a length and a kind each."""
    from wandb.proto.wandb_internal_pb2 import Record

    (path,) = folder.glob("*.wandb")
    raw, place, whole = path.read_bytes(), 7, b""  # the file's own header
    while place + 7 <= len(raw):
        left = 32768 - place % 32768
        if left < 7:
            place += left
            continue
        _, length, kind = struct.unpack("<IHB", raw[place : place + 7])
        whole += raw[place + 7 : place + 7 + length]
        place += 7 + length
        if kind in (1, 4):  # a whole record, or the last of its fragments
            record = Record()
            record.ParseFromString(whole)
            yield record
            whole = b""


def closed(folder: Path) -> list[Any]:
    """The records of a run that has ended, whose file W&B's service closes a moment later."""
    for _ in range(100):
        records = list(logged(folder))
        if records and records[-1].HasField("exit"):
            return records
        time.sleep(0.1)
    raise AssertionError(f"{folder} was not closed within ten seconds")


def test_an_offline_run_keeps_everything_and_says_how_to_sync(
    make_run: Callable[..., Run], tmp_path: Path, capsys: pytest.CaptureFixture[str]
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
        assert (tracker.wandb.group, tracker.wandb.name, tracker.wandb.job_type) == (
            "main",
            "test",
            "sample",
        )
        assert tracker.wandb.config["sampler"]["temp"] == 1.2
    (folder,) = (run.folder / "wandb").glob("offline-run-*-sample-abc")
    (printed,) = [line for line in capsys.readouterr().out.splitlines() if "wandb sync" in line]
    assert printed.endswith(str(folder))
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
