"""What is published: all that others need for a check, without weights and without paths."""

import json
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest
from published import manifests, read_table, unpacked
from run_folders import UNDECIDED, benchmark_scores, make_run, write_scores

from ssd.artifacts.files import read_json
from ssd.artifacts.names import FAILURE, SHARDS, VERDICTS, WEIGHTS
from ssd.artifacts.store import verify
from ssd.errors import ArtifactError
from ssd.records.samples import Sample, read_samples, write_samples
from ssd.records.verdicts import Verdict, write_verdicts
from ssd.report import report, study_report
from ssd.report.published import ANSWERS, ARCHIVE, MANIFESTS, publish, without_paths
from ssd.run import Run, evidence, lineage


def finished_run(tmp_path: Path, name: str = "first") -> Run:
    """A run with scores, and the verdicts behind the tuned model's, one answer passed of two."""
    stages = "stages=[sample,train,evaluate,report]"
    run = make_run(tmp_path, name, stages, "eval.benchmarks=[humaneval]")
    write_scores(run, humaneval=benchmark_scores(run, UNDECIDED))
    verdicts = evidence.verdicts(run, "tuned", "humaneval")
    rows = [
        Verdict(
            problem_id="HumanEval/0",
            sample_index=index,
            passed=index == 0,
            status="passed" if index == 0 else "error",
            detail="" if index == 0 else f"OSError: {tmp_path}/secret, not found",
            num_tokens=100 + index,
            finish_reason="stop",
            has_fence=True,
            program="abc",
            seconds=0.5,
            backend="bwrap",
        )
        for index in range(2)
    ]
    write_verdicts(verdicts.folder / VERDICTS, rows)
    verdicts.finish(started=0.0, counts={"num_answers": 2})
    return run


def everything(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def test_a_published_run_holds_report_settings_manifests_and_every_verdict(tmp_path: Path) -> None:
    run, into = finished_run(tmp_path), tmp_path / "published"
    report(run.folder)
    assert publish(run.folder, into) == []
    files = everything(into)
    assert {"report.md", "report.html", "results.json", "config.yaml", "run.json"} <= {*files}
    assert {"scores.json", "figures/scores.png"} <= {*files}
    assert WEIGHTS not in files
    scores = read_json(into / "scores.json")
    behind = scores["benchmarks"]["humaneval"]["models"]["tuned"]["verdicts"]
    evidence_files = unpacked(into / ARCHIVE)
    rows = read_table(evidence_files[f"verdicts-{behind}.csv"])
    assert [(row["problem_id"], row["sample_index"], row["passed"]) for row in rows] == [
        ("HumanEval/0", "0", "True"),
        ("HumanEval/0", "1", "False"),
    ]
    training = lineage.checkpoint(run).fingerprint
    assert manifests(into)[training]["inputs"]["corpus"] == lineage.corpus(run).fingerprint
    lines = evidence_files[f"checkpoint-{training}.jsonl"].splitlines()
    assert [json.loads(line)["step"] for line in lines] == list(range(1, 17))


def test_the_same_run_is_published_as_the_same_bytes(tmp_path: Path) -> None:
    run = finished_run(tmp_path)
    report(run.folder)
    for into in (tmp_path / "first", tmp_path / "second"):
        publish(run.folder, into, answers=True)
    assert everything(tmp_path / "first") == everything(tmp_path / "second")


def test_no_path_of_the_machine_is_published(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, into = finished_run(tmp_path), tmp_path / "published"
    report(run.folder)
    monkeypatch.chdir(tmp_path)
    publish(run.folder, into)
    assert str(tmp_path) in (run.folder / "config.yaml").read_text()
    files = everything(into) | unpacked(into / ARCHIVE)
    assert not [name for name, content in files.items() if str(tmp_path).encode() in content]
    assert b"output_dir: ./outputs\n" in files["config.yaml"]
    assert any(b"OSError: ./secret, not found" in content for content in files.values())


def test_the_home_directory_is_a_tilde_and_only_whole_paths_are_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", "/home/ann")
    assert without_paths("/home/ann/x, /home/anna, /home/ann.") == "~/x, /home/anna, ~."
    assert without_paths(f'"{tmp_path}"') == '"."'
    monkeypatch.setenv("HOME", "/")
    assert without_paths("a/b /c") == "a/b /c"


def test_published_answers_are_found_by_the_same_run_in_an_empty_store(tmp_path: Path) -> None:
    run, into = finished_run(tmp_path), tmp_path / "published"
    answer = Sample(
        prompt_id="HumanEval/0",
        sample_index=0,
        seed=7,
        prompt_token_ids=[1, 2],
        completion_token_ids=[3, 4],
        text="an answer",
        finish_reason="stop",
    )
    answers = evidence.generations(run, "tuned", "humaneval")
    write_samples(answers.folder / SHARDS / "00000.parquet", [answer])
    answers.finish(started=0.0, counts={"num_samples": 1})
    report(run.folder)
    publish(run.folder, into)
    assert not (into / ANSWERS).exists()
    publish(run.folder, into, answers=True)
    shutil.rmtree(run.store)
    with tarfile.open(into / ANSWERS) as archive:
        archive.extractall(run.store, filter="data")
    assert verify(answers.folder) == []
    assert {path.parent.name for path in run.store.glob("*/*")} == {"corpus", "generations"}
    assert str(tmp_path).encode() not in b"".join(everything(run.store).values())
    assert lineage.corpus(run).done
    assert answers.done
    assert read_samples(answers.folder / SHARDS) == [answer]


def test_a_published_study_shares_artifacts_between_its_runs_and_names_what_failed(
    tmp_path: Path,
) -> None:
    study = finished_run(tmp_path, "a").folder.parent
    finished_run(tmp_path, "b")
    failed = study / "c"
    failed.mkdir()
    (failed / FAILURE).write_text(
        '{"stage": "sample", "message": "no memory", "time": "2026-01-01 00:00:00"}'
    )
    study_report(study)
    into = tmp_path / "published"
    into.mkdir()
    (into / "PROTOCOL.md").write_text("stays")
    (lack,) = publish(study, into)
    assert lack.startswith("c: ")
    files = everything(into)
    assert {"study.md", "study.html", "results.json", "PROTOCOL.md"} <= {*files}
    assert {"a/scores.json", "b/scores.json", f"c/{FAILURE}"} <= {*files}
    assert sum(name.startswith("verdicts") for name in unpacked(into / ARCHIVE)) == 1
    assert not [name for name in files if name.endswith((f"/{ARCHIVE}", f"/{MANIFESTS}"))]


def test_what_has_no_report_or_is_no_run_is_refused_before_anything_is_written(
    tmp_path: Path,
) -> None:
    run, into = finished_run(tmp_path), tmp_path / "published"
    with pytest.raises(ArtifactError, match=r"no report\.md: run ssd report"):
        publish(run.folder, into)
    with pytest.raises(ArtifactError, match=r"no study\.md"):
        publish(run.folder.parent, into)
    command = [sys.executable, "-m", "ssd.report.publish", str(tmp_path), str(into)]
    refused = subprocess.run(command, capture_output=True, text=True, check=False)
    assert refused.returncode == 3
    assert "is neither a run nor a study" in refused.stderr
    assert not into.exists()
