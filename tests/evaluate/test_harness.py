"""Tasks of EleutherAI's harness, answered by the models of a run: a task of one's own, offline."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from test_evaluation import SMALL, finish_checkpoint

from ssd.artifacts.files import read_json
from ssd.errors import ArtifactError, ConfigError
from ssd.evaluate.harness import run_lm_eval
from ssd.run import Run, lineage

pytest.importorskip("lm_eval", reason="needs the extra lm_eval")

TASK = """\
task: {name}
dataset_path: json
dataset_kwargs: {{data_files: {{test: {data}}}}}
output_type: {kind}
test_split: test
doc_to_text: "Question: {{{{question}}}}"
doc_to_target: "{{{{answer}}}}"
{more}
generation_kwargs: {settings}
process_results: !function measures.measures
metric_list:
  - {{metric: has_e, aggregation: mean, higher_is_better: true}}
  - {{metric: length, aggregation: mean, higher_is_better: true}}
  - {{metric: parts, aggregation: !function measures.whole, higher_is_better: true}}
"""
MEASURES = """\
def measures(doc, results):
    text = results[0]
    return {"has_e": "e" in text, "length": len(text), "parts": ["a" in text, "b" in text]}

def whole(parts):
    return sum(map(all, parts)) / len(parts)
"""
SAMPLED = '{until: ["q"], max_gen_toks: 24, do_sample: true, temperature: 1.1, top_k: 50}'


@pytest.fixture
def tasks(tmp_path: Path) -> Path:
    folder = tmp_path / "tasks"
    folder.mkdir()
    rows = [{"question": f"what is {n}?", "answer": str(n)} for n in range(12)]
    data = folder / "rows.jsonl"
    data.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    (folder / "measures.py").write_text(MEASURES)
    kinds = {
        "drawn": ("generate_until", SAMPLED, ""),
        "compared": ("multiple_choice", "{}", "doc_to_choice: [a, b]"),
        "penalised": ("generate_until", "{until: [], repetition_penalty: 2.0}", ""),
    }
    for name, (kind, settings, more) in kinds.items():
        text = TASK.format(name=name, kind=kind, settings=settings, more=more, data=data)
        (folder / f"{name}.yaml").write_text(text)
    return folder


@pytest.fixture
def run(make_run: Callable[..., Run]) -> Run:
    run = make_run(*SMALL, "sampler=transformers", "eval.max_model_len=256")
    finish_checkpoint(run)
    return run


def asked(run: Run, tasks: Path, *more: str) -> list[str]:
    return [str(run.folder), "--tasks", "drawn", "--include", str(tasks), "--plain", *more]


@pytest.mark.slow
def test_both_models_answer_and_their_scores_are_paired_by_document(
    run: Run, tasks: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run_lm_eval(asked(run, tasks))
    table = capsys.readouterr().out
    assert "drawn, has_e (none), 12 documents" in table
    stored = {
        name: read_json(run.folder / "lm_eval" / f"{name}.json") for name in ("base", "tuned")
    }
    scores = {
        name: {metric: its for _, _, metric, its in kept["scores"]} for name, kept in stored.items()
    }
    assert set(scores["base"]) == {"has_e", "length", "parts"}
    assert set(scores["base"]["parts"].values()) <= {0.0, 0.5, 1.0}
    # The same weights and seeds: a task's sampling is ours, so nothing may differ.
    assert scores["base"] == scores["tuned"]
    assert len(set(scores["base"]["length"].values())) > 1
    assert "+0.0 [" in table and "p=1" in table

    results = {
        name: (run.folder / "lm_eval" / f"{name}.json").stat().st_mtime_ns for name in stored
    }
    run_lm_eval(asked(run, tasks))
    assert "drawn, length" in capsys.readouterr().out
    for name, time in results.items():
        assert (run.folder / "lm_eval" / f"{name}.json").stat().st_mtime_ns == time
    run_lm_eval(asked(run, tasks, "--limit", "5"))
    assert "drawn, has_e (none), 5 documents" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("task", "reason"),
    [
        ("compared", "generate_until"),
        ("penalised", "repetition_penalty"),
        ("nowhere", "--tasks nowhere"),
    ],
)
def test_tasks_that_cannot_be_answered_are_refused_in_one_line(
    run: Run, tasks: Path, task: str, reason: str
) -> None:
    words = [
        str(run.folder),
        "--tasks",
        task,
        "--include",
        str(tasks),
        "--model",
        "base",
        "--plain",
    ]
    with pytest.raises(ConfigError, match=reason) as refused:
        run_lm_eval(words)
    assert "\n" not in str(refused.value)


@pytest.mark.slow
def test_the_command_says_what_a_child_refuses(run: Run, tasks: Path) -> None:
    command = [sys.executable, "-m", "ssd.evaluate", "lm_eval", str(run.folder)]
    command += ["--tasks", "compared", "--include", str(tasks), "--plain"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 3
    assert "Traceback" not in done.stderr and "generate_until" in done.stderr


def test_a_missing_checkpoint_is_named(run: Run, tasks: Path) -> None:
    shutil.rmtree(lineage.checkpoint(run).folder)
    with pytest.raises(ArtifactError, match="no finished checkpoint"):
        run_lm_eval(asked(run, tasks))
