"""The W&B Report of a study: what it says, from its file, offline, and how it is pushed."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from analyses import finish_analysis
from run_folders import BETTER, UNDECIDED, benchmark_scores, make_run, make_selection, write_scores

from ssd.analyse.analysis import flat_metrics
from ssd.analyse.summary import kind_table
from ssd.artifacts.files import read_json, write_json
from ssd.artifacts.names import FAILURE, WANDB_PLAN
from ssd.errors import ArtifactError, ConfigError, HardwareError
from ssd.report import study_report
from ssd.report.exports.wandb_plan import Panel, Panels, ReportPlan, Text, read_plan
from ssd.report.run.facts import collect
from ssd.report.study.collection import Study, collect_study
from ssd.report.wandb_report import publish, to_report
from ssd.run import Run
from ssd.runtime.installation import require_reports

needs_package = pytest.mark.skipif(
    importlib.util.find_spec("wandb_workspaces") is None,
    reason="wandb-workspaces (extra reports) is not installed",
)
ODD = "a=b's < c"
"""A study's name that W&B's filter language would read as operators."""


def study_of(run: Run) -> Study:
    folder = run.folder.parent
    return collect_study([folder], folder)


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two runs with scores, one unfinished and one that failed, published offline."""
    root = tmp_path_factory.mktemp("study")
    for name, temp, difference in (("cold", 0.8, UNDECIDED), ("hot", 1.6, BETTER)):
        run = make_run(
            root, name, f"sampler.temp={temp}", "eval.benchmarks=[humaneval]",
            "eval.temps=[0.7,1.0,1.3]", "logger.project=distil",
        )  # fmt: skip
        scores = benchmark_scores(run, difference)
        write_scores(run, selection=make_selection(), humaneval=scores)
    make_run(root, "begun", finished=False)
    folder = run.folder.parent
    write_json(folder / "died" / FAILURE, {"stage": "train", "message": "no room", "time": "now"})
    said = publish(study_of(run))
    assert said == f"W&B is offline; push with: python -m ssd.report.wandb_report {folder}"
    return folder


def panels_of(folder: Path) -> dict[str, Panels]:
    return {one.title: one for one in read_plan(folder).blocks if isinstance(one, Panels)}


def test_the_text_says_what_was_found_what_failed_and_what_a_choice_is_worth(study: Path) -> None:
    plan = read_plan(study)
    assert (plan.project, plan.entity) == ("distil", None)
    assert plan.title == "Simple self-distillation, study main"
    texts = {one.title: one.text for one in plan.blocks if isinstance(one, Text)}
    assert "The tuned model is better on humaneval." in texts["Summary"]
    assert "died: failed. train: no room" in texts["Summary"]
    assert "begun: unfinished" in texts["Summary"]
    assert "held-out" in texts["Runs"]
    assert "0.8" in texts["Runs"]
    assert "1.6" in texts["Runs"]
    assert "figures/" not in "".join(texts.values())


def test_panels_show_scores_sweep_and_training_of_the_study_alone(study: Path) -> None:
    grids = panels_of(study)
    assert {one.group for one in grids.values()} == {"main"}
    assert {title: one.job_type for title, one in grids.items()} == {
        "Scores": "evaluate",
        "Sweep": "evaluate",
        "Training": "train",
        "Figures of the runs' reports": "report",
    }
    (parallel,) = [one for one in grids["Sweep"].panels if one.kind == "parallel"]
    assert parallel.metrics == (
        "t_train", "top_k", "top_p", "lr", "t_eval", "held_out", "pass@1", "gain",
    )  # fmt: skip
    shown = {one.metrics for one in grids["Scores"].panels}
    assert ("eval/humaneval/base/pass@1", "eval/humaneval/tuned/pass@1") in shown
    lines = [name for one in grids["Training"].panels for name in one.metrics]
    assert {"train/loss", "decomposition/kept_mass", "decomposition/alignment"} < set(lines)


def test_a_study_with_an_analysis_has_its_panels(tmp_path: Path) -> None:
    run = make_run(tmp_path, "analysed", "eval.benchmarks=[humaneval]")
    write_scores(run, humaneval=benchmark_scores(run, BETTER))
    finish_analysis(run, models=("base", "tuned"))
    publish(study_of(run))
    analysis = panels_of(run.folder.parent)["Analysis"]
    assert analysis.job_type == "analyse"
    read = collect(run.folder).analysis
    assert read is not None
    logged = flat_metrics(kind_table(read, run.config.analyse, np.random.default_rng(0)))
    assert {name for panel in analysis.panels for name in panel.metrics} <= set(logged)


