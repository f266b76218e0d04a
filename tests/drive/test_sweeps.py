"""Sweeps: every preset's jobs, failures that outlive their process, launchers."""

import dataclasses
import functools
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml
from hydra import compose, initialize_config_dir
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf
from runs import ROOT, compose_config

from ssd.config.settings import RunConfig, TruncationConfig
from ssd.drive.jobs import SUBMITTED, check_launcher, naming_lost_jobs
from ssd.drive.sweep import list_jobs
from ssd.errors import REPORTED, RESUMABLE, ConfigError, ReportedError, StageError
from ssd.runtime.children import run_child

PRESETS = [
    f"{group}={path.stem}"
    for group in ("sweep", "experiment")
    for path in sorted((ROOT / "conf" / group).glob("*.yaml"))
    if "mode: MULTIRUN" in path.read_text()
]
QUICK = ("model=tiny", "stages=[sample]", "logger=none", "data.limit=3", "sampler=transformers")


def train_py(output: Path, *arguments: str, code: int = 0) -> str:
    done = subprocess.run(
        [sys.executable, str(ROOT / "train.py"), *arguments, *QUICK, f"output_dir={output}"],
        capture_output=True, text=True, check=False, cwd=ROOT,
    )  # fmt: skip
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout + done.stderr


@functools.cache
def jobs(preset: str) -> list[RunConfig]:
    """The configuration of every job that a preset starts, every range checked."""
    stored = yaml.safe_load(file_of(preset).read_text())
    params = [f"{key}={value}" for key, value in stored["hydra"]["sweeper"]["params"].items()]
    parsed = OverridesParser.create().parse_overrides(params)
    (batch,) = BasicSweeper.split_arguments(parsed, max_batch_size=None)
    return [compose_config(preset, *job) for job in batch]


def file_of(preset: str) -> Path:
    return ROOT / "conf" / f"{preset.replace('=', '/')}.yaml"


@pytest.mark.parametrize("preset", PRESETS)
def test_every_job_of_every_preset_is_a_valid_run(preset: str) -> None:
    first, *lines = file_of(preset).read_text().splitlines()
    assert first == "# @package _global_"
    assert any(line.startswith("#") and preset in line for line in lines)
    assert len(jobs(preset)) > 1


def test_a_sweeps_jobs_come_from_its_preset_and_the_command_line() -> None:
    basic = "hydra._internal.core_plugins.basic_sweeper.BasicSweeper"
    params = {"sampler.temp": "0.8,1.2,1.6", "seed": "range(0,4)"}

    def listed(sweeper: dict[str, object], *task: str) -> list[list[str]]:
        hydra = {"sweeper": sweeper, "overrides": {"task": task}}
        return list_jobs(OmegaConf.create({"hydra": hydra}), None)

    swept = listed({"_target_": basic, "params": params}, "study=x", "seed=0,1")
    assert len(swept) == 6
    assert swept[1] == ["sampler.temp=0.8", "seed=1", "study=x"]
    assert listed({"_target_": basic, "params": None}, "eval.temps=[0.7,1.0]") == [
        ["eval.temps=[0.7,1.0]"]
    ]
    assert listed({"_target_": "hydra_plugins.other.Sweeper"}, "seed=0,1") == []


@pytest.mark.parametrize("options", [("-m", "model=tiny"), ("model=tiny", "-m")])
def test_no_job_of_a_sweep_starts_before_all_are_checked(
    options: tuple[str, str], tmp_path: Path
) -> None:
    output, good = tmp_path / "out", tmp_path / "good.jsonl"
    write_prompts(good, 5)
    missing = tmp_path / "missing.jsonl"
    swept = ("data=file", f"data.path={good},{missing}", "truncation=none,noen")
    printed = train_py(output, *options, "sampler.temp=0.8,99", *swept, code=REPORTED)
    (line,) = [line for line in printed.splitlines() if line.startswith("error: ")]
    assert "job 5, 7 of 8: sampler.temp must lie in [0, 10], got 99.0" in line
    assert "job 3 of 8: data.path=" in line
    assert "job 2, 4, 6, 8 of 8: truncation=noen: no such option; did you mean 'none'?" in line
    assert "missing.jsonl" in line
    assert not re.search(r"^(job \d|sample )", printed, re.MULTILINE)
    assert not list(output.glob("store/*"))


