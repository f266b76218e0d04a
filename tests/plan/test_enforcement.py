"""A run that cannot fit is refused before its first token, for every way not to fit; hardware that
was left open is filled in before anything starts."""

import dataclasses
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml
from runs import ROOT, compose_config

from ssd.artifacts.names import PLAN
from ssd.config.choices import Recompute
from ssd.config.settings import RunConfig
from ssd.errors import REPORTED, HardwareError
from ssd.plan.enforcement import settle
from ssd.runtime.hardware import resolve

TINY = ("model=tiny", "sampler=transformers", "train.max_steps=2", "data.limit=2",
        "sampler.max_new_tokens=2", "sampler.filters=[]", "logger=none")  # fmt: skip


def resolved(folder: Path, *overrides: str) -> RunConfig:
    config = compose_config(f"output_dir={folder}", *overrides)
    return dataclasses.replace(config, hardware=resolve(config.hardware))


def train_py(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / "train.py"), f"output_dir={folder}/out", "run_name=x"]
    return subprocess.run(
        [*command, *arguments], capture_output=True, text=True, check=False, cwd=ROOT,
        env={**os.environ, "CUDA_VISIBLE_DEVICES": ""},
    )  # fmt: skip


@pytest.fixture
def card(show_gpus: Callable[[str, int, int], None]) -> None:
    """A machine whose nvidia-smi lists one GPU of 80 GB."""
    show_gpus("NVIDIA H100", 81559, 1)


def test_a_training_that_does_not_fit_is_refused_and_nothing_is_sampled(tmp_path: Path) -> None:
    stages = "stages=[plan,sample,train]"
    answer = train_py(tmp_path, *TINY, stages, "plan.device_memory_gib=0.001")
    assert answer.returncode == REPORTED
    (line,) = answer.stderr.strip().splitlines()
    assert line.startswith("error: training does not fit: ")
    assert "plan.enforce=false" in line
    assert "plan of tiny" in answer.stdout
    assert not list((tmp_path / "out").glob("store/*"))


@pytest.mark.slow
def test_enforce_false_goes_on_anyway(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    typed = ("model=tiny", "hardware=cpu", "plan.device_memory_gib=0.001")
    config = resolved(tmp_path, *typed, "plan.enforce=false")
    assert settle(config, tmp_path, ["sample", "train"]) == config
    assert "warning: training does not fit" in capfd.readouterr().out
    # Nothing is left to do that could fail.
    assert settle(resolved(tmp_path, *typed), tmp_path, []).plan.enforce


@pytest.mark.slow
def test_an_engine_that_does_not_fit_is_refused(tmp_path: Path) -> None:
    config = resolved(tmp_path, "model=tiny", "hardware=cpu", "plan.device_memory_gib=1.5")
    with pytest.raises(HardwareError, match=r"^the engine, .* does not fit"):
        settle(config, tmp_path, ["sample", "train"])  # its cache alone takes 1 GiB
    settle(config, tmp_path, ["train"])
    without = dataclasses.replace(config.sampler, engine=type(config.sampler.engine).transformers)
    settle(dataclasses.replace(config, sampler=without), tmp_path, ["sample"])


@pytest.mark.slow
def test_a_disk_that_is_full_is_refused_where_something_is_to_be_trained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=2**20))
    config = resolved(tmp_path, "model=tiny", "hardware=cpu")
    with pytest.raises(HardwareError, match=r"the disk for training does not fit: .*OTHER_FOLDER"):
        settle(config, tmp_path, ["train"])
    settle(config, tmp_path, ["evaluate"])


@pytest.mark.slow
def test_an_analysis_that_does_not_fit_is_refused_before_it_is_paid_for(
    tmp_path: Path, card: None
) -> None:
    typed = ("model=qwen3_4b", "adapter=qlora", "experiment=short", "plan.device_memory_gib=16")
    config = resolved(tmp_path, *typed)
    with pytest.raises(HardwareError, match=r"the analysis does not fit: .*analyse.dtype=bfloat16"):
        settle(config, tmp_path, ["sample"])


def test_what_surely_fits_asks_no_plan(tmp_path: Path) -> None:
    config = resolved(tmp_path, "model=tiny", "hardware=cpu")
    assert settle(config, tmp_path, ["sample", "train", "evaluate"]) is config
    small = resolved(tmp_path, "model=tiny", "hardware=cpu", "plan.device_memory_gib=0.001")
    assert settle(small, tmp_path, []) is small
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_open_settings_are_filled_on_a_gpu_and_remembered(
    tmp_path: Path, card: None, capsys: pytest.CaptureFixture[str]
) -> None:
    config = resolved(tmp_path, "model=smollm2_135m", "hardware.max_num_seqs=33")
    assert config.hardware.compile_engine is None
    hardware = settle(config, tmp_path, ["sample", "train"]).hardware
    assert hardware.activation_checkpointing is Recompute.none
    assert (hardware.micro_batch_tokens or 0) >= 1024
    assert (hardware.max_num_seqs, hardware.compile_engine) == (33, True)
    printed = capsys.readouterr().out
    assert "each GPU has 79.6 GiB (this machine's GPUs)" in printed
    assert "activation_checkpointing=none recompute_layers=0" in printed
    made = (tmp_path / PLAN).stat().st_mtime_ns
    assert settle(config, tmp_path, []).hardware == hardware
    assert (tmp_path / PLAN).stat().st_mtime_ns == made
    settle(dataclasses.replace(config, seed=1), tmp_path, [])
    assert (tmp_path / PLAN).stat().st_mtime_ns > made


def test_a_gpu_that_does_not_tell_its_memory_is_not_guessed_at(
    tmp_path: Path, show_gpus: Callable[..., None]
) -> None:
    show_gpus("NVIDIA GB10", "[N/A]", 1)
    config = resolved(tmp_path, "model=smollm2_135m")
    with pytest.raises(HardwareError, match=r"set plan\.device_memory_gib"):
        settle(config, tmp_path, ["sample"])


def test_a_plan_alone_prints_what_is_chosen_and_leaves_the_asking_open(
    tmp_path: Path, card: None
) -> None:
    done = subprocess.run(
        [sys.executable, str(ROOT / "train.py"), "model=qwen3_4b", "hardware=gpu_1",
         "experiment=short", "stages=[plan]", f"output_dir={tmp_path}/out", "run_name=x"],
        capture_output=True, text=True, check=False, cwd=ROOT,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "chosen by memory" in done.stdout
    assert "this machine's GPUs" in done.stdout
    assert "hardware.offload_activations=true (" in done.stdout
    saved = yaml.safe_load((tmp_path / "out" / "main" / "x" / "config.yaml").read_text())
    assert saved["hardware"]["activation_checkpointing"] == "auto"


def test_a_training_without_a_corpus_is_refused_at_once(tmp_path: Path) -> None:
    answer = train_py(tmp_path, *TINY, "stages=[train]")
    assert answer.returncode == REPORTED
    assert "train.corpus=FOLDER" in answer.stderr


def test_the_drivers_side_imports_no_torch() -> None:
    program = (
        "import sys, ssd.drive.pipeline; print([m for m in ('torch', 'vllm') if m in sys.modules])"
    )
    shown = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert shown.stdout.strip() == "[]"
