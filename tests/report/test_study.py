"""The study table: a row per run, and no run that can break it."""

import subprocess
import sys
from pathlib import Path

import pytest
from run_folders import BETTER, UNDECIDED, benchmark_scores, make_run, write_scores

from ssd.errors import ArtifactError
from ssd.report import study_report, study_table


def rows_of(table: str) -> list[list[str]]:
    lines = [line for line in table.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def test_table_has_a_row_per_run_in_the_order_of_t_train(tmp_path: Path) -> None:
    hot = make_run(
        tmp_path,
        "b_hot",
        "sampler.temp=1.6",
        "truncation=none",
        "eval.temp=1.1",
        "eval.benchmarks=[humaneval]",
    )
    cold = make_run(tmp_path, "c_cold", "sampler.temp=0.8", "eval.benchmarks=[humaneval]")
    write_scores(hot, humaneval=benchmark_scores(hot, BETTER))
    write_scores(cold, humaneval=benchmark_scores(cold, UNDECIDED))
    table = study_table(hot.folder.parent)
    rows = rows_of(table)
    assert rows[0][:4] == ["Run", "T_train", "Truncation", "T_eval"]
    assert rows[0][4:] == [
        "humaneval pass@1 base",
        "humaneval pass@1 tuned",
        "humaneval pass@1 difference",
    ]
    assert rows[2] == [
        "c_cold", "0.8", "top-k 20, top-p 0.8", "0.7",
        "37.5% [18.8, 56.2]", "41.7% [20.0, 65.0]", "+4.2 [-8.3, +16.7]",
    ]  # fmt: skip
    assert rows[3][:4] == ["b_hot", "1.6", "none", "1.1"]
    assert rows[3][6] == "+6.2 [+1.0, +12.0]"
    assert "biased upwards" in table
    assert "Unfinished" not in table


def test_unfinished_and_damaged_runs_are_listed_and_break_nothing(tmp_path: Path) -> None:
    whole = make_run(tmp_path, "whole", "eval.benchmarks=[humaneval]")
    write_scores(whole, humaneval=benchmark_scores(whole, UNDECIDED))
    make_run(tmp_path, "begun", finished=False)
    (make_run(tmp_path, "no_weights").folder / "weights.json").unlink()
    (make_run(tmp_path, "bad_scores").folder / "scores.json").write_text("{", encoding="utf-8")
    (make_run(tmp_path, "bad_config").folder / "config.yaml").write_text("a: [", encoding="utf-8")
    (make_run(tmp_path, "other_config").folder / "config.yaml").write_text(
        "sampler: {tmep: 1}", encoding="utf-8"
    )
    table = study_table(whole.folder.parent)
    assert [row[0] for row in rows_of(table)[2:]] == ["whole"]
    listed = table[table.index("Unfinished") :]
    assert "- begun: There is no scores.json" in listed
    for name in ("no_weights", "bad_scores", "bad_config", "other_config"):
        assert f"- {name}: " in listed


def test_a_run_with_some_benchmarks_has_a_row_and_is_listed(tmp_path: Path) -> None:
    both, one = make_run(tmp_path, "both"), make_run(tmp_path, "one")
    write_scores(
        both,
        humaneval=benchmark_scores(both, UNDECIDED),
        mbpp=benchmark_scores(both, BETTER, "mbpp"),
    )
    write_scores(one, humaneval=benchmark_scores(one, UNDECIDED))
    table = study_table(one.folder.parent)
    assert rows_of(table)[3][-3:] == ["-", "-", "-"]
    assert "- one: mbpp has not been scored." in table


def test_scores_of_other_settings_get_no_row(tmp_path: Path) -> None:
    run = make_run(tmp_path, "edited", "eval.benchmarks=[humaneval]")
    write_scores(run, humaneval=benchmark_scores(run, BETTER))
    edited = make_run(tmp_path, "edited", "eval.benchmarks=[humaneval]", "sampler.temp=1.7")
    table = study_table(edited.folder.parent)
    assert rows_of(table) == []
    assert "- edited: The tuned scores on humaneval belong to other settings" in table


def test_a_study_of_unfinished_runs_says_so(tmp_path: Path) -> None:
    run = make_run(tmp_path, finished=False)
    assert study_table(run.folder.parent).startswith("No run has scores yet.")


def test_study_report_writes_the_table_it_returns(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    write_scores(run, humaneval=benchmark_scores(run, UNDECIDED))
    study = run.folder.parent
    table = study_report(study)
    assert (study / "study.md").read_text(encoding="utf-8") == f"# Study main\n\n{table}\n"


def test_a_folder_without_runs_is_no_study(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="name a folder of run folders"):
        study_table(tmp_path)


def test_command_line_prints_the_table(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    write_scores(run, humaneval=benchmark_scores(run, UNDECIDED))
    command = [sys.executable, "-m", "ssd.report", str(run.folder.parent)]
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert "| first" in printed
    assert (run.folder.parent / "study.md").is_file()


def test_the_study_table_needs_no_plotting_library() -> None:
    heavy = "{'matplotlib', 'jinja2', 'torch', 'vllm'}"
    code = f"import sys, ssd.report.study; print(sorted({heavy} & set(sys.modules)))"
    printed = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout
    assert printed.strip() == "[]"