def test_a_signal_stops_a_sweep_while_its_jobs_are_checked(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, str(ROOT / "train.py"), "-m", "seed=range(0,500)", *QUICK,
         f"output_dir={tmp_path}/out"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT,
    )  # fmt: skip
    # The first job's check has written this.
    deadline = time.monotonic() + 120
    while not (tmp_path / "out").is_dir():
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=60)
    assert process.returncode == RESUMABLE, err
    assert "job 1 of" not in out


def test_the_papers_grid_has_its_temperatures_and_no_truncation_at_sampling() -> None:
    grid = jobs("sweep=paper_grid")
    assert [job.sampler.temp for job in grid] == [0.5, 0.7, 1.0, 1.5, 2.0]
    assert all(job.truncation == TruncationConfig() for job in grid)
    assert grid[0].eval.temps == [0.6, 0.7, 0.8, 0.9, 1.0, 1.1, 1.2, 1.3, 1.4, 1.5]
    assert grid[0].eval.truncation == TruncationConfig(top_k=20, top_p=0.8)


def test_soft_and_hard_runs_share_their_corpus() -> None:
    hard, soft = jobs("experiment=soft_vs_hard")
    assert (hard.objective.type, soft.objective.type) == ("cross_entropy", "soft")
    assert dataclasses.replace(soft, objective=hard.objective, run_name=hard.run_name) == hard


@pytest.mark.parametrize("preset", ["experiment=halves", "experiment=laptop_soft"])
def test_halves_differ_in_the_target_alone(preset: str) -> None:
    hard, soft, temperature, truncation = jobs(preset)
    assert all(
        dataclasses.replace(job, objective=hard.objective, run_name=hard.run_name) == hard
        for job in (soft, temperature, truncation)
    )
    targets = [(job.objective.temp, job.objective.truncation) for job in jobs(preset)]
    assert targets == [(None, None), (None, None), (None, TruncationConfig()), (1.0, None)]


def test_t_eval_is_no_axis_of_jobs_so_a_corpus_and_a_checkpoint_serve_a_whole_row() -> None:
    plane = jobs("sweep=t_train_x_t_eval")
    assert len({job.sampler.temp for job in plane}) == len(plane)
    assert all(len(job.eval.temps) > 1 for job in plane)


def test_the_truncation_sweep_tries_every_truncation_there_is() -> None:
    options = list((ROOT / "conf" / "truncation").glob("*.yaml"))
    found = jobs("sweep=truncation")
    cuts = {(job.truncation.top_k, job.truncation.top_p) for job in found}
    assert len(found) == len(cuts) == len(options)


def write_prompts(path: Path, length: int) -> None:
    path.write_text(json.dumps({"question": "x " * length}) + "\n")


@pytest.mark.slow
def test_a_failed_job_leaves_its_reason_and_the_same_sweep_repeats_only_it(tmp_path: Path) -> None:
    output, good, bad = tmp_path / "out", tmp_path / "good.jsonl", tmp_path / "bad.jsonl"
    write_prompts(good, 5)
    write_prompts(bad, 2000)
    sweep = ("-m", f"data.path={bad},{good}", "data=file", "sampler.max_model_len=1000")
    printed = train_py(output, *sweep, code=REPORTED)
    assert re.findall(r"^job .*", printed, re.MULTILINE) == ["job 1 of 2", "job 2 of 2"]
    assert len(list(output.glob("store/corpus/*/manifest.json"))) == 1  # the second job went on
    (path,) = output.glob("main/*/failed.json")
    failure = json.loads(path.read_text())
    assert failure["stage"] == "stage sample"
    assert re.search(r"has \d+ tokens, sampler.max_model_len is 1000", failure["message"])
    assert f"data.path={bad}" in failure["command"]
    assert "1 job(s) failed" in printed
    assert re.search(r"bad.jsonl\S*: failed. stage sample: prompt", printed)
    assert failure["message"].split(":")[0] in (output / "main" / "study.html").read_text()

    write_prompts(bad, 7)
    again = train_py(output, *sweep)
    assert not path.exists()
    assert again.count("sample    starts") == again.count("sample    up to date") == 1
    assert "job(s) failed" not in again


