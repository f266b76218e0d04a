"""A whole run whose processes are killed at random moments ends as the undisturbed one does."""

import itertools
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import psutil
import pytest
from runs import ROOT
from safetensors.torch import load_file

from ssd.artifacts.store import verify
from ssd.errors import REPORTED
from ssd.records.samples import read_samples

pytestmark = pytest.mark.slow

SETTINGS = (
    "model=tiny", "model.dtype=float32", "logger=none", "data.limit=24", "sampler.shard_size=2",
    "sampler.max_new_tokens=48", "train.max_steps=30", "train.checkpoint_every=2",
    "train.precision=fp32", "eval.benchmarks=[mbpp]", "eval.limit=6", "eval.shard_size=2",
)  # fmt: skip
ROUNDS, KILLS = 5, 5
END_SECONDS = 60
"""Seconds after which nothing that a killed process started may be left."""


def start(output: Path) -> subprocess.Popen[str]:
    command = [sys.executable, str(ROOT / "train.py"), *SETTINGS, f"output_dir={output}"]
    environment = {**os.environ, "VLLM_ENABLE_V1_MULTIPROCESSING": "1"}  # as on a GPU
    return subprocess.Popen(
        command, cwd=ROOT, env=environment, text=True,
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
    )  # fmt: skip


def kind(process: psutil.Process) -> str:
    """What a process of a run is, from its command line."""
    words = " ".join(process.cmdline())
    for name in ("train.py", "EngineCore", "ssd.sandbox", "torchrun", "ssd.check"):
        if name in words:
            return name
    modules = [word for word in process.cmdline() if word.startswith("ssd.")]
    return modules[0] if modules else "helper"


def kill_at_random(output: Path, moment: float, choice: random.Random) -> str | None:
    """Run, and kill one of the run's processes after `moment` seconds; the kind of the killed one,
    None where the run had ended by then."""
    driver = start(output)
    root = psutil.Process(driver.pid)
    try:
        driver.wait(moment)
        assert driver.returncode == 0, driver.stderr and driver.stderr.read()
        return None
    except subprocess.TimeoutExpired:
        pass
    family = [root, *root.children(recursive=True)]
    by_kind: dict[str, list[psutil.Process]] = {}
    for process in family:
        try:
            by_kind.setdefault(kind(process), []).append(process)
        except psutil.NoSuchProcess:
            continue
    started = sorted(set(by_kind) - {"train.py"})
    name = choice.choice(started) if started and choice.random() < 0.75 else "train.py"
    victim = choice.choice(by_kind[name])
    print(f"after {moment:.1f} s: SIGKILL to {name}", flush=True)
    try:
        victim.kill()
    except psutil.NoSuchProcess:
        name = "one that had just ended"
    _, errors = driver.communicate(timeout=600)
    _, left = psutil.wait_procs(family, timeout=END_SECONDS)
    assert not left, f"left after {name} was killed: {[process.cmdline() for process in left]}"
    assert driver.returncode in (0, REPORTED, -signal.SIGKILL), errors
    if driver.returncode == REPORTED:
        assert sum(line.startswith("error: ") for line in errors.splitlines()) == 1, errors
        assert "Traceback" not in errors
    return name


def finish(output: Path) -> None:
    driver = start(output)
    _, errors = driver.communicate(timeout=600)
    assert driver.returncode == 0, errors


def results(output: Path) -> dict[str, Any]:
    """All that a run came to, without times and speeds."""
    store = output / "store"
    (corpus,), (checkpoint,) = store.glob("corpus/*"), store.glob("checkpoint/*")
    (run,) = (output / "main").iterdir()
    samples = read_samples(corpus / "corpus.parquet")
    scores = json.loads((run / "scores.json").read_text())
    lines = [json.loads(line) for line in (checkpoint / "metrics.jsonl").read_text().splitlines()]
    return {
        "corpus": sorted(
            (sample.prompt_id, sample.sample_index, sample.completion_token_ids, sample.text)
            for sample in samples
        ),
        "weights": load_file(checkpoint / "model" / "model.safetensors"),
        "losses": [(line["step"], line["train/loss"]) for line in lines if "train/loss" in line],
        "steps": sorted(line["step"] for line in lines if "train/loss" in line),
        "scores": scores["benchmarks"],
    }


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], float]:
    output = tmp_path_factory.mktemp("undisturbed") / "out"
    started = time.monotonic()
    finish(output)
    return results(output), time.monotonic() - started


@pytest.mark.timeout(3000)
@pytest.mark.parametrize("seed", range(ROUNDS))
def test_a_run_that_is_killed_again_and_again_comes_to_the_same(
    undisturbed: tuple[dict[str, Any], float], tmp_path: Path, seed: int
) -> None:
    expected, seconds = undisturbed
    choice = random.Random(seed)
    killed: Counter[str] = Counter()
    for number in itertools.count():
        output = tmp_path / f"out{number}"
        while killed.total() < KILLS:
            # What a killed run has finished is not done again: the next one has less to do.
            name = kill_at_random(output, choice.uniform(0.5, 2 * seconds / KILLS), choice)
            if name is None:
                break
            killed[name] += 1
        finish(output)
        compare(results(output), expected)
        for folder in output.glob("store/*/*"):
            assert verify(folder) == [], folder
            assert (folder / "manifest.json").is_file()
        if killed.total() == KILLS:
            break
    print(f"killed: {dict(killed)}", flush=True)


def compare(found: dict[str, Any], expected: dict[str, Any]) -> None:
    for name in ("corpus", "steps", "losses", "scores"):
        assert found[name] == expected[name], name
    weights, wanted = found["weights"], expected["weights"]
    assert weights.keys() == wanted.keys()
    assert all((weights[name] == wanted[name]).all() for name in wanted)
