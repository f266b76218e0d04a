"""Parts of a target: pairs of runs that differ in their objective alone."""

from pathlib import Path

import pytest
from answers import make_verdict
from run_folders import UNDECIDED, benchmark_scores, make_run, write_scores

from ssd.artifacts.names import VERDICTS
from ssd.records.verdicts import write_verdicts
from ssd.report.render.document import Document, Paragraph, Table
from ssd.report.render.html import html
from ssd.report.render.markdown import markdown
from ssd.report.study.collection import collect_study
from ssd.report.study.document import document
from ssd.report.study.rows import study_table
from ssd.run import evidence

DRAWN = ("sampler.temp=1.6", "truncation=top_k10")
PROBLEMS, ANSWERS = 24, 2
PASSED = {"cross_entropy": 6, "soft": 12, "soft_temperature": 3, "soft_truncation": 9}


def scored(tmp_path: Path, name: str, passed: int, *settings: str) -> Path:
    """A run whose tuned model passes the first problems, each answer alike."""
    run = make_run(tmp_path, name, *settings, "eval.benchmarks=[humaneval]")
    write_scores(run, humaneval=benchmark_scores(run, UNDECIDED, num_problems=PROBLEMS))
    verdicts = evidence.verdicts(run, "tuned", "humaneval")
    write_verdicts(
        verdicts.folder / VERDICTS,
        [
            make_verdict(f"p/{problem}", index, problem < passed)
            for problem in range(PROBLEMS)
            for index in range(ANSWERS)
        ],
    )
    verdicts.finish(started=0.0, counts={})
    return run.folder


def written(tmp_path: Path) -> Document:
    """The study's report, which renders in both forms."""
    folder = tmp_path / "outputs" / "main"
    content = document(collect_study([folder], folder))
    assert markdown(content)
    assert html(content)
    return content


def parts(content: Document) -> tuple[list[list[str]], str]:
    """Rows and sentences of the section, if there is one."""
    blocks = [
        block
        for one in content.sections
        if one.title == "Parts of the target"
        for block in one.blocks
    ]
    rows = [row for block in blocks if isinstance(block, Table) for row in block.rows]
    return rows, " ".join(str(block) for block in blocks if isinstance(block, Paragraph))


def test_each_part_is_the_difference_of_two_runs_on_the_same_problems(tmp_path: Path) -> None:
    for objective, passed in PASSED.items():
        scored(tmp_path, objective, passed, *DRAWN, f"objective={objective}")
    scored(tmp_path, "elsewhere", 24, *DRAWN, "objective=soft", "optimizer.lr=2e-3")
    rows, _ = parts(written(tmp_path))
    assert [row[0].split(",")[0] for row in rows] == [
        "drawn tokens", "the temperature", "the truncation",
    ]  # fmt: skip
    changes = [row[-1].split(" [")[0] for row in rows]
    # Of 24 problems the hard run passes 6 and the soft one 12; alone, truncation 9, temperature 3.
    assert changes == ["-25.0", "+12.5", "+37.5"]
    assert [cell.split(" [")[0] for cell in rows[0][2:4]] == ["25.0%", "50.0%"]


def test_a_run_that_differs_otherwise_is_no_partner(tmp_path: Path) -> None:
    scored(tmp_path, "hard", 6, *DRAWN)
    scored(tmp_path, "soft", 12, *DRAWN, "objective=soft", "seed=1")
    scored(tmp_path, "mixed", 12, *DRAWN, "objective=soft", "objective.soft_weight=0.5")
    assert parts(written(tmp_path)) == ([], "")


@pytest.mark.parametrize("temp", ["1", "1.6"])
def test_a_target_that_equals_the_sampling_is_the_whole_one(tmp_path: Path, temp: str) -> None:
    """A corpus without truncation has one half, which is the method."""
    drawn = (f"sampler.temp={temp}", "truncation=none")
    scored(tmp_path, "hard", 6, *drawn)
    scored(tmp_path, "soft", 12, *drawn, "objective=soft_temperature")
    rows, _ = parts(written(tmp_path))
    assert [row[0].split(",")[0] for row in rows] == ["drawn tokens"]


def test_lost_verdicts_are_said(tmp_path: Path) -> None:
    scored(tmp_path, "hard", 6, *DRAWN)
    scored(tmp_path, "soft", 12, *DRAWN, "objective=soft")
    for file in tmp_path.glob(f"**/{VERDICTS}"):
        file.unlink()
    rows, text = parts(written(tmp_path))
    assert rows == []
    assert "Not compared, drawn tokens" in text and VERDICTS in text


def test_runs_are_told_apart_by_their_target(tmp_path: Path) -> None:
    scored(tmp_path, "both", 6, *DRAWN, "objective=soft")
    scored(tmp_path, "cut", 6, *DRAWN, "objective=soft_truncation")
    scored(tmp_path, "weighted", 6, *DRAWN, "objective=cross_entropy_per_sample")
    folder = tmp_path / "outputs" / "main"
    table = study_table(collect_study([folder], folder))
    for words in (" Objective |", " soft |", "soft (temp 1.0)", "cross_entropy, per sample"):
        assert words in table, table
