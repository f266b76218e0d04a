"""A whole run beyond code: prompts and benchmark of GSM8K's form, real engine, real training."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from runs import ROOT

from ssd.artifacts.files import read_json


@pytest.mark.slow
def test_a_run_on_gsm8k_samples_trains_judges_and_reports_values(tmp_path: Path) -> None:
    for name, first in (("train", 0), ("test", 100)):
        rows = [
            {"question": f"What is {n} + 1?", "answer": f"{n} + 1\n#### {n + 1}"}
            for n in range(first, first + 12)
        ]
        lines = "".join(f"{json.dumps(row)}\n" for row in rows)
        (tmp_path / f"{name}.jsonl").write_text(lines)
    command = [
        sys.executable, str(ROOT / "train.py"), "model=tiny", "data=file", "data.name=gsm8k",
        "data.path=train.jsonl", "prompt_format=math", "eval=gsm8k", "eval.files.gsm8k=test.jsonl",
        "eval.grading=math_verify", "eval.sandbox=bwrap", "logger=none", "run_name=values",
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    run = tmp_path / "outputs" / "main" / "values"
    scores = read_json(run / "scores.json")
    assert scores["sandbox"] == ""
    gsm8k = scores["benchmarks"]["gsm8k"]
    assert (gsm8k["grading"], list(gsm8k["models"])) == ("math_verify", ["base", "tuned"])
    assert "boxed" in done.stdout and "code ran" not in done.stdout
    report = (run / "report.md").read_text()
    assert "With box" in report and "Generated programs ran" not in report
