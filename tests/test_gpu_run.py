"""The whole method as users of GPUs run it: `python train.py`, everything that is open left open.

On a GPU with `pytest -m gpu`; the same on the CPU, the engine in a process of its own, with
`pytest -m slow tests/test_gpu_run.py`, so that the test itself is right on the day a GPU is there.
"""

import contextlib
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from runs import ROOT, compose_config

from ssd.artifacts.files import read_json
from ssd.config.choices import Accelerator, Recompute
from ssd.run import Run, evidence, lineage, load_run, protocol
from ssd.runtime.devices import device_memory
from ssd.runtime.hardware import resolve

SECONDS = 330
"""A driver that takes longer is killed. Two starts of vLLM's compiled engine and three of Python
with torch are most of it."""
ROUNDING = 256 * 2**20
"""Bytes of GPU memory that other processes may have taken or left meanwhile."""
MARK = "SSD_TEST_RUN"
"""An environment variable by which processes that outlive their driver are found."""
HARDWARE = {"cpu": ("hardware=cpu",), "gpu": ()}
"""`hardware=auto` is the default, and takes the GPUs that are here."""
DEVICES = [
    pytest.param("gpu", marks=pytest.mark.gpu),
    pytest.param("cpu", marks=pytest.mark.slow),
]


@dataclass(frozen=True, kw_only=True)
class Finished:
    """A driver that has ended."""

    device: str
    folder: Path
    code: int | None
    """None where it had to be killed."""
    printed: str
    left: list[int]
    """Processes that it has left."""
    taken: int
    """Bytes of GPU memory that are still taken."""

    @property
    def run(self) -> Run:
        return load_run(self.folder)


def marked(mark: str) -> list[int]:
    """The living processes that were started with this mark."""
    wanted, found = f"{MARK}={mark}".encode(), []
    for environment in Path("/proc").glob("[0-9]*/environ"):
        try:
            variables = environment.read_bytes().split(b"\0")
        except OSError:  # ended meanwhile, or of another user
            continue
        if wanted in variables:
            found.append(int(environment.parent.name))
    return found


def free_memory(device: str) -> int:
    """Bytes of the GPU's memory that nobody has; 0 on a CPU."""
    return torch.cuda.mem_get_info()[0] if device == "gpu" else 0


def drive(device: str, folder: Path) -> Finished:
    """Run the driver to its end, or kill it, and look at what it leaves."""
    before, log, mark = free_memory(device), folder / "printed", str(folder)
    variables = {**os.environ, MARK: mark, "VLLM_ENABLE_V1_MULTIPROCESSING": "1"}
    variables.pop("OMP_NUM_THREADS", None)  # as a user's
    command = [sys.executable, str(ROOT / "train.py"), "model=tiny", f"output_dir={folder}/out"]
    with log.open("w") as output:
        driver = subprocess.Popen(
            [*command, *HARDWARE[device], "logger=none", "run_name=run"],
            cwd=ROOT, env=variables, stdout=output, stderr=subprocess.STDOUT,
        )  # fmt: skip
        try:
            code = driver.wait(SECONDS)
        except subprocess.TimeoutExpired:
            code = None
    left = marked(mark)
    for pid in left:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    driver.wait()
    deadline = time.monotonic() + 10
    while (taken := before - free_memory(device)) > ROUNDING and time.monotonic() < deadline:
        time.sleep(0.5)
    return Finished(
        device=device, folder=folder / "out" / "main" / "run", code=code,
        printed=log.read_text(), left=left, taken=taken,
    )  # fmt: skip


@pytest.fixture(scope="module", params=DEVICES)
def finished(request: Any, tmp_path_factory: pytest.TempPathFactory) -> Finished:
    return drive(request.param, tmp_path_factory.mktemp(request.param))


def starts(run: Run, model: str) -> list[float]:
    """Seconds that the engine's start took for each of a model's artifacts; 0 where it ran."""
    made = [
        evidence.generations(run, model, name, part=part)
        for name, part in protocol.reported_on(run)
    ]
    drawn = [lineage.corpus(run), *made] if model == "base" else made
    return [artifact.manifest()["engine_start_seconds"] for artifact in drawn]


@pytest.mark.gpu
def test_auto_takes_the_gpus_and_the_memory_that_pytorch_sees(
    capsys: pytest.CaptureFixture[str],
) -> None:
    hardware = resolve(compose_config("model=tiny").hardware)
    assert hardware.accelerator is Accelerator.gpu
    assert hardware.devices == torch.cuda.device_count()
    capacity, source = device_memory(hardware, None)
    seen = torch.cuda.get_device_properties(0).total_memory
    with capsys.disabled():
        print(f"\n{torch.cuda.get_device_name(0)}: {capacity / 2**30:.1f} GiB, {source}")
    # nvidia-smi counts what the driver keeps for itself.
    assert 0.97 < seen / capacity <= 1


def test_the_method_ends_and_leaves_no_process_and_no_memory(finished: Finished) -> None:
    assert finished.code == 0, finished.printed[-4000:]
    # What the driver says of a stage that it had to end.
    assert "its result is whole, and its process" not in finished.printed
    assert finished.left == []
    assert finished.taken <= ROUNDING
    assert "tuned minus it" in finished.printed
    assert (finished.folder / "report.html").is_file()
    assert evidence.finished_analysis(finished.run) is not None


def test_an_engine_is_started_once_for_each_model(
    finished: Finished, capsys: pytest.CaptureFixture[str]
) -> None:
    seconds = {model: starts(finished.run, model) for model in ("base", "tuned")}
    with capsys.disabled():
        print(f"\nengine starts, seconds: {seconds}")
    for started in seconds.values():
        assert [second > 0 for second in started] == [True, *[False] * (len(started) - 1)]
    assert "An engine was started 2 times" in (finished.folder / "report.md").read_text()


def test_what_auto_became_is_said_and_is_what_trained(finished: Finished) -> None:
    hardware = finished.run.config.hardware
    assert hardware.accelerator.value == finished.device
    assert hardware.activation_checkpointing is Recompute.none  # nothing of the tiny model is large
    assert hardware.max_num_seqs is not None
    on_gpu = finished.device == "gpu"
    assert hardware.compile_engine is on_gpu
    assert hardware.compile_training is on_gpu
    assert "layers are not compiled" not in finished.printed
    if on_gpu:
        said = f"max_num_seqs={hardware.max_num_seqs} compile_engine=True"
        assert said in finished.printed
        assert f"micro_batch_tokens={hardware.micro_batch_tokens}" in finished.printed
        plan = read_json(finished.folder / "plan.json")["memory"]
        peak = lineage.checkpoint(finished.run).manifest()["counts"]["peak_memory_gib"] * 2**30
        assert 0 < peak <= plan["needed_bytes"] <= plan["device_bytes"]
