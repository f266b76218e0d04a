"""Studies are collected from any folders, and no run can keep the others back."""

from pathlib import Path
from typing import Any

import pytest
from run_folders import (
    BETTER,
    UNDECIDED,
    benchmark_scores,
    interval,
    make_run,
    make_selection,
    write_scores,
)

from ssd.artifacts.files import read_json, write_json
from ssd.errors import ArtifactError
from ssd.method.decoding import Decoding
from ssd.report.study.cells import cells, curves
from ssd.report.study.collection import Study, collect_study, run_names
from ssd.run import Run

ONE = "eval.benchmarks=[humaneval]"
CHOOSES = "eval.temps=[0.7,1.0,1.3]"


def chosen_at(share: float) -> dict[str, Any]:
    """A held-out choice whose best setting scores `share`, and its others nothing."""
    selection = make_selection()
    for row in selection["sweeps"]["tuned"]:
        row["pass@1"] = interval(share if row["chosen"] else 0.0, 0.0, 1.0)
    return selection


def scored(tmp_path: Path, name: str, *overrides: str, share: float | None = None) -> Run:
    settings = (ONE, *overrides) if share is None else (ONE, CHOOSES, *overrides)
    run = make_run(tmp_path, name, *settings)
    selection = None if share is None else chosen_at(share)
    write_scores(run, selection, humaneval=benchmark_scores(run, UNDECIDED))
    return run


def collected(study_dir: Path) -> Study:
    return collect_study([study_dir], study_dir)


def states(study: Study) -> dict[str, str]:
    return {one.name: one.state for one in study.unfinished}


def test_runs_are_sorted_by_held_out_score_and_those_without_follow_by_reported_score(
    tmp_path: Path,
) -> None:
    scored(tmp_path, "a_low", share=0.25)
    scored(tmp_path, "b_high", share=0.75)
    scored(tmp_path, "c_alike")
    better = make_run(tmp_path, "d_better", ONE)
    write_scores(better, humaneval=benchmark_scores(better, BETTER))
    study = collected(better.folder.parent)
    names = [facts.run.folder.name for facts in study.runs]
    assert names == ["b_high", "a_low", "d_better", "c_alike"]
    assert [facts.held_out is not None for facts in study.runs] == [True, True, False, False]


def test_a_choice_on_the_test_problems_is_no_held_out_score(tmp_path: Path) -> None:
    run = make_run(tmp_path, "first", ONE, CHOOSES, "eval.selection=test")
    write_scores(run, make_selection("test"), humaneval=benchmark_scores(run, BETTER))
    (facts,) = collected(run.folder.parent).runs
    assert facts.held_out is None
    assert not any(cell.held_out for cell in cells([facts]))


def test_what_cannot_be_read_becomes_an_entry_with_state_and_reason(tmp_path: Path) -> None:
    whole = scored(tmp_path, "whole")
    make_run(tmp_path, "begun", finished=False)
    (make_run(tmp_path, "no_weights").folder / "weights.json").unlink()
    (make_run(tmp_path, "odd_weights").folder / "weights.json").write_text("[1]", encoding="utf-8")
    (make_run(tmp_path, "bad_scores").folder / "scores.json").write_text("{", encoding="utf-8")
    (make_run(tmp_path, "no_scores").folder / "scores.json").write_text("[]", encoding="utf-8")
    (make_run(tmp_path, "bad_config").folder / "config.yaml").write_text("a: [", encoding="utf-8")
    (make_run(tmp_path, "a_list").folder / "config.yaml").write_text("- 1", encoding="utf-8")
    (make_run(tmp_path, "binary").folder / "config.yaml").write_bytes(b"\xff\xfe\x00")
    other = make_run(tmp_path, "other_config").folder / "config.yaml"
    other.write_text("sampler: {tmep: 1}", encoding="utf-8")
    study = collected(whole.folder.parent)
    assert [facts.run.folder.name for facts in study.runs] == ["whole"]
    assert states(study) == {
        "begun": "unfinished",
        "no_weights": "unfinished",
        **dict.fromkeys(
            ("odd_weights", "bad_scores", "no_scores", "bad_config", "a_list", "binary",
             "other_config"),
            "damaged",
        ),
    }  # fmt: skip
    assert all(one.reason and "\n" not in one.reason for one in study.unfinished)


def test_scores_of_other_settings_or_of_an_older_layout_are_stale(tmp_path: Path) -> None:
    scored(tmp_path, "edited")
    edited = make_run(tmp_path, "edited", ONE, "sampler.temp=1.7")
    old = scored(tmp_path, "old").folder / "scores.json"
    write_json(old, {**read_json(old), "version": 1})
    study = collected(edited.folder.parent)
    assert states(study) == {"edited": "stale", "old": "stale"}
    assert "has version 1" in next(one.reason for one in study.unfinished if one.name == "old")
    assert not study.runs


