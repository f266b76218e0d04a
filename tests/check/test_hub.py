import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import huggingface_hub
import pytest
import templates
import torch
from checkpoints import add_ignored, change_json, change_tensors, shard
from hubs import COMMIT, Hub, serve
from runs import ROOT

from ssd.check.__main__ import main
from ssd.config.settings import ModelConfig
from ssd.errors import FLAWED, REPORTED, ModelError
from ssd.models import Weights
from ssd.models.fetch import fetch
from ssd.models.hub import download_headers
from ssd.models.weights import locate

FIRST_READ = 100_001
"""Bytes of a weight file that the hub's client reads to find its header."""
LARGE = 4096 * 512
"""Numbers of a tensor beside which a header is small."""


@pytest.fixture
def copy(tmp_path: Path, tiny_weights: Weights) -> Path:
    folder = Path(shutil.copytree(tiny_weights.path, tmp_path / "model"))
    (folder / "README.md").write_text("nobody fetches it")
    return folder


@pytest.fixture
def hub(copy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    with serve(model=copy) as served:
        resolve = served.url + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", served.url)
        monkeypatch.setattr("huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE", resolve)
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
        monkeypatch.setenv("SSD_CACHE", str(tmp_path / "cache"))
        yield served


def enlarge(folder: Path) -> None:
    numbers = torch.zeros(LARGE, dtype=torch.bfloat16)
    change_tensors(folder, lambda tensors: tensors.update({"mtp.fc.weight": numbers}))


def screen(capsys: pytest.CaptureFixture[str], *overrides: str) -> tuple[int, str]:
    arguments = ["ssd.check", "org/model", "hardware=cpu", *overrides]
    with pytest.MonkeyPatch.context() as patch, pytest.raises(SystemExit) as done:
        patch.setattr(sys, "argv", arguments)
        main()
    said = capsys.readouterr()
    return int(done.value.code or 0), said.out + said.err


@pytest.mark.parametrize("sharded", [False, True])
def test_a_model_that_is_not_here_is_checked_by_its_headers(
    hub: Hub, copy: Path, sharded: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    enlarge(copy)
    if sharded:
        shard(copy)
    code, text = screen(capsys)
    assert code == 0, text
    assert f"commit {COMMIT}" in text and "to be downloaded" in text
    assert "the export carries over 1 more, unchanged: mtp.fc.weight" in text
    assert max(size for _, size in hub.asked) <= FIRST_READ
    assert len(hub.asked) == len(list(copy.glob("*.safetensors")))
    assert locate(ModelConfig(name="org/model")) is None


def test_a_bad_model_is_refused_without_its_weights(
    hub: Hub, copy: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    enlarge(copy)
    (copy / "chat_template.jinja").write_text(templates.NO_SYSTEM_ROLE)
    code, text = screen(capsys)
    assert code == FLAWED
    assert "model.system_role=user" in text
    assert max(size for _, size in hub.asked) <= FIRST_READ


def test_a_fetched_model_is_found_though_files_that_nobody_needs_are_missing(
    hub: Hub, copy: Path
) -> None:
    weights = fetch(ModelConfig(name="org/model"))
    assert weights.identity == f"hub:org/model@{COMMIT}"
    assert not (Path(weights.path) / "README.md").exists()


def without_weights(hub: Hub, folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")


def without_a_shard(hub: Hub, folder: Path) -> None:
    shard(folder)
    (folder / "model-00002-of-00002.safetensors").unlink()


def away(hub: Hub, folder: Path) -> None:
    huggingface_hub.constants.HF_HUB_OFFLINE = True


NOT_GIVEN: dict[str, tuple[Callable[[Hub, Path], object], str, str | None]] = {
    "gated, not logged in": (
        lambda hub, folder: setattr(hub, "error", (401, "GatedRepo")), "hf auth login", None,
    ),
    "gated, licence not accepted": (
        lambda hub, folder: setattr(hub, "error", (403, "GatedRepo")), "accept its licence", None,
    ),
    "a token without the right": (
        lambda hub, folder: setattr(hub, "error", (403, "")), "hf auth login", None,
    ),
    "no such model": (lambda hub, folder: hub.models.clear(), "check the name", None),
    "no such revision": (lambda hub, folder: None, "model.revision=v9", "v9"),
    "no network": (away, "connect and run again", None),
    "a hub that fails": (
        lambda hub, folder: setattr(hub, "error", (410, "")), "run again", None,
    ),
    "weights in .bin alone": (without_weights, "no model.safetensors", None),
    "a shard that is not there": (without_a_shard, "00002-of-00002", None),
}  # fmt: skip


@pytest.mark.parametrize("name", NOT_GIVEN)
def test_what_the_hub_does_not_give_is_one_line_with_the_remedy(
    hub: Hub, copy: Path, tmp_path: Path, name: str
) -> None:
    change, words, revision = NOT_GIVEN[name]
    change(hub, copy)
    place = tmp_path / "headers"
    place.mkdir()
    with pytest.raises(ModelError, match=r"^model.name=org/model ") as refused:
        download_headers(ModelConfig(name="org/model", revision=revision), place)
    assert words in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.slow
@pytest.mark.parametrize("bad", [False, True])
def test_a_run_fetches_the_weights_only_after_the_check(
    copy: Path, tmp_path: Path, bad: bool
) -> None:
    add_ignored(copy)
    enlarge(copy)
    if bad:
        change_json(copy, "config.json", intermediate_size=96)
    settings = ("sampler=transformers", "logger=none", "stages=[sample]", "data.limit=2",
        "sampler.num_samples=1", "sampler.max_new_tokens=8", "model.source=hub",
        f"output_dir={tmp_path}/o")  # fmt: skip
    with serve(model=copy) as hub:
        done = subprocess.run(
            [sys.executable, str(ROOT / "train.py"), "model=tiny", "model.name=org/model",
             *settings],
            capture_output=True, text=True, check=False, cwd=ROOT,
            env={**os.environ, "HF_ENDPOINT": hub.url, "HF_HUB_OFFLINE": "0",
                 "HF_HOME": str(tmp_path / "hub"), "SSD_CACHE": str(tmp_path / "cache")},
        )  # fmt: skip
    fetched = [size for _, size in hub.asked if size > FIRST_READ]
    if bad:
        assert done.returncode == REPORTED
        (line,) = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
        assert "config.json" in line
        assert not fetched
    else:
        assert done.returncode == 0, done.stderr
        assert fetched == [(copy / "model.safetensors").stat().st_size]
