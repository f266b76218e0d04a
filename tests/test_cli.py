"""`python train.py` as a user types it: fast one-line answers to mistakes, nothing touched."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from runs import ROOT

from ssd.errors import REPORTED


def train_py(*arguments: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(ROOT / "train.py"), *arguments],
        capture_output=True,
        text=True,
        check=False,
        cwd=cwd or ROOT,
        env={**os.environ, "WANDB_MODE": "offline"},
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["sampler.tmep=1"], "sampler.tmep: no such setting; did you mean 'sampler.temp'?"),
        (["+sampler.foo=1"], "sampler.foo: no such setting"),
        (["sampler.temp=hot"], "sampler.temp"),
        (["sampler.temp=-1"], "sampler.temp must lie in [0, 10], got -1.0"),
        (["sampler.engine=vlm"], "sampler.engine"),
        (["eval.validation=mbqp"], "eval.validation: no benchmark 'mbqp'; did you mean 'mbpp'?"),
        (["model=qwen3_31b"], "model=qwen3_31b: no such option; did you mean 'qwen3_30b'?"),
        (["modl=tiny"], "modl: no such setting; did you mean 'model'"),
        (["truncation@eval.truncation=non"], "did you mean 'none'?"),
        (["model.path=/no/such/folder"], "model.path=/no/such/folder is no folder"),
        (["data=file", "data.path=/no/such/file.jsonl"], "data.path=/no/such/file.jsonl"),
        (["train.corpus=/no/such/corpus"], "train.corpus=/no/such/corpus"),
        (["sampler.temp="], "sampler.temp"),
        (["train.lr=1"], "train.lr: no such setting; did you mean 'optimizer.lr'? Peak learning"),
        (["experiment=controls"], "raise eval.limit"),
    ],
)
def test_a_mistake_is_answered_in_one_line(
    tmp_path: Path, arguments: list[str], message: str
) -> None:
    answer = train_py("model=tiny", f"output_dir={tmp_path}/out", *arguments)
    assert answer.returncode == REPORTED
    (line,) = answer.stderr.strip().splitlines()
    assert line.startswith("error: ")
    assert message in line
    assert not list((tmp_path / "out").glob("store/*"))


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_a_gpu_that_is_not_there_is_refused(tmp_path: Path) -> None:
    answer = train_py("model=tiny", f"output_dir={tmp_path}/out", "hardware=gpu_1")
    assert answer.returncode == REPORTED
    assert (
        "hardware.accelerator=gpu asks for 1 GPU(s), this machine shows 0: use hardware=cpu"
        in answer.stderr
    )


def test_an_output_folder_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    answer = train_py("model=tiny", f"output_dir={tmp_path}/file/out")
    assert answer.returncode == REPORTED
    (line,) = answer.stderr.strip().splitlines()
    assert "set output_dir to a writable folder" in line


@pytest.mark.parametrize(
    ("error", "named"),
    [
        ("OSError(errno.EROFS, 'Read-only file system', '/out')", "cannot write /out"),
        ("OSError(errno.ENOSPC, 'No space left on device', '/out')", "the disk at /"),
        ("PermissionError('a library says no')", "a library says no"),
    ],
)
def test_what_the_file_system_refuses_is_told_in_one_line(error: str, named: str) -> None:
    fails = (
        "import errno\nfrom ssd.runtime.reporting import reporting_errors\n"
        f"with reporting_errors():\n    raise {error}"
    )
    answer = subprocess.run(
        [sys.executable, "-c", fails], capture_output=True, text=True, check=False
    )
    assert answer.returncode == REPORTED
    (line,) = answer.stderr.strip().splitlines()
    assert named in line
    assert "output_dir" in line


@pytest.mark.parametrize(
    ("settings", "variable"), [(["logger=none"], "SSD_CACHE"), ([], "WANDB_CACHE_DIR")]
)
def test_a_home_that_cannot_be_written_names_what_moves_a_cache(
    settings: list[str], variable: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "home").write_text("")  # no folder can be created below it, by root either
    monkeypatch.setenv("HOME", f"{tmp_path}/home")
    for name in ("SSD_CACHE", "XDG_CACHE_HOME", "WANDB_CACHE_DIR"):
        monkeypatch.delenv(name, raising=False)
    answer = train_py("model=tiny", f"output_dir={tmp_path}/out", "stages=[sample]", *settings)
    assert answer.returncode == REPORTED
    lines = answer.stderr.strip().splitlines()
    assert lines[-1].startswith("error: ")
    assert f"set {variable}" in lines[-1]
    assert not list((tmp_path / "out").glob("store/*"))


def test_cfg_job_shows_the_papers_run_with_one_change() -> None:
    answer = train_py("model=qwen3_30b", "sampler.temp=1.4", "--cfg", "job")
    assert answer.returncode == 0
    for line in (
        "name: Qwen/Qwen3-30B-A3B-Instruct-2507",
        "temp: 1.4",
        "max_steps: 2500",
        "name: rstar_coder",
    ):
        assert line in answer.stdout


def test_help_names_the_groups_and_shows_examples() -> None:
    answer = train_py("--help")
    assert answer.returncode == 0
    for text in (
        "python train.py -m sampler.temp=0.8,1.2,1.6",
        "prompt_format:",
        "qwen3_30b_thinking",
        "temp: 1.2",
    ):
        assert text in answer.stdout


@pytest.mark.parametrize("stage", ["sample", "train", "evaluate", "report"])
def test_every_stage_has_help_and_refuses_a_folder_without_a_run(
    stage: str, tmp_path: Path
) -> None:
    command = [sys.executable, "-m", f"ssd.{stage}"]
    shown = subprocess.run([*command, "--help"], capture_output=True, text=True, check=False)
    assert shown.returncode == 0
    assert "DIR" in shown.stdout
    refused = subprocess.run([*command, str(tmp_path)], capture_output=True, text=True, check=False)
    assert refused.returncode == REPORTED
    assert refused.stderr.strip().splitlines()[-1].startswith("error: ")


def test_composing_imports_no_heavy_library() -> None:
    # What keeps the answer to a mistake under a second is that nothing below
    # is imported before it is given.
    program = (
        "import sys, runpy; sys.argv = ['train.py', 'sampler.tmep=1']\n"
        "try: runpy.run_path('train.py', run_name='__main__')\n"
        "except SystemExit: pass\n"
        "print([m for m in ('torch', 'vllm', 'transformers', 'lightning', 'wandb', 'matplotlib', "
        "'pyarrow') if m in sys.modules])"
    )
    started = time.monotonic()
    answer = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False, cwd=ROOT
    )
    print(f"answered after {time.monotonic() - started:.2f} s")
    assert answer.stdout.strip() == "[]"


@pytest.mark.slow
def test_a_run_begins_with_what_it_will_do_and_where_that_is_kept(tmp_path: Path) -> None:
    arguments = ["model=tiny", f"output_dir={tmp_path}/out", "logger=none", "stages=[sample]"]
    first, second = (train_py(*arguments, "data.limit=3").stdout for _ in range(2))
    assert "  sample  3 prompts of mbpp, 1 answer each at T 1.2\n" in first
    assert f"  keep    in {tmp_path}/out/store" in first
    (asked,) = (line for line in first.splitlines() if line.startswith("  ask "))
    plan = asked.split(maxsplit=1)[1].partition(" counts")[0]
    assert "model=tiny" in plan
    assert plan.endswith("'stages=[plan]'")
    assert "  sample  " not in second  # nothing is left to do