@needs_package
def test_the_file_becomes_a_report_up_to_its_saving(study: Path) -> None:
    report = to_report(read_plan(study), "team")
    spec = report._to_model().spec.model_dump(by_alias=True, exclude_none=True)
    kinds = [block["type"] for block in spec["blocks"]]
    assert (kinds.count("panel-grid"), kinds.count("markdown-block")) == (4, 4)
    grids = [block["metadata"] for block in spec["blocks"] if block["type"] == "panel-grid"]
    for grid in grids:
        (runs,) = grid["runSets"]
        group, stage = runs["filters"]["filters"]
        assert (group["key"]["name"], group["value"]) == ("group", "main")
        assert stage["key"]["name"] == "jobType"
    panels = [one for grid in grids for one in grid["panelBankSectionConfig"]["panels"]]
    places = [(one["viewType"], one["layout"]["x"], one["layout"]["w"]) for one in panels]
    assert ("Parallel Coordinates Plot", 0, 24) in places
    assert ("Run History Line Plot", 12, 12) in places
    (columns,) = [one["config"]["columns"] for one in panels if "columns" in one["config"]]
    assert columns[0]["accessor"] == "summary:t_train"


@needs_package
def test_a_study_of_any_name_is_filtered_by_it(tmp_path: Path) -> None:
    grid = Panels(
        title="Scores", group=ODD, job_type="evaluate",
        panels=(Panel(kind="bars", title="gain", metrics=("gain",)),),
    )  # fmt: skip
    plan = ReportPlan(project="p", entity=None, title="t", description="", blocks=(grid,))
    spec = to_report(plan, "team")._to_model().spec.model_dump(by_alias=True, exclude_none=True)
    (found,) = [block["metadata"] for block in spec["blocks"] if block["type"] == "panel-grid"]
    assert found["runSets"][0]["filters"]["filters"][0]["value"] == ODD


def test_a_study_without_scores_has_texts_alone(tmp_path: Path) -> None:
    run = make_run(tmp_path, finished=False)
    publish(study_of(run))
    plan = read_plan(run.folder.parent)
    assert [block.title for block in plan.blocks] == ["Summary"]
    assert plan.description.startswith("0 runs with scores, 1 unfinished")


def test_publishing_again_sees_runs_that_have_finished_since(tmp_path: Path) -> None:
    run = make_run(tmp_path, "late", "eval.benchmarks=[humaneval]")
    publish(study_of(run))
    write_scores(run, humaneval=benchmark_scores(run, BETTER))
    publish(study_of(run))
    assert read_plan(run.folder.parent).description.startswith("1 runs with scores")
    assert "Sweep" in panels_of(run.folder.parent)


def test_the_report_of_a_study_brings_it_up_to_date(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = make_run(tmp_path, "one", "eval.benchmarks=[humaneval]", "report.wandb=true")
    write_scores(run, humaneval=benchmark_scores(run, BETTER))
    study_report(run.folder.parent)
    assert "push with: python -m ssd.report.wandb_report" in capsys.readouterr().out
    assert read_plan(run.folder.parent).description.startswith("1 runs with scores")


def test_a_file_of_another_version_or_damaged_is_refused(study: Path, tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match=r"report\.wandb=true"):
        read_plan(tmp_path)
    stored = read_json(study / WANDB_PLAN)
    for wrong in (stored | {"version": 0}, stored | {"blocks": [{"kind": "text"}]}, {"version": 1}):
        write_json(tmp_path / WANDB_PLAN, wrong)
        with pytest.raises(ArtifactError, match="ssd report"):
            read_plan(tmp_path)


@needs_package
def test_pushing_without_a_login_is_one_line(study: Path, tmp_path: Path) -> None:
    without = {key: value for key, value in os.environ.items() if key != "WANDB_API_KEY"}
    result = subprocess.run(
        [sys.executable, "-m", "ssd.report.wandb_report", str(study)],
        env=without | {"HOME": str(tmp_path)}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert result.returncode == 3
    assert result.stderr == "error: W&B has no login here: run wandb login, then push again\n"


@needs_package
def test_a_missing_package_is_refused_before_anything_runs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    require_reports()
    monkeypatch.setitem(sys.modules, "wandb_workspaces", None)
    with pytest.raises(HardwareError, match=r"pip install -e '\.\[reports\]'"):
        require_reports()


def test_a_report_of_runs_that_are_not_logged_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="add logger=wandb"):
        make_run(tmp_path, "mute", "logger=none", "report.wandb=true")
