"""What the driver settles about a model's reasoning before anything is drawn."""

import dataclasses
from collections.abc import Callable
from pathlib import Path

import pytest
from reasoning_checkpoints import OPENS, reasoning_checkpoint
from runs import ROOT

from ssd.artifacts.files import read_json
from ssd.artifacts.names import SCORES
from ssd.check.check import check_model
from ssd.drive.pipeline import pin_model, run_pipeline
from ssd.models import Weights
from ssd.problems.extraction import THINK
from ssd.run import Run, load_run
from ssd.runtime.findings import State


def test_plain_answers_are_not_drawn_to_be_trained_in_a_chat_that_opens_reasoning(
    make_run: Callable[..., Run], tiny_weights: Weights, tmp_path: Path
) -> None:
    folder = reasoning_checkpoint(tiny_weights, tmp_path / "model", OPENS)
    run = make_run("experiment=apple_release", "data.limit=2", f"model.path={folder}")
    run = dataclasses.replace(run, config=pin_model(run.config, run.weights))
    refused = [item.text for item in check_model(folder, run.config) if item.state is State.refused]
    assert any("train_as_chat=true" in text for text in refused)


@pytest.mark.slow
def test_a_run_holds_the_marks_that_the_driver_found(
    make_run: Callable[..., Run], tiny_weights: Weights, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.chdir(ROOT)
    folder = reasoning_checkpoint(tiny_weights, tmp_path / "model", OPENS)
    run = make_run(
        "stages=[sample,evaluate]", "eval=humaneval", "eval.limit=2", "eval.max_new_tokens=24",
        "data.limit=2", "sampler=transformers", f"model.path={folder}",
    )  # fmt: skip
    run_pipeline(run.config, run.folder, ["python", "train.py"])
    assert load_run(run.folder).config.model.reasoning == THINK
    arm = read_json(run.folder / SCORES)["benchmarks"]["humaneval"]["models"]["base"]
    assert arm["reasoning"]["closed_share"] == 0 and arm["reasoning"]["mean_tokens"] > 0
