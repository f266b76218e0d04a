"""Rounds by the driver: their order, and a run of two rounds that is killed in the second."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from runs import ROOT
from safetensors.torch import load_file

from ssd.artifacts.store import verify
from ssd.drive.stages import all_planned, is_current, pending
from ssd.errors import REPORTED
from ssd.run import Run, load_run
from ssd.run.rounds import all_rounds

SETTINGS = (
    "model=tiny", "model.dtype=float32", "sampler=transformers", "logger=none", "data.limit=8",
    "sampler.max_new_tokens=24", "sampler.shard_size=2", "train.max_steps=6",
    "train.checkpoint_every=2", "train.precision=fp32", "eval.benchmarks=[mbpp]", "eval.limit=6",
    "eval.temps=[0.5,0.9]", "eval.controls=[t1]", "rounds=2", "run_name=rounds",
)  # fmt: skip


def test_rounds_come_one_after_the_other_and_each_models_samples_from_its_own_line(
    make_run: Callable[..., Run],
) -> None:
    run = make_run("rounds=2", "eval.controls=[t1]", "stages=[sample,train,evaluate,report]")
    order = [
        (owner.folder.relative_to(run.folder.parent).as_posix(), name)
        for owner, name in all_planned(run)
    ]
    second, control = "run/rounds/2", "run/t1/rounds/2"
    assert order == [
        ("run", "sample"), ("run", "train"), ("run/t1", "train"), ("run", "evaluate"),
        ("run", "report"),
        (second, "sample"), (control, "sample"), (second, "train"), (control, "train"),
        (second, "evaluate"), (second, "report"),
    ]  # fmt: skip
    assert pending(run).count("train") == 4
    assert pending(make_run("rounds=2", "stages=[sample,train]")).count("train") == 2


def test_a_report_is_out_of_date_once_a_later_round_has_scores(
    make_run: Callable[..., Run],
) -> None:
    run = make_run("rounds=2", "stages=[report]")
    second = all_rounds(run)[1].folder
    second.mkdir(parents=True)
    for age, path in ((30, run.folder / "scores.json"), (20, run.folder / "report.html")):
        path.write_text("{}")
        os.utime(path, (time.time() - age,) * 2)
    assert is_current(run, "report")
    (second / "scores.json").write_text("{}")
    assert not is_current(run, "report")


def command(output: Path, *more: str) -> list[str]:
    return [sys.executable, str(ROOT / "train.py"), *SETTINGS, f"output_dir={output}", *more]


def finish(output: Path, *more: str, code: int = 0) -> str:
    done = subprocess.run(
        command(output, *more), capture_output=True, text=True, check=False, cwd=ROOT
    )
    assert done.returncode == code, done.stderr
    return done.stdout + done.stderr


def results(output: Path) -> dict[str, Any]:
    """What both rounds ended with: scores without their inputs' places, and weights."""
    folders = [output / "main" / "rounds", output / "main" / "rounds" / "rounds" / "2"]
    return {
        str(number): {
            "scores": json.loads((folder / "scores.json").read_text())["benchmarks"],
            "weights": load_file(folder / "checkpoint" / "model" / "model.safetensors"),
        }
        for number, folder in enumerate(folders, start=1)
    }


def wait_for(output: Path, pattern: str, process: subprocess.Popen[bytes], number: int) -> None:
    """Until that many files of this pattern are there."""
    deadline = time.monotonic() + 500
    while len(list(output.glob(pattern))) < number and time.monotonic() < deadline:
        assert process.poll() is None, f"ended before {pattern} was seen"
        time.sleep(0.005)


def test_a_round_that_was_typed_is_refused(tmp_path: Path) -> None:
    printed = finish(tmp_path / "out", "rounds.number=2", code=REPORTED)
    assert "error: rounds.number=2 is set by the run itself" in printed


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_two_rounds_killed_in_the_second_end_as_undisturbed_ones(tmp_path: Path) -> None:
    whole, output = tmp_path / "whole", tmp_path / "killed"
    printed = finish(whole)
    assert printed.index("round 1 of 2") < printed.index("round 2 of 2")
    assert re.search(r"^2 +t1 ", printed, re.MULTILINE)  # the last screen
    expected = results(whole)
    assert (
        expected["1"]["weights"]["model.norm.weight"]
        != expected["2"]["weights"]["model.norm.weight"]
    ).any()

    # While the second round samples, after eight shards of the first, and while it trains.
    for pattern, number in (
        ("corpus/*/shards/*.parquet", 9),
        ("checkpoint/*/checkpoints/step-*", 0),
    ):
        pattern = f"store/{pattern}"
        number = number or len(list(output.glob(pattern))) + 1
        process = subprocess.Popen(command(output), cwd=ROOT, start_new_session=True)
        wait_for(output, pattern, process, number)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    again = finish(output)
    assert re.search(r"round 1 of 2\nsample +up to date", again)
    found = results(output)
    assert {n: each["scores"] for n, each in found.items()} == {
        n: each["scores"] for n, each in expected.items()
    }
    for number, each in found.items():
        for name, tensor in each["weights"].items():
            assert (tensor == expected[number]["weights"][name]).all(), name
    for folder in output.glob("store/*/*"):
        assert verify(folder) == [], folder

    finished = {path: path.stat().st_mtime_ns for path in output.glob("store/*/*/manifest.json")}
    report = (output / "main" / "rounds" / "report.md").read_text()
    assert "## Rounds" in report and "2 of 2 rounds" in report
    assert "starts" not in finish(output)
    second = load_run(output / "main" / "rounds" / "rounds" / "2")
    assert second.config.rounds.number == 2
    assert finished == {
        path: path.stat().st_mtime_ns for path in output.glob("store/*/*/manifest.json")
    }
    # A third round is one more, and the first two stay.
    more = finish(output, "rounds=3", "stages=[sample,train]")
    assert re.search(r"round 2 of 3\nsample +up to date\n(.*\n)*?train +up to date", more)
    assert len(list(output.glob("store/checkpoint/*"))) == 4 + 1
