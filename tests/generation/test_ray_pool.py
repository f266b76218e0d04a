"""Engines on the machines of a Ray cluster: two machines on a wire, of which one is lost."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import machines
import psutil
import pytest
from machines import Machine, two_machines
from runs import ROOT

from ssd.models import Weights
from ssd.records.samples import Sample, read_samples

pytest.importorskip("ray", reason="needs the extra ray")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(machines.why_not() is not None, reason=str(machines.why_not())),
]

SETTINGS = (
    "model=tiny", "model.dtype=float32", "hardware=cpu", "logger=none", "sampler.shard_size=8",
)  # fmt: skip
CORPUS = (
    "stages=[sample]", "data.limit=40", "sampler.num_samples=12", "sampler.max_new_tokens=96",
)  # fmt: skip
RAY = ("hardware/pool=ray", "hardware.pool.address=10.77.0.1:6379")


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, int], Sample]:
    """The corpus as one engine of this machine draws it."""
    output = tmp_path_factory.mktemp("one")
    subprocess.run(command(output, *CORPUS), cwd=ROOT, check=True)
    return corpus(output)


def command(output: Path, *settings: str) -> list[str]:
    return [sys.executable, str(ROOT / "train.py"), *SETTINGS, *settings, f"output_dir={output}"]


def corpus(output: Path) -> dict[tuple[str, int], Sample]:
    (path,) = output.glob("store/corpus/*/corpus.parquet")
    return {(sample.prompt_id, sample.sample_index): sample for sample in read_samples(path)}


def on(machine: Machine, words: list[str], log: Path) -> subprocess.Popen[bytes]:
    with log.open("wb") as stream:
        return subprocess.Popen(
            machine.command(*words), cwd=ROOT, env=machines.environment(),
            stdout=stream, stderr=subprocess.STDOUT,
        )  # fmt: skip


def wait_for_shards(output: Path, process: subprocess.Popen[bytes], log: Path) -> None:
    while len(list(output.glob("store/corpus/*/shards/*.parquet"))) < 3:
        assert process.poll() is None, log.read_text()
        time.sleep(0.02)


def drawing(machine: Machine) -> list[int]:
    """The replicas of a machine."""
    own = [psutil.Process(pid) for pid in machine.processes()]
    return [process.pid for process in own if "ssd.generation.replica" in process.cmdline()]


@pytest.fixture
def cluster(tiny_weights: Weights) -> Iterator[tuple[Machine, Machine]]:
    with two_machines(hidden=[Path(tiny_weights.path)]) as both:
        yield both


@pytest.mark.parametrize("loss", ["its processes", "its wire", "a replica"])
def test_a_machine_that_is_lost_in_the_middle_changes_nothing(
    loss: str,
    cluster: tuple[Machine, Machine],
    undisturbed: dict[tuple[str, int], Sample],
    tmp_path: Path,
) -> None:
    first, second = cluster
    output, log = tmp_path / "outputs", tmp_path / "log"
    run = on(first, command(output, *CORPUS, *RAY), log)
    wait_for_shards(output, run, log)
    if loss == "its processes":
        second.kill_all()
    elif loss == "its wire":
        first.run("ip", "link", "set", "w0", "down")
    else:
        os.kill(drawing(second)[0], signal.SIGKILL)
    assert run.wait(timeout=240) == 0, log.read_text()
    said = log.read_text()
    assert f"({machines.FIRST})" in said
    assert f"({machines.SECOND})" in said
    assert "started again" in said
    assert corpus(output) == undisturbed
    assert drawing(first) == []


def test_answers_of_a_trained_model_come_from_machines_that_lack_it(
    cluster: tuple[Machine, Machine], tmp_path: Path
) -> None:
    first, second = cluster
    output, log = tmp_path / "outputs", tmp_path / "log"
    second.run("mount", "-t", "tmpfs", "none", str(tmp_path))  # its store is another one
    small = ("data.limit=24", "train.max_steps=2", "eval.benchmarks=[mbpp]", "eval.limit=6")
    run = on(first, command(output, *small, *RAY, "stages=[sample,train,evaluate]"), log)
    assert run.wait(timeout=400) == 0, log.read_text()
    assert log.read_text().count(f"({machines.SECOND})") == 2  # base model, and the trained one
    alone = tmp_path / "alone"
    subprocess.run(command(alone, *small, "stages=[sample,train,evaluate]"), cwd=ROOT, check=True)
    ours, theirs = answers(output), answers(alone)
    assert ours == theirs and len(ours) == 2


def answers(output: Path) -> dict[str, dict[tuple[str, int], list[int]]]:
    """Token ids of all answers of a run, by artifact."""
    drawn: dict[str, dict[tuple[str, int], list[int]]] = {}
    for path in output.glob("store/generations/*/shards/*.parquet"):
        for sample in read_samples(path):
            key = sample.prompt_id, sample.sample_index
            drawn.setdefault(path.parts[-3], {})[key] = sample.completion_token_ids
    return drawn


def test_a_stopped_run_leaves_no_replica_on_any_machine(
    cluster: tuple[Machine, Machine], tmp_path: Path
) -> None:
    first, second = cluster
    for number, sign in enumerate((signal.SIGINT, signal.SIGKILL)):
        output, log = tmp_path / str(number), tmp_path / f"log{number}"
        run = on(first, command(output, *CORPUS, *RAY), log)
        wait_for_shards(output, run, log)
        (driver,) = [p for p in map(psutil.Process, first.processes()) if is_driver(p)]
        driver.send_signal(sign)
        run.wait(timeout=60)
        ended = time.monotonic()
        while drawing(first) or drawing(second):
            assert time.monotonic() - ended < 60, log.read_text()
            time.sleep(0.2)


def is_driver(process: psutil.Process) -> bool:
    return any(word.endswith("train.py") for word in process.cmdline())


def test_a_machine_with_another_version_is_named_and_left_out(tmp_path: Path) -> None:
    other = tmp_path / "modules" / "torch-9.9.dist-info"
    other.mkdir(parents=True)
    (other / "METADATA").write_text("Metadata-Version: 2.1\nName: torch\nVersion: 9.9\n")
    output, log = tmp_path / "outputs", tmp_path / "log"
    with two_machines(modules=other.parent) as (first, _):
        run = on(first, command(output, "stages=[sample]", "data.limit=8", *RAY), log)
        assert run.wait(timeout=200) == 0, log.read_text()
    said = log.read_text()
    assert f"({machines.SECOND}): torch 9.9 instead of" in said and "left out" in said


def test_a_cluster_that_is_too_small_or_not_there_is_named_before_anything_starts(
    cluster: tuple[Machine, Machine], tmp_path: Path
) -> None:
    first, _ = cluster
    log = tmp_path / "log"
    wrong = {
        "hardware.replicas=2 at most": ("hardware.replicas=3",),
        "ray start --head": ("hardware.pool.address=10.77.0.9:6379",),
    }
    for remedy, settings in wrong.items():
        run = on(first, command(tmp_path / "outputs", *CORPUS, *RAY, *settings), log)
        assert run.wait(timeout=120) == 3, log.read_text()
        assert remedy in log.read_text() and "sample    starts" not in log.read_text()