def test_a_failure_is_read_with_its_reason_and_keeps_no_valid_score_back(tmp_path: Path) -> None:
    failure = {"stage": "stage report", "message": "disk full", "time": "now", "command": []}
    run = scored(tmp_path, "scored")
    write_json(run.folder / "failed.json", failure)
    never_configured = run.folder.parent / "never"
    never_configured.mkdir()
    write_json(never_configured / "failed.json", {**failure, "stage": "before its first stage"})
    study = collected(run.folder.parent)
    assert [facts.run.folder.name for facts in study.runs] == ["scored"]
    assert states(study) == {"never": "failed", "scored": "failed"}
    reasons = {one.name: one.reason for one in study.unfinished}
    assert reasons["scored"] == "stage report: disk full (now)"


def test_runs_on_other_problems_keep_their_row_last_with_a_reason(tmp_path: Path) -> None:
    scored(tmp_path, "a", share=0.3)
    scored(tmp_path, "b", share=0.2)
    fewer = make_run(tmp_path, "fewer", ONE, CHOOSES)
    selection = chosen_at(0.9)
    selection["problems"] = {"humaneval": ["HumanEval/3"]}
    entry = benchmark_scores(fewer, BETTER, num_problems=12, num_total=164)
    write_scores(fewer, selection, humaneval=entry)
    study = collected(fewer.folder.parent)
    assert [facts.run.folder.name for facts in study.runs] == ["a", "b", "fewer"]
    (one,) = study.unfinished
    assert (one.name, one.state) == ("fewer", "incompatible")
    assert "12 of 164 problems" in one.reason and "most runs all 24 problems" in one.reason


def test_several_folders_make_one_study_with_names_of_their_own(tmp_path: Path) -> None:
    first, second = scored(tmp_path / "x", "same"), scored(tmp_path / "y", "same")
    alone = scored(tmp_path / "z", "alone")
    into = tmp_path / "into"
    missing = tmp_path / "missing"
    folders = [first.folder.parent, second.folder, alone.folder, missing, first.folder]
    study = collect_study(folders, into)
    assert len(study.runs) == 3
    assert study.name == "into"
    names = run_names([facts.run.folder for facts in study.runs])
    assert len(set(names.values())) == 3
    (one,) = study.unfinished
    assert (one.state, "holds no run" in one.reason) == ("unfinished", True)


def test_folders_without_any_run_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="is no study: name run folders"):
        collect_study([tmp_path, tmp_path / "missing"], tmp_path)


def test_cells_are_the_candidates_of_the_sweep_or_the_reported_score(tmp_path: Path) -> None:
    swept = scored(tmp_path, "swept", "sampler.temp=1.6", "truncation=top_k10", share=0.5)
    plain = make_run(tmp_path, "plain", "sampler.temp=0.8")
    write_scores(
        plain,
        humaneval=benchmark_scores(plain, UNDECIDED, num_problems=30),
        mbpp=benchmark_scores(plain, BETTER, "mbpp", num_problems=10),
    )
    found = cells(collected(swept.folder.parent).runs)
    sweep = [cell for cell in found if cell.run == "swept"]
    assert [(cell.t_eval, cell.t_eff) for cell in sweep] == [
        (0.7, 0.7 * 1.6),
        (1.0, 1.6),
        (1.3, 1.3 * 1.6),
    ]
    assert {(cell.held_out, cell.sampled.top_k, cell.num_problems) for cell in sweep} == {
        (True, 10, 3)
    }
    (reported,) = [cell for cell in found if cell.run == "plain"]
    assert (reported.held_out, reported.num_problems) == (False, 40)
    assert reported.benchmarks == ("humaneval", "mbpp")
    # Problems weigh the same: 30 at 41.67 % and 10 at 43.75 %.
    assert reported.score.value == pytest.approx(0.375 + (30 * 0.0417 + 10 * 0.0625) / 40)
    assert 0.2 < reported.score.low < reported.score.value < reported.score.high < 0.65


def test_cells_of_another_objective_make_a_plane_of_their_own_at_the_targets_temperature(
    tmp_path: Path,
) -> None:
    settings = ("sampler.temp=1.6", "truncation=top_k10")
    hard = scored(tmp_path, "hard", *settings)
    scored(tmp_path, "soft", *settings, "objective=soft")
    half = ("objective=soft", "objective.temp=1", "truncation@objective.truncation=none")
    scored(tmp_path, "half", *settings, *half)
    scored(tmp_path, "tail", *settings, "objective=tail")
    study = collected(hard.folder.parent)
    found = {cell.run: cell for cell in cells(study.runs)}
    assert {name: cell.sampled for name, cell in found.items()} == {
        "hard": Decoding(1.6, 10, 1.0), "soft": Decoding(1.6, 10, 1.0), "half": Decoding(1.0),
    }  # fmt: skip
    assert len(curves(list(found.values()))) == 3
    assert found["soft"].json()["objective"] == "soft"
    assert "objective" not in found["hard"].json()
