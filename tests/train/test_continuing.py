"""A training with more steps goes on from a finished one, or one line says why not."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from corpora import write_corpus

from ssd.artifacts.store import verify
from ssd.drive.checks import check
from ssd.errors import ArtifactError
from ssd.run import Run, continuation, lineage
from ssd.run.lineage import step_folder, step_folders
from ssd.run.tracking import read_metrics
from ssd.train.trainer import train

Make = Callable[..., Run]
LENGTHS = [(5, 9), (12, 3), (4, 20), (7, 7), (3, 15), (9, 2)]
ALWAYS = (
    "train.precision=fp32", "hardware.micro_batch_tokens=40", "train.checkpoint_every=2",
    "analyse.live_samples=1",
)  # fmt: skip
KEEP = "train.keep_optimizer=true"
SCHEDULES = [("constant", ()), ("wsd", ("train.decay_steps=2",))]


def trained(make_run: Make, *settings: str, store: str = "out") -> Run:
    output = make_run().folder.parent / store
    name = f"{store}-{'-'.join(settings)}".replace("/", "-")
    run = make_run(*ALWAYS, *settings, f"output_dir={output}", name=name)
    if not lineage.corpus(run).done:
        write_corpus(run, LENGTHS)
    train(run)
    return run


def folder(run: Run) -> Path:
    return lineage.checkpoint(run).folder


def steps(run: Run) -> list[dict[str, Any]]:
    timed = {"time", "train/tokens_per_second"}
    return [
        {name: value for name, value in line.items() if name not in timed}
        for line in read_metrics(folder(run))
    ]


def weights(run: Run) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (folder(run) / "model").glob("*.safetensors")}


@pytest.mark.parametrize(("schedule", "more"), SCHEDULES)
def test_a_longer_training_goes_on_and_ends_like_one_that_never_stopped(
    make_run: Make, capsys: pytest.CaptureFixture[str], schedule: str, more: tuple[str, ...]
) -> None:
    settings = (f"schedule={schedule}", *more, KEEP)
    short = trained(make_run, *settings, "train.max_steps=5")
    steady = short.config.train.num_steady_steps
    assert steady == {"constant": 5, "wsd": 3}[schedule]
    kept = step_folder(folder(short), steady)
    assert (kept / "optimizer").is_dir()
    assert verify(folder(short)) == []
    before = {path: path.read_bytes() for path in folder(short).rglob("*") if path.is_file()}

    capsys.readouterr()
    long = trained(make_run, *settings, "train.max_steps=9")
    assert f"goes on from {kept}" in capsys.readouterr().out
    whole = trained(make_run, *settings, "train.max_steps=9", store="whole")
    assert lineage.checkpoint(long).fingerprint == lineage.checkpoint(whole).fingerprint
    assert steps(long) == steps(whole)
    assert len(steps(long)) == 10
    assert weights(long) == weights(whole)
    assert weights(long) != weights(short)
    assert verify(folder(long)) == []
    assert json.loads((folder(long) / "continues.json").read_text()) == {
        "checkpoint": lineage.checkpoint(short).fingerprint, "after_step": steady,
    }  # fmt: skip
    assert {path: path.read_bytes() for path in before} == before  # links are not written through
    # Each goes on from the longest.
    longest = make_run(*ALWAYS, *settings, "train.max_steps=12", name="longest")
    found = continuation.continued(longest)
    assert found is not None
    assert found.checkpoint.folder == folder(long)
    assert found.kept == long.config.train.num_steady_steps


def test_why_a_longer_training_begins_anew_is_one_line(make_run: Make) -> None:
    def said(*settings: str) -> str:
        short = make_run(*ALWAYS, *settings, "train.max_steps=4", name="short")
        if not lineage.corpus(short).done:
            write_corpus(short, LENGTHS)
        write_finished(short, settings)
        long = make_run(*ALWAYS, *settings, "train.max_steps=8", name="long")
        assert continuation.continued(long) is None
        line = continuation.note(long)
        assert "\n" not in line
        assert str(folder(short)) in line
        assert "train.max_steps=4" in line
        return line

    def write_finished(run: Run, settings: tuple[str, ...]) -> None:
        with lineage.checkpoint(run).writing():
            lineage.checkpoint(run).finish(started=0, counts={})
        assert continuation.note(run) == ""

    assert "under train.schedule=cosine" in said()
    assert "under train.schedule=linear" in said("schedule=linear")
    assert "train.keep_optimizer=false" in said("schedule=constant")
    other = make_run(*ALWAYS, "train.max_steps=8", "optimizer.lr=2e-3", name="other")
    assert continuation.note(other) == ""  # another training, not a longer one


def test_a_decay_that_began_before_the_kept_state_is_named(make_run: Make) -> None:
    short = trained(make_run, "schedule=constant", KEEP, "train.max_steps=4")
    assert continuation.continued(make_run(*ALWAYS, "schedule=wsd", "train.max_steps=8")) is None
    shorter = make_run(*ALWAYS, "schedule=constant", "train.max_steps=3", name="shorter")
    assert continuation.note(shorter) == ""
    (kept,) = (step_folder(folder(short), 4) / "optimizer").glob("*.distcp")
    content = bytearray(kept.read_bytes())
    content[1000] ^= 1
    kept.write_bytes(content)
    with pytest.raises(ArtifactError, match=r"is damaged .*optimizer"):
        trained(make_run, "schedule=constant", "train.max_steps=6")


@pytest.mark.slow  # the driver's checks load the model in a process of its own
def test_the_driver_says_so_before_anything_starts(
    make_run: Make, capsys: pytest.CaptureFixture[str]
) -> None:
    trained(make_run, "schedule=constant", KEEP, "train.max_steps=3")
    long = make_run(*ALWAYS, "schedule=constant", "train.max_steps=6", "stages=[train]", name="l")
    check(long)
    assert "goes on after step 3" in capsys.readouterr().out


def test_a_finished_training_keeps_no_state_unless_asked(make_run: Make) -> None:
    run = trained(make_run, "schedule=constant", "train.max_steps=4")
    assert step_folders(folder(run)) == {}
    assert not (folder(run) / "probe.safetensors").exists()


def test_schedules_have_fingerprints_of_their_own_and_a_cosine_the_old_one(make_run: Make) -> None:
    def inputs(*settings: str) -> dict[str, Any]:
        train_inputs: dict[str, Any] = lineage.checkpoint(make_run(*settings)).inputs["train"]
        return train_inputs

    assert inputs() == inputs("schedule=cosine")
    assert inputs().keys() == {
        "max_steps", "warmup_steps", "min_lr", "global_batch_size", "seq_len", "long_samples",
        "router_aux_coef", "train_router", "precision", "grad_clip",
    }  # fmt: skip
    assert inputs("schedule=linear") == {**inputs(), "schedule": "linear"}
    assert inputs("schedule=constant", "train.min_lr=0") == inputs("schedule=constant", KEEP)
    assert inputs("schedule=wsd") == inputs("schedule=wsd", "train.decay_steps=1")
    assert inputs("schedule=wsd") != inputs("schedule=wsd", "train.decay_steps=2")
