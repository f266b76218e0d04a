"""The study's report: a compact table, a page with figures, and no run that can break them."""

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from run_folders import (
    BETTER,
    UNDECIDED,
    benchmark_scores,
    controlled_scores,
    finish_corpus,
    interval,
    make_run,
    write_scores,
)

from ssd.arms import BASE, SWEPT
from ssd.errors import ArtifactError
from ssd.report import study_report
from ssd.report.render.document import Document, Table
from ssd.report.run.facts import run_costs
from ssd.report.study.cells import fit_cells
from ssd.report.study.collection import Study, collect_study
from ssd.report.study.document import document
from ssd.report.study.plane import planes
from ssd.report.study.rows import study_table
from ssd.run import Run

ONE = "eval.benchmarks=[humaneval]"
T_EVALS = (0.5, 0.7, 0.9, 1.1, 1.3)
OLD_NAME = 0.8
"""T_train of the run whose folder has its old name."""


def rows_of(table: str) -> list[list[str]]:
    lines = [line for line in table.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def collected(study_dir: Path) -> Study:
    return collect_study([study_dir], study_dir)


def sweep(t_train: float, problems: int = 41) -> dict[str, Any]:
    """Held-out scores on a parabola in T_eff whose peak lies at 1.2."""
    shares = [0.5 - 0.1 * (t_train * t_eval - 1.2) ** 2 for t_eval in T_EVALS]
    rows = [
        {
            "temp": t_eval,
            "top_k": 20,
            "top_p": 0.8,
            "checkpoint_step": None,
            "num_problems": problems,
            "pass@1": interval(share, share - 0.1, share + 0.1),
            "chosen": share == max(shares),
        }
        for t_eval, share in zip(T_EVALS, shares, strict=True)
    ]
    return {
        "mode": "heldout",
        "validation": "hash",
        "problems": {"humaneval": [f"HumanEval/{number}" for number in range(problems)]},
        "sweeps": {"tuned": rows},
    }


def make_grid(tmp_path: Path) -> list[Run]:
    """Three T_train by five T_eval, with the base model swept as control; one run has a folder from
    before names were fit for a shell."""
    runs = []
    for t_train in (0.8, 1.2, 1.6):
        name = f"model-tiny__sampler.temp-{t_train}"
        if t_train == OLD_NAME:
            name = f"model=tiny,sampler.temp={t_train}"
        temps = f"eval.temps={list(T_EVALS)}"
        run = make_run(tmp_path, name, f"sampler.temp={t_train}", temps, ONE)
        differences = {BASE: BETTER, SWEPT: UNDECIDED}
        write_scores(run, sweep(t_train), humaneval=controlled_scores(run, differences))
        runs.append(run)
    return runs


@pytest.fixture(scope="module")
def grid(tmp_path_factory: pytest.TempPathFactory) -> Study:
    """A written study of a grid with one run that failed."""
    tmp_path = tmp_path_factory.mktemp("grid")
    first, *_ = make_grid(tmp_path)
    failed = make_run(tmp_path, "model-tiny__sampler.temp-2", "sampler.temp=2", finished=False)
    text = '{"stage": "stage train", "message": "lost <b>memory", "time": "now", "command": []}'
    (failed.folder / "failed.json").write_text(text, encoding="utf-8")
    return study_report(first.folder.parent)


def section(content: Document, title: str) -> str:
    return str(next(one for one in content.sections if one.title == title))


def test_the_compact_table_shows_what_differs_and_marks_what_failed(grid: Study) -> None:
    table = study_table(grid)
    head, _, *rows = rows_of(table)
    assert head == [
        "Run", "T_train", "Held-out", "humaneval tuned", "minus strongest rival",
    ]  # fmt: skip
    assert [row[:2] for row in rows[:3]] == [["1", "1.6"], ["2", "1.2"], ["3", "0.8"]]
    assert rows[0][3:] == ["55.0%", "+4.2 [-8.3, +16.7] base_swept"]
    assert rows[-1][0] == "sampler.temp-2" and rows[-1][-1] == "failed"
    assert "Sorted by the column Held-out" in table
    assert r"- model-tiny__sampler.temp-2: failed. stage train: lost <b>memory (now)" in table


def test_a_study_has_a_page_with_everything_and_results_for_machines(grid: Study) -> None:
    page = (grid.folder / "study.html").read_text(encoding="utf-8")
    text = (grid.folder / "study.md").read_text(encoding="utf-8")
    assert text.startswith("# Study main\n")
    for name in ("model=tiny,sampler.temp=0.8", "plane_1.png", "t_eff_1.png", "## Cost"):
        assert name in text
    assert "<b>memory" not in page and "&lt;b&gt;memory" in page
    assert (grid.folder / "results.json").is_file()
    figures = {path.name for path in (grid.folder / "figures").iterdir()}
    assert figures == {"plane_1.png", "plane_1.svg", "t_eff_1.png", "t_eff_1.svg"}


def test_the_plane_the_fit_and_the_advice_say_what_the_scores_say(grid: Study) -> None:
    (plane,) = planes(grid.runs)
    assert len(plane.best) == 15
    assert plane.chosen_places == {(0.8, 1.3), (1.2, 0.9), (1.6, 0.7)}
    fit = fit_cells(plane.cells)
    assert fit is not None and fit.peak == pytest.approx(1.2) and fit.r_squared > 0.999
    figures = {one.name: one for one in document(grid).figures}
    assert "T_train 1.2: 46.4% at T_eval 0.5" in figures["plane_1"].alt
    assert "41 held-out problems of humaneval" in figures["plane_1"].caption
    assert "its peak lies at T_eff 1.20" in figures["t_eff_1"].alt
    assert "T_eval worth trying" in section(document(grid), "Temperatures")


def test_scores_that_do_not_locate_the_peak_say_so(tmp_path: Path) -> None:
    """Five scores all but flat: resamples of them peak beyond what was tried."""
    run = make_run(tmp_path, "one", "sampler.temp=1.6", f"eval.temps={list(T_EVALS)}", ONE)
    swept = sweep(1.6)
    for row, share in zip(swept["sweeps"]["tuned"], (0.36, 0.38, 0.35, 0.37, 0.34), strict=True):
        row["pass@1"] = interval(share, share - 0.1, share + 0.1)
    write_scores(run, swept, humaneval=controlled_scores(run, {BASE: UNDECIDED}))
    figures = {one.name: one for one in document(collected(run.folder.parent)).figures}
    told = figures["t_eff_1"].alt
    assert "is not located: the 95% interval" in told
    assert "leaves the tried 0.80 to 2.08, so no T_eval follows from it." in told


def test_summary_names_the_best_by_held_out_score_its_rival_and_what_failed(grid: Study) -> None:
    summary = section(document(grid), "Summary")
    assert "3 runs with scores; 1 failed" in summary
    assert "The best by held-out score is run 1: T_train" in summary
    assert "base_swept" in summary
    assert "lost <b>memory" in summary


def test_runs_with_the_same_score_are_not_called_best(tmp_path: Path) -> None:
    runs = [make_run(tmp_path, name, ONE, f"seed={n}") for n, name in enumerate("ab")]
    for run in runs:
        write_scores(run, humaneval=benchmark_scores(run, UNDECIDED))
    summary = section(document(collected(runs[0].folder.parent)), "Summary")
    assert "2 runs share the highest reported score" in summary
    assert "(runs 1: Seed 0; 2: Seed 1)" in summary
    assert "best" not in summary


def test_every_part_of_a_gain_stands_in_a_row_with_its_interval(tmp_path: Path) -> None:
    run = make_run(tmp_path, "parts", ONE)
    steps = {arm: {"pass@1": interval(0.02, -0.03, 0.07, p_value=0.4)} for arm in (SWEPT, "t1")}
    differences = {BASE: BETTER, SWEPT: UNDECIDED, "t1": UNDECIDED}
    write_scores(run, humaneval=controlled_scores(run, differences, steps=steps))
    controls = next(one for one in document(collected(run.folder.parent)).sections
                    if one.title == "Controls")  # fmt: skip
    table = next(block for block in controls.blocks if isinstance(block, Table)
                 and block.columns[1] == "Part")  # fmt: skip
    assert [row[2] for row in table.rows] == [
        "tuned minus base", "base_swept minus base", "t1 minus base_swept", "tuned minus t1",
    ]  # fmt: skip
    assert table.rows[1][3] == "+2.0 [-3.0, +7.0], p = 0.400"
    assert all("[" in row[3] for row in table.rows)


def test_a_part_between_the_same_answers_says_so(tmp_path: Path) -> None:
    run = make_run(tmp_path, "parts", ONE)
    stored = controlled_scores(run, {BASE: BETTER, SWEPT: BETTER, "t1": UNDECIDED})
    stored["models"]["t1"]["generations"] = "others"
    write_scores(run, humaneval=stored)
    text = section(document(collected(run.folder.parent)), "Controls")
    assert "+0.0 (the same answers)" in text
    assert "(no interval)" in text  # of t1, as in scores of earlier versions


def test_lists_among_the_settings_that_differ_are_words(tmp_path: Path) -> None:
    for name, benchmarks in (("a", "[humaneval]"), ("b", "[humaneval,mbpp]")):
        run = make_run(tmp_path, name, f"eval.benchmarks={benchmarks}")
        write_scores(run, humaneval=benchmark_scores(run, UNDECIDED))
    table = study_table(collected(run.folder.parent))
    assert "humaneval, mbpp" in table
    assert "['" not in table


def test_steps_of_a_training_at_one_pair_of_temperatures_are_told_apart(tmp_path: Path) -> None:
    run = make_run(tmp_path, "steps", ONE)
    chosen = sweep(1.6)
    rows = chosen["sweeps"]["tuned"]
    earlier = [row | {"checkpoint_step": 3, "chosen": False} for row in rows]
    chosen["sweeps"]["tuned"] = rows + earlier
    write_scores(run, chosen, humaneval=benchmark_scores(run, UNDECIDED))
    (figure,) = (one for one in document(collected(run.folder.parent)).figures
                 if one.name == "t_eff_1")  # fmt: skip
    assert "above each other are several steps of a training" in figure.caption
    drawn = figure.drawing("svg").decode()
    assert "T_train 1.2, step 3" in drawn and "T_train 1.2, last step" in drawn


def test_what_runs_share_is_counted_once_in_the_total(tmp_path: Path) -> None:
    shared = make_run(tmp_path, "a", ONE, "train.max_steps=4")
    other = make_run(tmp_path, "b", ONE, "train.max_steps=5")
    for run in (shared, other):
        finish_corpus(run)
        write_scores(run, humaneval=benchmark_scores(run, UNDECIDED))
    study = collected(shared.folder.parent)
    first, second = (run_costs(facts) for facts in study.runs)
    assert {one.kind for one in first} == {"corpus", "checkpoint"}
    assert len({*first, *second}) == 3  # one corpus, two checkpoints
    text = section(document(study), "Cost")
    assert "1 of 3 artifacts are used by several runs, which saved 1 min 15 s." in text
    added, once = re.search(
        r"'All rows added up', '([^']+)'.*'Spent, shared artifacts once', '([^']+)'", text
    ).groups()  # type: ignore[union-attr]
    assert (added, once) == ("2 min 30 s", "1 min 15 s")


def test_too_few_temperatures_are_not_fitted(tmp_path: Path) -> None:
    run = make_run(tmp_path, "one", ONE)
    write_scores(run, humaneval=benchmark_scores(run, UNDECIDED))
    content = document(collected(run.folder.parent))
    assert not content.figures
    assert "one temperature pair only" in section(content, "Temperatures")
    assert "No run has controls" in section(content, "Controls")


def test_cells_on_other_problems_or_truncations_get_a_plane_of_their_own(tmp_path: Path) -> None:
    runs = make_grid(tmp_path)
    temps = f"eval.temps={list(T_EVALS)}"
    cut = make_run(tmp_path, "cut", "sampler.temp=1.2", "truncation=top_k10", temps, ONE)
    write_scores(cut, sweep(1.2), humaneval=benchmark_scores(cut, UNDECIDED))
    fewer = make_run(tmp_path, "fewer", "sampler.temp=1.2", "seed=1", temps, ONE)
    write_scores(fewer, sweep(1.2, 30), humaneval=benchmark_scores(fewer, UNDECIDED))
    found = planes(collected(runs[0].folder.parent).runs)
    assert sorted(len(plane.cells) for plane in found) == [5, 5, 15]


def test_a_setting_without_a_column_of_its_own_gets_one_where_it_differs(tmp_path: Path) -> None:
    for clip in ("0.5", "1.0"):
        run = make_run(tmp_path, f"clip{clip}", ONE, f"train.grad_clip={clip}")
        write_scores(run, humaneval=benchmark_scores(run, UNDECIDED))
    head, _, *rows = rows_of(study_table(collected(run.folder.parent)))
    assert head[:2] == ["Run", "train.grad_clip"]
    assert sorted(row[1] for row in rows) == ["0.5", "1.0"]


def test_without_held_out_scores_rows_are_sorted_by_reported_ones_with_a_warning(
    tmp_path: Path,
) -> None:
    hot = make_run(tmp_path, "b_hot", "sampler.temp=1.6", "truncation=none", "eval.temp=1.1", ONE)
    cold = make_run(tmp_path, "a_cold", "sampler.temp=0.8", ONE)
    write_scores(hot, humaneval=benchmark_scores(hot, BETTER))
    write_scores(cold, humaneval=benchmark_scores(cold, UNDECIDED))
    table = study_table(collected(hot.folder.parent))
    head, _, *rows = rows_of(table)
    assert head == ["Run", "T_train", "Truncation", "T_eval", "humaneval tuned",
                    "minus strongest rival"]  # fmt: skip
    assert rows == [
        ["1", "1.6", "none", "1.1", "43.8%", "+6.2 [+1.0, +12.0]"],
        ["2", "0.8", "top-k 20, top-p 0.8", "0.7", "41.7%", "+4.2 [-8.3, +16.7]"],
    ]
    assert "Sorted by reported score" in table and "biased upwards" in table
    assert "Unfinished" not in table


def test_a_run_with_some_benchmarks_has_a_row_and_is_listed(tmp_path: Path) -> None:
    both, one = make_run(tmp_path, "both"), make_run(tmp_path, "one")
    write_scores(
        both,
        humaneval=benchmark_scores(both, UNDECIDED),
        mbpp=benchmark_scores(both, BETTER, "mbpp"),
    )
    write_scores(one, humaneval=benchmark_scores(one, UNDECIDED))
    table = study_table(collected(one.folder.parent))
    rows = {row[0]: row for row in rows_of(table)}
    assert rows["one"][-2:] == ["-", "-"]
    assert "- one: unfinished. mbpp has not been scored." in table


def test_a_study_of_unfinished_runs_says_so_and_is_written(tmp_path: Path) -> None:
    run = make_run(tmp_path, finished=False)
    study = study_report(run.folder.parent)
    assert study_table(study).startswith("No run has scores yet.")
    assert "0 runs with scores; 1 unfinished." in (study.folder / "study.md").read_text()


def test_a_folder_without_runs_is_no_study(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="name run folders"):
        study_report(tmp_path)


def test_command_line_collects_any_runs_into_a_folder(tmp_path: Path) -> None:
    run = make_run(tmp_path, "first", ONE)
    write_scores(run, humaneval=benchmark_scores(run, UNDECIDED))
    command = [sys.executable, "-m", "ssd.report", str(run.folder)]
    into = ["--into", str(tmp_path / "both")]
    printed = subprocess.run(
        [*command, str(tmp_path / "missing"), *into], capture_output=True, text=True, check=True
    ).stdout
    assert "| first" in printed and "holds no run" in printed
    assert (tmp_path / "both" / "study.html").is_file()
    refused = subprocess.run(
        [*command, str(tmp_path / "missing")], capture_output=True, text=True, check=False
    )
    assert "add --into FOLDER" in refused.stderr


def test_the_study_table_needs_no_plotting_library() -> None:
    heavy = "{'matplotlib', 'jinja2', 'torch', 'vllm', 'pyarrow'}"
    code = (
        f"import sys, ssd.report, ssd.report.study.rows; print(sorted({heavy} & set(sys.modules)))"
    )
    printed = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout
    assert printed.strip() == "[]"
