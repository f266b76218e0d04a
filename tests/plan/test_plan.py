"""`stages=[plan]` as a user types it: every model, nothing fetched, no GPU asked for."""

import dataclasses
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from corpora import write_corpus
from runs import ROOT, compose_config

from ssd.config.settings import RunConfig
from ssd.errors import REPORTED
from ssd.plan.plan import Plan, make_plan
from ssd.plan.table import plan_text
from ssd.run import Run

MODELS = sorted(path.stem for path in (ROOT / "conf" / "model").glob("*.yaml"))
PAPER = ("hardware=gpu_8",)


def plan(folder: Path, *overrides: str) -> Plan:
    config = compose_config(f"output_dir={folder}", "stages=[plan]", *overrides)
    return make_plan(config, folder)


def train_py(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """On a machine without GPUs, hub and cache."""
    return subprocess.run(
        [sys.executable, str(ROOT / "train.py"), f"output_dir={folder}/out", *arguments],
        capture_output=True, text=True, check=False, cwd=ROOT,
        env={**os.environ, "CUDA_VISIBLE_DEVICES": "", "SSD_CACHE": f"{folder}/cache",
             "HF_HOME": f"{folder}/hub"},
    )  # fmt: skip


@pytest.mark.parametrize("model", MODELS)
def test_every_model_is_planned_offline(
    model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSD_CACHE", str(tmp_path / "cache"))
    found = plan(tmp_path, f"model={model}", "train.global_batch_size=32", "hardware=gpu_8")
    numbers = json.loads(json.dumps(found.numbers()))
    assert numbers["processes"] == 8
    assert numbers["memory"]["needed_bytes"] > 0
    text = plan_text(found)
    assert found.config.model.name in text
    told = [line for line in text.splitlines() if not line.startswith("warning: ")]
    assert max(map(len, told)) < 160
    assert "unknown" not in text
    assert not list(tmp_path.iterdir())


def test_a_plan_alone_fetches_nothing_and_needs_no_gpu(tmp_path: Path) -> None:
    answer = train_py(tmp_path, "model=qwen3_30b", "stages=[plan]", "run_name=x", *PAPER)
    assert answer.returncode == 0, answer.stderr
    assert answer.stderr == ""
    assert "8 GPUs, sharded (FSDP2)" in answer.stdout
    assert "7.87" in answer.stdout
    assert "warning: training does not fit" in answer.stdout
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    folder = tmp_path / "out" / "main" / "x"
    assert sorted(files) == [folder / "config.yaml", folder / "plan.json"]
    numbers = json.loads((folder / "plan.json").read_text())
    assert numbers["parameters"]["total"] == 30_532_122_624
    assert numbers["memory"]["fits"] is False
    parts = numbers["memory"]["items"]
    assert sum(one["num_bytes"] for one in parts) == pytest.approx(
        numbers["memory"]["needed_bytes"]
    )


@pytest.mark.slow
def test_a_plan_goes_before_the_other_stages(tmp_path: Path) -> None:
    answer = train_py(
        tmp_path, "model=tiny", "stages=[sample,plan]", "sampler=transformers", "data.limit=2",
        "sampler.max_new_tokens=2", "sampler.filters=[]", "logger=none", "run_name=x",
    )  # fmt: skip
    assert answer.returncode == 0, answer.stderr
    assert answer.stdout.index("plan of tiny") < answer.stdout.index("sample    starts")
    folder = tmp_path / "out" / "main" / "x"
    assert (folder / "plan.json").is_file()
    assert list((tmp_path / "out").glob("store/corpus/*/manifest.json"))


@pytest.mark.slow
def test_a_plan_leaves_a_runs_configuration_alone(make_run: Callable[..., Run]) -> None:
    run = make_run()
    write_corpus(run, [(10, 20)])
    before = (run.folder / "config.yaml").read_text()
    answer = subprocess.run(
        [sys.executable, str(ROOT / "train.py"), "model=tiny", "stages=[plan]", "seed=7",
         f"output_dir={run.folder}", f"hydra.run.dir={run.folder}"],
        capture_output=True, text=True, check=False, cwd=ROOT,
    )  # fmt: skip
    assert answer.returncode == 0, answer.stderr
    assert (run.folder / "config.yaml").read_text() == before
    assert yaml.safe_load((run.folder / "plan.yaml").read_text())["seed"] == 7
    done = subprocess.run(
        [sys.executable, "-m", "ssd.plan", str(run.folder)], capture_output=True, text=True,
        check=True,
    )  # fmt: skip
    assert "from the corpus" in done.stdout
    assert json.loads((run.folder / "plan.json").read_text())["training"]["tokens_per_sample"] == 30


def test_the_stage_has_help_and_refuses_a_folder_without_a_configuration(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "ssd.plan"]
    shown = subprocess.run([*command, "--help"], capture_output=True, text=True, check=False)
    assert shown.returncode == 0
    assert "RUN_DIR" in shown.stdout
    refused = subprocess.run([*command, str(tmp_path)], capture_output=True, text=True, check=False)
    assert refused.returncode == REPORTED
    (line,) = refused.stderr.strip().splitlines()
    assert line.startswith("error: ")


def test_what_barely_fits_is_called_tight(tmp_path: Path) -> None:
    typed = ("model=qwen3_4b", "hardware.activation_checkpointing=full", *PAPER)
    needed = plan(tmp_path, *typed).memory.needed / 2**30
    tight = plan(tmp_path, *typed, f"plan.device_memory_gib={1.05 * needed}")
    assert not tight.misfits
    assert tight.tight is not None and "hardware.offload_activations=true" in tight.tight
    assert plan(tmp_path, *typed, f"plan.device_memory_gib={1.2 * needed}").tight is None


def test_bounds_and_unknowns_are_called_so(tmp_path: Path) -> None:
    unknown = ("data=hub", "data.hub_name=org/name", "plan.tokens_per_sample=null")
    text = plan_text(plan(tmp_path, "model=qwen3_30b_thinking", "hardware=gpu_8", *unknown))
    assert re.search(r"epochs +unknown", text)
    assert re.search(r"samples +unknown +set plan.num_samples", text)
    assert re.search(r"tokens in all +at most 629,145,600", text)
    assert re.search(r"time +at most", text)


def test_a_plan_shows_hardware_as_it_was_resolved(tmp_path: Path) -> None:
    config: RunConfig = compose_config("model=tiny", f"output_dir={tmp_path}", "hardware=cpu")
    found = make_plan(config, tmp_path)
    assert found.config == dataclasses.replace(config, hardware=found.config.hardware)
    assert "1 CPU process\n" in plan_text(found)
    assert "unknown" not in plan_text(found)
