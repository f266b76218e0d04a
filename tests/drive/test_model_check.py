import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from checkpoints import IGNORED, add_ignored, change_json, shard
from runs import ROOT

from ssd.drive.model_check import check_model, passed_file
from ssd.errors import REPORTED
from ssd.models import Weights
from ssd.run import Run


@pytest.fixture
def copy(tmp_path: Path, tiny_weights: Weights, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SSD_CACHE", str(tmp_path / "cache"))
    return Path(shutil.copytree(tiny_weights.path, tmp_path / "model"))


def test_a_passed_check_is_remembered_with_its_notes(
    make_run: Callable[..., Run],
    copy: Path,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    add_ignored(copy)
    run = make_run(f"model.path={copy}")
    check_model(run)
    first = capfd.readouterr().out
    assert IGNORED in first and "note: tensors: " in first

    monkeypatch.setattr(sys, "executable", "/nowhere/python")  # nothing can be asked again
    check_model(run)
    assert capfd.readouterr().out == first


def test_only_what_the_check_reads_asks_again(make_run: Callable[..., Run], copy: Path) -> None:
    asked = passed_file(make_run(f"model.path={copy}"))
    moved = shutil.copytree(copy, copy.with_name("moved"))
    for same in (f"model.path={moved}", "seed=3", "sampler.temp=1.3", "eval.temp=0.2"):
        assert passed_file(make_run(f"model.path={copy}", same)) == asked
    others = ["adapter=lora", "sampler=transformers", "prompt_format=raw", "model.kind=thinking"]
    assert asked not in [passed_file(make_run(f"model.path={copy}", other)) for other in others]
    change_json(copy, "generation_config.json", temperature=0.6)
    assert passed_file(make_run(f"model.path={copy}")) != asked


@pytest.mark.slow
@pytest.mark.parametrize("damage", ["cut", "template"])
def test_a_damaged_model_ends_the_command_in_one_line_before_sampling(
    copy: Path, tmp_path: Path, damage: str
) -> None:
    shard(copy)
    if damage == "cut":
        path = copy / "model-00002-of-00002.safetensors"
        path.write_bytes(path.read_bytes()[:-1000])
    else:
        (copy / "chat_template.jinja").unlink()
    settings = (
        "sampler=transformers",
        "logger=none",
        "stages=[sample]",
        f"output_dir={tmp_path}/o",
    )
    done = subprocess.run(
        [sys.executable, str(ROOT / "train.py"), "model=tiny", f"model.path={copy}", *settings],
        capture_output=True, text=True, check=False, cwd=ROOT,
    )  # fmt: skip
    assert done.returncode == REPORTED
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: ")
    assert str(copy) in line
    assert {"cut": "00002-of-00002", "template": "prompt_format=raw"}[damage] in line
    assert not list((tmp_path / "o").glob("store/*"))
