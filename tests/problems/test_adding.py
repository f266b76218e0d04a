"""A benchmark is added as docs/benchmarks.md says, to a copy of the project, and grades answers."""

import json
import os
import re
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from runs import ROOT

SECTION = (
    (ROOT / "docs" / "benchmarks.md").read_text(encoding="utf-8").partition("## Adding a b")[2]
)
FILES = re.findall(r"^\d\. `([^`]+)`.*?```\w+\n(.*?)^ *```", SECTION, re.DOTALL | re.MULTILINE)
"""Paths and contents, in the order of the steps."""


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The project with the benchmark of the page."""
    folder = tmp_path_factory.mktemp("project")
    for name in ("src", "conf"):
        shutil.copytree(
            ROOT / name, folder / name, symlinks=True, ignore=shutil.ignore_patterns("__pycache__")
        )
    shutil.copy(ROOT / "train.py", folder)
    for path, text in FILES:
        assert not (folder / path).exists()
        (folder / path).write_text(textwrap.dedent(text), encoding="utf-8")
    registry = folder / "src/ssd/problems/benchmarks/registry.py"
    text = registry.read_text(encoding="utf-8")
    text = text.replace("import evalplus,", "import arithmetic, evalplus,")
    text = text.replace("own.JSONL,", "own.JSONL, arithmetic.ARITHMETIC,")
    registry.write_text(text, encoding="utf-8")
    return folder


def python(project: Path, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, *arguments],
        capture_output=True,
        text=True,
        check=False,
        cwd=project,
        env={**os.environ, "PYTHONPATH": str(project / "src")},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_canonical_answers_pass_and_others_fail(project: Path) -> None:
    rows = [json.loads(line) for line in textwrap.dedent(FILES[0][1]).splitlines()]
    for name, change in (("canonical", ""), ("wrong", "\n    pass\ndel add, half\n")):
        answers = project / f"{name}.jsonl"
        lines = (
            {"task_id": f"arithmetic/{row['id']}", "solution": row["solution"] + change}
            for row in rows
        )
        answers.write_text("".join(json.dumps(line) + "\n" for line in lines))
    grade = ("-m", "ssd.evaluate", "grade")
    printed = python(project, *grade, "canonical.jsonl", "--benchmark", "arithmetic")
    assert f"{len(rows)} passed" in printed
    assert "passed" not in python(project, *grade, "wrong.jsonl", "--benchmark", "arithmetic")


def test_its_yaml_composes_and_its_size_and_prompt_are_asked_by_name(project: Path) -> None:
    shown = python(project, "train.py", "eval=arithmetic", "--cfg", "job")
    assert "- arithmetic" in shown
    assert "name: arithmetic" in shown
    lines = [
        "from ssd.problems.benchmarks.registry import find_entry, load_benchmark",
        "from ssd.config.choices import Grading",
        "from ssd.config.settings import BenchmarkFiles",
        "benchmark = load_benchmark('arithmetic', BenchmarkFiles(), Grading.official)",
        "assert len(benchmark.tasks) == find_entry('arithmetic').size",
    ]
    python(project, "-c", "\n".join(lines))
