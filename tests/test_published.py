"""What `results/` holds: few files with plain names, true links, and numbers that can be made again
from what is published."""

import re
import subprocess
import urllib.parse
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from published import read_table, restore, unpacked
from runs import ROOT

from ssd.artifacts.files import read_json
from ssd.artifacts.names import RESULTS, SCORES
from ssd.report.published import ARCHIVE
from ssd.report.results import run_results, study_results
from ssd.report.run.facts import collect
from ssd.report.study.collection import collect_study

PUBLISHED = ROOT / "results"
RUNS = sorted(path.parent for path in PUBLISHED.rglob(SCORES))
TEXTS = [
    ROOT / "README.md", ROOT / "CHANGELOG.md", *(ROOT / "docs").glob("*.md"),
    *PUBLISHED.rglob("*.md"),
]  # fmt: skip
LINK = re.compile(r"\]\(<?([^)<>\s]+)>?\)")
COMMAND_PATH = re.compile(r"(?<![\w/.])results/[\w./-]+")
AGAIN = {"source", "analysis", "text"}
"""Where the weights lay is not published, nor the positions behind an analysis; a verdict's words
are those of the version that wrote them."""


def archive_of(run: Path) -> Path:
    """The verdicts of a run, which a study's runs share."""
    return next(
        folder / ARCHIVE for folder in (run, run.parent) if (folder / ARCHIVE).is_file()
    )  # fmt: skip


def changes(before: Any, after: Any, path: str = "") -> list[str]:
    """Where `after` says something else than `before`; what it adds is none."""
    if isinstance(before, dict) and isinstance(after, dict):
        return [
            change
            for key, value in before.items()
            if key not in AGAIN
            for change in changes(value, after.get(key), f"{path}/{key}")
        ]
    if isinstance(before, list) and isinstance(after, list) and len(before) == len(after):
        pairs = enumerate(zip(before, after, strict=True))
        return [c for number, pair in pairs for c in changes(*pair, f"{path}/{number}")]
    return [] if before == after else [f"{path}: {before} -> {after}"]


def test_results_are_few_files_with_names_that_a_shell_takes() -> None:
    command = ["git", "-C", str(ROOT), "ls-files", "-z", "results"]
    listed = subprocess.run(command, capture_output=True, text=True, check=False)
    if listed.returncode:
        pytest.skip("no git checkout")
    names = listed.stdout.strip("\0").split("\0")
    assert len(names) < 25 * len(RUNS)
    assert [name for name in names if not re.fullmatch(r"[A-Za-z0-9._/-]+", name)] == []


def test_every_link_leads_to_a_file() -> None:
    for text in TEXTS:
        content = text.read_text(encoding="utf-8")
        links = [link.partition("#")[0] for link in LINK.findall(content) if "://" not in link]
        missing = [
            link for link in links if not (text.parent / urllib.parse.unquote(link)).exists()
        ]
        assert missing == [], text


def test_every_result_that_a_text_or_command_names_is_there() -> None:
    for text in [*TEXTS, *(ROOT / "conf").rglob("*.yaml")]:
        for line in text.read_text(encoding="utf-8").splitlines():
            if "git archive" not in line and "benchmarks/results" not in line:
                for name in COMMAND_PATH.findall(line):
                    assert (ROOT / name.rstrip(".")).exists(), f"{text}: {name}"


@pytest.mark.parametrize("run", RUNS, ids=lambda run: run.name[-16:])
def test_published_scores_are_those_of_the_published_verdicts(run: Path) -> None:
    verdicts = unpacked(archive_of(run))
    for benchmark in read_json(run / SCORES)["benchmarks"].values():
        for model in benchmark["models"].values():
            passed: dict[str, list[bool]] = {}
            for row in read_table(verdicts[f"verdicts-{model['verdicts']}.csv"]):
                passed.setdefault(row["problem_id"], []).append(row["passed"] == "True")
            shares = [np.mean(answers) for answers in passed.values()]
            assert np.mean(shares) == pytest.approx(model["pass@1"]["value"], abs=1e-6)


@pytest.mark.parametrize("name", ["default_run", "laptop_replication", "laptop_soft"])
def test_unpacked_results_are_reported_with_the_same_numbers(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # the published output_dir is relative
    published = PUBLISHED / name
    study = restore(published, Path("outputs"), "main" if name == "default_run" else name)
    for run in study.iterdir():
        folder = published / run.name if (published / run.name).is_dir() else published
        again = run_results(collect(run, read_positions=False))
        assert changes(read_json(folder / RESULTS), again) == []
    if name != "default_run":
        before, after = read_json(published / RESULTS), study_results(collect_study([study], study))
        assert changes(before["fits"], after["fits"]) == []
        assert len(before["runs"]) == len(after["runs"]) == len(list(study.iterdir()))
