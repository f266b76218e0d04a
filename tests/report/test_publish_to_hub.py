"""What would go to the hub, by a client that keeps what it is sent."""

import json
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import huggingface_hub
import pytest
from huggingface_hub import ModelCard
from run_folders import (
    BETTER,
    benchmark_scores,
    finish_checkpoint,
    finish_corpus,
    make_run,
    write_scores,
)
from runs import ROOT, compose_config

from ssd.artifacts.files import write_text
from ssd.artifacts.names import CORPUS
from ssd.artifacts.store import existing, verify
from ssd.drive.hub_corpus import pin_corpus
from ssd.errors import ArtifactError, DataError
from ssd.models import Weights
from ssd.report.hub import contents, default_name, stage, upload
from ssd.run import Run, lineage, save_run


@dataclass
class Hub:
    """Stands for the hub's client: repositories by id, each private or not, and files by name."""

    repositories: dict[str, bool] = field(default_factory=dict)
    files: dict[str, bytes] = field(default_factory=dict)

    def create_repo(self, repo_id: str, *, private: bool, exist_ok: bool) -> Any:
        assert exist_ok
        whole = repo_id if "/" in repo_id else f"me/{repo_id}"
        self.repositories.setdefault(whole, private)
        return huggingface_hub.RepoUrl(f"https://huggingface.co/{whole}")

    def model_info(self, repo_id: str) -> Any:
        return SimpleNamespace(private=self.repositories[repo_id])

    def upload_folder(self, *, repo_id: str, folder_path: Path, commit_message: str) -> None:
        self.files = {
            str(path.relative_to(folder_path)): path.read_bytes()
            for path in folder_path.rglob("*")
            if path.is_file()
        }


def reported_run(tmp_path: Path, part: str = "model", *overrides: str) -> Run:
    """A run with a model, scores and a report; every file of the model is listed as it is."""
    stages = "stages=[sample,train,evaluate,report]"
    settings = (stages, "eval.benchmarks=[humaneval]", "logger=none", *overrides)
    run = make_run(tmp_path, "first", *settings, finished=False)
    base = tmp_path / "base"
    base.mkdir()
    write_text(base / "generation_config.json", json.dumps({"eos_token_id": [5, 6], "top_p": 0.1}))
    weights = Weights(
        path=str(base), identity="hub:tiny@abc", tokenizer="bytes-v1", source="the hub"
    )
    run = Run(run.folder, run.config, weights)
    save_run(run, ["python", "train.py", f"output_dir={tmp_path}"])
    (lineage.corpus(run).folder).mkdir(parents=True)
    write_text(lineage.corpus(run).folder / CORPUS, "samples")
    finish_corpus(run)
    folder = lineage.checkpoint(run).folder / part
    write_text(folder / "model.safetensors", "weights")
    shutil.copy2(base / "generation_config.json", folder)
    if part == "adapter":
        config = {"base_model_name_or_path": str(base), "r": 8}
        write_text(folder / "adapter_config.json", json.dumps(config))
    finish_checkpoint(run)
    write_scores(run, humaneval=benchmark_scores(run, BETTER))
    for name in ("report.md", "report.html", "results.json"):
        write_text(run.folder / name, "{}")
    return run


def test_the_hub_gets_model_card_corpus_and_report_and_the_decoding_of_the_scores(
    tmp_path: Path,
) -> None:
    run, hub = reported_run(tmp_path), Hub()
    assert stage(run.folder, tmp_path / "staged", link=True) == []
    address = upload(tmp_path / "staged", "tiny-ssd", public=False, api=hub)
    assert (address, hub.repositories) == (
        "https://huggingface.co/me/tiny-ssd",
        {"me/tiny-ssd": True},
    )
    assert hub.files["model.safetensors"] == b"weights"
    assert json.loads(hub.files["generation_config.json"]) == {
        "eos_token_id": [5, 6], "do_sample": True, "temperature": 0.7, "top_k": 20, "top_p": 0.8,
    }  # fmt: skip
    card = ModelCard(hub.files["README.md"].decode())
    assert card.data.base_model == "tiny"
    assert hub.files["corpus/corpus.parquet"] == b"samples"
    assert {"ssd/report.html", "ssd/results.json", "ssd/manifests.jsonl"} <= hub.files.keys()
    texts = (name for name in hub.files if name.endswith((".md", ".json", ".html", ".yaml")))
    assert [name for name in texts if str(Path.home()).encode() + b"/" in hub.files[name]] == []
    assert verify(lineage.checkpoint(run).folder) == []


