"""What TensorBoard's event files and MLflow's store hold, read back by their own readers."""

import importlib.util
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from runs import compose_config
from test_tracking import PIXEL

from ssd.artifacts.files import write_text
from ssd.errors import ArtifactError, HardwareError
from ssd.run import Run
from ssd.run.loggers import (
    check_loggers,
    experiment,
    mlflow_uri,
    start_loggers,
    where_logged,
)
from ssd.run.tracking import Tracker
from ssd.runtime.installation import require_loggers

HISTORY = [{"loss": float(step), "time": 100.0 + step, "step": step} for step in (1, 2, 3)]


def needs(name: str) -> pytest.MarkDecorator:
    missing = importlib.util.find_spec(name) is None
    return pytest.mark.skipif(missing, reason=f"the extra {name} is not installed")


def resumed_training(run: Run, folder: Path) -> None:
    """A process that took three steps and failed; one that goes on after the second."""
    write_text(folder / "metrics.jsonl", "".join(json.dumps(line) + "\n" for line in HISTORY))
    for logger in start_loggers(run, "train", "abc"):
        for line in HISTORY:
            logger.log(line)
        logger.finish(failed=True)
    with Tracker(run, "train", "abc", folder) as tracker:
        tracker.resume(2)
        tracker.log({"loss": 30.0, "eval/humaneval/tuned/pass@1": 0.5}, step=3)
        tracker.table("samples", ("id", "text"), [("p|1", "a\nb")])
        tracker.summary({"t_eval": 0.7})
        (folder / "scores.png").write_bytes(PIXEL)
        tracker.images({"figures/scores": folder / "scores.png"})
        tracker.reference(folder / "model", "model-abc")


@needs("tensorboard")
def test_tensorboard_has_every_step_once_and_none_that_was_taken_back(
    make_run: Callable[..., Run], tmp_path: Path
) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    run = make_run("logger.tensorboard=true")
    resumed_training(run, tmp_path)
    (folder,) = (run.folder / "tensorboard").iterdir()
    assert folder.name == "train-abc"
    events: Any = EventAccumulator(str(folder))
    events.Reload()
    shown = [(event.step, event.value, event.wall_time) for event in events.Scalars("loss")]
    assert [(step, value) for step, value, _ in shown] == [(1, 1.0), (2, 2.0), (3, 30.0)]
    assert shown[0][2] == 101.0  # when it happened, not when it was told again
    assert [event.value for event in events.Scalars("eval/humaneval/tuned/pass@1")] == [0.5]
    assert [event.value for event in events.Scalars("t_eval")] == pytest.approx([0.7])
    assert events.Images("figures/scores")[0].width == 1
    (samples,) = events.Tensors("samples/text_summary")
    assert samples.tensor_proto.string_val[0].decode().endswith("| p\\|1 | a<br>b |")
    assert (
        "| sampler.temp | 1.2 |"
        in events.Tensors("settings/text_summary")[0].tensor_proto.string_val[0].decode()
    )
    assert any("tensorboard --logdir" in line for line in where_logged(run))


@pytest.mark.slow  # MLflow's database takes long to make
@needs("mlflow")
def test_mlflow_has_every_step_once_and_none_that_was_taken_back(
    make_run: Callable[..., Run], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    run = make_run("logger.mlflow=true", "logger.project=distil")
    resumed_training(run, tmp_path)
    client, place = experiment(run.config.logger, Path(run.config.output_dir))
    (found,) = client.search_runs([place])
    assert client.get_experiment(place).name == "distil"
    assert (found.info.run_name, found.info.status) == ("test train", "FINISHED")
    history = client.get_metric_history(found.info.run_id, "loss")
    assert [(each.step, each.value, each.timestamp) for each in history] == [
        (1, 1.0, 101_000),
        (2, 2.0, 102_000),
        (3, 30.0, history[2].timestamp),
    ]
    assert found.data.metrics["eval/humaneval/tuned/pass_at_1"] == 0.5
    assert found.data.metrics["t_eval"] == 0.7
    assert found.data.params["sampler.temp"] == "1.2"
    assert found.data.tags["model-abc"].endswith("/model")
    (table,) = (Path(run.config.output_dir) / "mlflow").rglob("samples.json")
    assert json.loads(table.read_text())["data"] == [["p|1", "a\nb"]]
    assert list((Path(run.config.output_dir) / "mlflow").rglob("figures/scores.png"))
    assert mlflow_uri(Path(run.config.output_dir)) in where_logged(run)[0]


@pytest.mark.slow  # the same
@needs("mlflow")
def test_a_store_that_mlflow_loses_costs_the_mirror_and_not_the_stage(
    make_run: Callable[..., Run],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    run = make_run("logger.mlflow=true")
    with Tracker(run, "train", "abc", tmp_path) as tracker:
        tracker.log({"loss": 1.0}, step=1)
        client, place = experiment(run.config.logger, Path(run.config.output_dir))
        (started,) = client.search_runs([place])
        client.delete_run(started.info.run_id)
        tracker.log({"loss": 2.0}, step=2)
        tracker.log({"loss": 3.0}, step=3)
    assert capsys.readouterr().out.count("MLflow is told no more") == 1
    assert len((tmp_path / "metrics.jsonl").read_text().splitlines()) == 3


@pytest.mark.slow  # MLflow takes long to import
@needs("mlflow")
def test_a_server_that_does_not_answer_is_refused_before_the_first_token(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    config = compose_config("model=tiny", "logger=mlflow")
    with pytest.raises(ArtifactError, match="MLFLOW_TRACKING_URI"):
        check_loggers(config.logger, tmp_path)


@pytest.mark.parametrize(
    ("override", "chosen"),
    [
        ("logger=wandb", ["wandb"]),
        ("logger=tensorboard", ["tensorboard"]),
        ("logger=mlflow", ["mlflow"]),
        ("logger=none", []),
        ("logger=[wandb,tensorboard]", ["wandb", "tensorboard"]),
        ("logger=[tensorboard,mlflow]", ["tensorboard", "mlflow"]),
        ("logger.tensorboard=true", ["wandb", "tensorboard"]),
    ],
)
def test_loggers_are_chosen_alone_and_together(override: str, chosen: list[str]) -> None:
    assert compose_config("model=tiny", override).logger.chosen == chosen


@pytest.mark.parametrize("name", ["tensorboard", "mlflow"])
def test_a_logger_that_is_not_installed_is_refused_with_its_extra(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda package: None)
    config = compose_config("model=tiny", f"logger={name}")
    with pytest.raises(HardwareError, match=rf"logger={name} needs a package: .*\[{name}\]"):
        require_loggers(config.logger)