@pytest.mark.slow
def test_jobs_in_other_processes_share_the_store_and_set_the_exit_code(tmp_path: Path) -> None:
    pytest.importorskip("submitit", reason="the extra slurm is not installed")
    output, good, bad = tmp_path / "out", tmp_path / "good.jsonl", tmp_path / "bad.jsonl"
    write_prompts(good, 5)
    write_prompts(bad, 2000)
    submitted = ("hydra/launcher=submitit_local", "hydra.launcher.timeout_min=10")
    sweep = ("-m", f"data.path={bad},{good}", "data=file", "sampler.max_model_len=1000")
    printed = train_py(output, *sweep, *submitted, code=REPORTED)
    assert "1 job(s) failed" in printed
    assert re.search(r"has \d+ tokens, sampler.max_model_len is 1000", printed)
    assert len(list(output.glob("store/corpus/*/manifest.json"))) == 1


def test_the_slurm_launcher_composes_with_settings_that_follow_the_hardware() -> None:
    pytest.importorskip("submitit", reason="the extra slurm is not installed")
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        composed = compose(
            "train",
            overrides=["sweep=t_train", "study=temps", "hydra/launcher=slurm", "hardware=gpu_8"],
            return_hydra_config=True,
        )
        launcher = OmegaConf.to_container(composed.hydra, resolve=False)["launcher"]
        assert composed.hydra.launcher.gpus_per_node == 8
        assert composed.hydra.launcher.name == "temps"
    assert launcher["_target_"].endswith("SlurmLauncher")
    assert launcher["nodes"] == launcher["tasks_per_node"] == 1
    assert launcher["max_num_timeout"] > 0


def test_a_machine_without_slurm_is_named_in_one_line(tmp_path: Path) -> None:
    pytest.importorskip("submitit", reason="the extra slurm is not installed")
    if shutil.which("srun"):
        pytest.skip("this machine has SLURM")
    printed = train_py(tmp_path, "-m", "seed=0,1", "hydra/launcher=slurm", code=REPORTED)
    (line,) = printed.strip().splitlines()
    assert "hydra/launcher=slurm" in line
    assert "no srun" in line
    assert not list(tmp_path.iterdir())


def test_help_needs_no_launcher_plugin(tmp_path: Path) -> None:
    # As where the extra is not installed: the plugin's package cannot be imported.
    program = (
        "import sys, runpy; sys.modules['hydra_plugins.hydra_submitit_launcher'] = None\n"
        "sys.argv = ['train.py', '--help']; runpy.run_path('train.py', run_name='__main__')"
    )
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", program],
        capture_output=True, text=True, check=False, cwd=ROOT,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "sweep: paper_grid" in done.stdout


def test_several_machines_in_a_submitted_job_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    config = compose_config("hardware=gpu_8", "hardware.num_nodes=2", "model=tiny",
                            "train.global_batch_size=16")  # fmt: skip
    check_launcher(config)
    monkeypatch.setitem(os.environ, SUBMITTED, "slurm")
    with pytest.raises(ConfigError, match=r"hardware\.num_nodes=2 needs a job of its own"):
        check_launcher(config)


def test_a_lost_job_is_named_in_one_line() -> None:
    submitit = pytest.importorskip("submitit", reason="the extra slurm is not installed")
    lost = submitit.core.utils.UncompletedJobError("Job 7 has no result\nits log\nand more")
    with pytest.raises(StageError, match=r"^Job 7 has no result was") as raised, naming_lost_jobs():
        raise lost
    assert "\n" not in str(raised.value)
    with pytest.raises(RuntimeError, match="ours"), naming_lost_jobs():
        raise RuntimeError("ours")


def test_a_reason_reaches_the_process_that_started_the_failing_ones_parent() -> None:
    inner = (
        "from ssd.errors import DataError\nfrom ssd.runtime.reporting import reporting_errors\n"
        "with reporting_errors():\n    raise DataError('the innermost reason')"
    )
    outer = (
        "import sys\nfrom ssd.runtime.children import run_child\n"
        "from ssd.runtime.reporting import reporting_errors\n"
        f"with reporting_errors():\n    run_child([sys.executable, '-c', {inner!r}], 'inside')"
    )
    with pytest.raises(ReportedError, match="the innermost reason") as raised:
        run_child([sys.executable, "-c", outer], "outside")
    assert raised.value.stage == "outside"
