"""A whole run on a power of whole answers: the default engine, a kill, training, the report."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from runs import ROOT

from ssd.artifacts.files import read_json
from ssd.artifacts.names import BLOCKS, CORPUS
from ssd.records.samples import read_samples

pytestmark = pytest.mark.slow

SETTINGS = (
    "experiment=power", "model=tiny", "model.dtype=float32", "logger=none", "data.limit=8",
    "sampler.power.alpha=2", "sampler.temp=0.5", "sampler.power.candidates=4",
    "sampler.power.block=8", "sampler.max_new_tokens=40", "sampler.shard_size=4",
    "eval.benchmarks=[humaneval]", "eval.limit=2", "eval.controls=[t1]",
)  # fmt: skip


def start(output: Path, *more: str) -> subprocess.Popen[str]:
    command = [sys.executable, str(ROOT / "train.py"), *SETTINGS, *more, f"output_dir={output}"]
    return subprocess.Popen(
        command, cwd=ROOT, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        start_new_session=True,
    )  # fmt: skip


def corpus_of(output: Path) -> Path:
    """The corpus's folder, which has `BLOCKS` or, finished, a manifest that names the power."""
    folders = (output / "store" / "corpus").iterdir()
    (folder,) = [
        folder
        for folder in folders
        if (folder / BLOCKS).is_dir() or "power" in read_json(folder / "manifest.json")["inputs"]
    ]
    return folder


def test_a_killed_run_goes_on_and_trains_on_the_same_answers(tmp_path: Path) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    undisturbed = start(whole)
    out, err = undisturbed.communicate(timeout=800)
    assert undisturbed.returncode == 0, err
    assert "approximate: sequential Monte Carlo with 4 candidates" in out
    first = start(killed, "stages=[sample]")
    third = f"store/corpus/*/{BLOCKS}/00002/shards/*.parquet"
    while not list(killed.glob(third)):
        assert first.poll() is None
        time.sleep(0.01)
    os.killpg(first.pid, signal.SIGKILL)
    first.communicate()
    assert not (corpus_of(killed) / CORPUS).exists()
    resumed = start(killed, "stages=[sample]")
    assert resumed.wait(timeout=400) == 0, resumed.stderr and resumed.stderr.read()
    corpora = [corpus_of(output) for output in (whole, killed)]
    assert corpora[0].name == corpora[1].name
    assert read_samples(corpora[0] / CORPUS) == read_samples(corpora[1] / CORPUS)
    (report,) = whole.glob("main/*/report.md")
    text = report.read_text()
    assert "power 2 of whole answers" in text
    assert "No T_eval follows from theory" in text
    counts = read_json(corpora[0] / "manifest.json")["counts"]
    assert counts["power"]["num_candidates"] == 8 * 4
    (results,) = whole.glob("main/*/results.json")
    assert read_json(results)["settings"]["t_train"] is None