def test_a_corpus_of_the_hub_is_the_one_that_was_published(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = reported_run(tmp_path)
    stage(run.folder, tmp_path / "staged")
    asked: list[Any] = []

    def snapshot_download(repo_id: str, *, revision: str | None, allow_patterns: list[str]) -> str:
        asked.append((repo_id, revision, allow_patterns))
        return str(tmp_path / "staged")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)
    config = compose_config("model=tiny", "train.corpus=hub:me/tiny-ssd@abc", "stages=[train]")
    folder = Path(str(pin_corpus(config).train.corpus))
    assert asked == [("me/tiny-ssd", "abc", ["corpus/*"])]
    corpus = existing(folder, ("corpus",), "train.corpus")
    assert corpus.fingerprint == lineage.corpus(run).fingerprint
    assert corpus.intact(CORPUS) == folder


def test_a_corpus_that_is_not_on_the_hub_is_refused_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = compose_config("model=tiny", "train.corpus=hub:me/none", "stages=[train]")
    with pytest.raises(DataError, match=r"train\.corpus=hub:me/none cannot be fetched"):
        pin_corpus(config)  # the tests are offline
    monkeypatch.setattr(huggingface_hub, "snapshot_download", lambda *_, **__: str(tmp_path))
    with pytest.raises(DataError, match="has no folder corpus"):
        pin_corpus(config)


def test_an_adapter_whose_base_nobody_else_has_is_noted(tmp_path: Path) -> None:
    run = reported_run(tmp_path, "adapter", "adapter=lora", "adapter.merge=false")
    (note,) = stage(run.folder, tmp_path / "staged")
    assert "adapter_config.json" in note
    fields = json.loads((tmp_path / "staged" / "generation_config.json").read_text())
    assert (fields["eos_token_id"], fields["temperature"]) == ([5, 6], 0.7)


def test_a_repository_that_everybody_reads_is_not_written_unasked(tmp_path: Path) -> None:
    hub = Hub({"me/tiny-ssd": False})
    with pytest.raises(ArtifactError, match="add --public"):
        upload(tmp_path, "me/tiny-ssd", public=False, api=hub)
    upload(tmp_path, "me/tiny-ssd", public=True, api=hub)


def test_what_cannot_be_published_says_what_to_run(tmp_path: Path) -> None:
    run = make_run(tmp_path, "first", "logger=none", finished=False)
    with pytest.raises(ArtifactError, match="run its stages sample and train"):
        stage(run.folder, tmp_path / "staged")
    with pytest.raises(ArtifactError, match="the hub takes one"):
        stage(run.folder.parent, tmp_path / "staged")
    with pytest.raises(ArtifactError, match="hf auth login"):
        upload(tmp_path, "me/x", public=False)  # the tests are offline


def test_a_dry_run_lists_every_file_with_its_size_and_sends_nothing(tmp_path: Path) -> None:
    run = reported_run(tmp_path)
    command = [sys.executable, "-m", "ssd.report.publish", str(run.folder), "--to", "hub"]
    done = subprocess.run(
        [*command, "--dry-run"], capture_output=True, text=True, cwd=ROOT, check=True
    )
    stage(run.folder, tmp_path / "staged")
    listed = [tuple(line.split()) for line in done.stdout.splitlines()[:-1]]
    names = [name for name, _ in contents(tmp_path / "staged")]
    assert [name for _, name in listed] == names
    assert ("7", "model.safetensors") in listed
    assert f"would go to {default_name(run.folder)}, which nobody else can read" in done.stdout
    refused = subprocess.run(command[:-2], capture_output=True, text=True, cwd=ROOT, check=False)
    assert refused.returncode == 2
