"""results.json: every kind of run and study fits the schema, and what does not is refused."""

import copy
import dataclasses
import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from analyses import finish_analysis
from run_folders import (
    BETTER,
    UNDECIDED,
    base_scores,
    benchmark_scores,
    controlled_scores,
    interval,
    make_run,
    make_selection,
    with_groups,
    write_scores,
)
from runs import ROOT

from ssd.artifacts.files import read_json, write_json
from ssd.artifacts.names import FAILURE, RESULTS
from ssd.method.decoding import Setting
from ssd.method.intervals import Interval
from ssd.method.quadratic import QuadraticFit
from ssd.records.benchmark_scores import BenchmarkScores, Comparison, ModelScores
from ssd.records.selection import Candidate, Selection
from ssd.report.results import SCHEMA, run_results, study_results
from ssd.report.run.facts import collect
from ssd.report.study.cells import CURVE
from ssd.report.study.collection import collect_study
from ssd.run import Run, lineage

VALIDATOR = jsonschema.Draft202012Validator(read_json(SCHEMA))
CONTROLS = {
    "base": interval(0.1, 0.02, 0.18, p_value=0.01),
    "base_swept": interval(0.05, -0.02, 0.12, p_value=0.2),
    "t1": interval(0.04, -0.03, 0.11, p_value=0.3),
}


def written(run: Run) -> dict[str, Any]:
    """results.json of a run, checked against the schema."""
    write_json(run.folder / RESULTS, run_results(collect(run.folder)))
    stored: dict[str, Any] = read_json(run.folder / RESULTS)
    VALIDATOR.validate(stored)
    return stored


@pytest.fixture
def controlled(tmp_path: Path) -> Run:
    """A run with controls, groups and a choice."""
    run = make_run(tmp_path, "first", "eval.benchmarks=[humaneval]", "eval.temps=[0.7,1.0,1.3]")
    scores = with_groups(controlled_scores(run, CONTROLS), easy=60, hard=104)
    write_scores(run, selection=make_selection(), humaneval=scores)
    return run


def test_the_schema_is_one(tmp_path: Path) -> None:
    jsonschema.Draft202012Validator.check_schema(read_json(SCHEMA))


def test_the_arguments_of_the_chat_template_are_those_in_force(tmp_path: Path) -> None:
    arguments = ("model.template_args={enable_thinking: false, date: 2026-01-31}",
                 "eval.template_args={enable_thinking: true, date: null}")  # fmt: skip
    settings = written(make_run(tmp_path, "first", *arguments))["settings"]
    assert settings["template_args"] == {"enable_thinking": False, "date": "2026-01-31"}
    assert settings["eval_template_args"] == {"enable_thinking": True}
    VALIDATOR.validate(read_json(ROOT / "results" / "default_run" / RESULTS))


def test_a_run_with_controls_says_what_its_report_says(controlled: Run) -> None:
    stored = written(controlled)
    one = stored["benchmarks"]["humaneval"]
    assert list(one["arms"]) == ["base", "base_swept", "t1", "tuned"]
    assert one["arms"]["tuned"]["pass_at"]["1"] == interval(0.55, 0.48, 0.62) | {"p_value": None}
    assert one["comparisons"]["base"]["pass_at"]["1"] == CONTROLS["base"]
    assert one["verdict"]["word"] == "undecided"  # t1 is not beaten
    assert "(t1, a model trained" in one["verdict"]["text"]
    assert one["arms"]["tuned"]["groups"]["hard"]["num_problems"] == 104
    assert stored["selection"]["num_problems"] == {"humaneval": 3}
    chosen = [cell["temp"] for cell in stored["selection"]["sweeps"]["tuned"] if cell["chosen"]]
    assert chosen == [1.0]
    assert stored["settings"]["t_train"] == 1.2
    assert stored["command"] == ["python", "train.py", "model=tiny", "data.name=two words"]
    assert stored["cost"]["sampled_tokens"] == 9000
    assert stored["cost"]["trained_tokens"] == round(18000 * 2.1)
    assert stored["cost"]["seconds"] == pytest.approx(8075, abs=60)
    fingerprints = {one["kind"]: one["fingerprint"] for one in stored["artifacts"] if one["kind"]}
    assert fingerprints["corpus"] == lineage.corpus(controlled).fingerprint
    assert fingerprints["checkpoint"] == lineage.checkpoint(controlled).fingerprint


def test_a_run_of_the_base_model_alone_fits_the_schema(tmp_path: Path) -> None:
    run = make_run(tmp_path, "base", "stages=[evaluate,report]", finished=False)
    write_scores(run, humaneval=base_scores(run))
    one = written(run)["benchmarks"]["humaneval"]
    assert (one["verdict"]["word"], one["comparisons"]) == ("base only", {})


def test_reasoning_fits_the_schema_and_is_left_out_where_there_is_none(tmp_path: Path) -> None:
    run = make_run(tmp_path, "base", "stages=[evaluate,report]", finished=False)
    reasoning = {"closed_share": 0.75, "cut_share": 0.25, "mean_tokens": 812.5}
    scored = base_scores(run)
    write_scores(run, humaneval=scored)
    assert "reasoning" not in written(run)["benchmarks"]["humaneval"]["arms"]["base"]
    scored["models"]["base"]["reasoning"] = reasoning
    write_scores(run, humaneval=scored)
    assert written(run)["benchmarks"]["humaneval"]["arms"]["base"]["reasoning"] == reasoning


def test_an_unfinished_run_fits_the_schema_and_says_what_it_lacks(tmp_path: Path) -> None:
    stored = written(make_run(tmp_path, finished=False))
    assert (stored["benchmarks"], stored["selection"], stored["analysis"]) == ({}, None, None)
    assert (stored["cost"]["seconds"], stored["cost"]["sampled_tokens"]) == (0, None)
    assert any("The corpus is unfinished" in sentence for sentence in stored["missing"])
    assert stored["artifacts"][0]["finished"] is None


def test_an_analysis_is_given_by_kind_of_position(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    finish_analysis(run, models=("base", "tuned"))
    stored = written(run)
    kinds = stored["analysis"]["kinds"]
    assert list(kinds) == ["lock", "fork", "other", "all"]
    assert kinds["fork"]["means"]["base"]["entropy"] > kinds["lock"]["means"]["base"]["entropy"]
    every = kinds["all"]
    assert every["count"] == sum(kinds[kind]["count"] for kind in ("lock", "fork", "other"))
    tuned, base = (every["means"][model]["kept_mass"] for model in ("tuned", "base"))
    assert every["changes"]["tuned"]["kept_mass"]["value"] == pytest.approx(tuned - base)
    assert stored["cost"]["seconds_by_kind"]["analysis"] == pytest.approx(30, abs=5)


def test_numbers_that_json_has_no_word_for_become_null(tmp_path: Path) -> None:
    run = make_run(tmp_path, "nan", "eval.benchmarks=[humaneval]")
    odd = interval(0.0, -0.1, 0.1, p_value=math.nan)
    write_scores(run, humaneval=benchmark_scores(run, odd))
    stored = written(run)["benchmarks"]["humaneval"]["comparisons"]["base"]["pass_at"]["1"]
    assert stored["p_value"] is None


def test_a_study_with_failures_fits_the_schema(tmp_path: Path) -> None:
    for number, temp in enumerate((0.6, 0.9, 1.2, 1.5)):
        run = make_run(
            tmp_path, f"run{number}", f"sampler.temp={temp}", "eval.benchmarks=[humaneval]"
        )
        change = interval(0.1 - (temp - 1.0) ** 2 / 10, 0.0, 0.2, p_value=0.03)
        write_scores(run, humaneval=benchmark_scores(run, change))
    study = run.folder.parent
    make_run(tmp_path, "begun", finished=False)
    (make_run(tmp_path, "broken").folder / "scores.json").write_text("{", encoding="utf-8")
    write_json(
        study / "died" / FAILURE, {"stage": "train", "message": "no memory", "time": "2026-01-01"}
    )
    write_json(study / RESULTS, study_results(collect_study([study], study)))
    stored = read_json(study / RESULTS)
    VALIDATOR.validate(stored)
    assert {row["name"] for row in stored["runs"]} == {f"run{number}" for number in range(4)}
    assert {one["name"]: one["state"] for one in stored["unfinished"]} == {
        "begun": "unfinished", "broken": "damaged", "died": "failed",
    }  # fmt: skip
    assert sorted(cell["t_eff"] for cell in stored["cells"]) == pytest.approx(
        [0.42, 0.63, 0.84, 1.05]
    )
    (fit,) = stored["fits"]
    assert fit["peak"] == pytest.approx(0.7, abs=1e-6)  # T_train 1.0 decoded at 0.7
    assert fit["r_squared"] == pytest.approx(1)


def test_every_field_is_described(controlled: Run) -> None:
    def undescribed(schema: Any, place: str) -> list[str]:
        if not isinstance(schema, dict):
            return []
        found = []
        for name, field in schema.get("properties", {}).items():
            if not {"description", "$ref", "const"} & set(field) and "enum" not in field:
                found.append(f"{place}.{name}")
            found += undescribed(field, f"{place}.{name}")
        for name, field in schema.get("$defs", {}).items():
            found += undescribed(field, name)
        return found

    assert undescribed(read_json(SCHEMA), "") == []


def test_the_schema_has_the_fields_of_the_records() -> None:
    """One that is added to a record stands in results.json, or is left out here."""

    def fields(kind: Any) -> set[str]:
        return {field.name for field in dataclasses.fields(kind)}

    parts = read_json(SCHEMA)["$defs"].items()
    described = {name: set(part.get("properties", {})) for name, part in parts}
    setting = fields(Setting)
    assert described["interval"] == fields(Interval)
    assert described["arm"] == fields(ModelScores) - {"setting"} | setting
    assert described["candidate"] == fields(Candidate) - {"setting"} | setting
    assert described["comparison"] == fields(Comparison)
    assert described["selection"] == fields(Selection) - {"problems"} | {"num_problems"}
    elsewhere = {"name", "models", "group_sizes"}
    assert described["benchmark"] == fields(BenchmarkScores) - elsewhere | {"arms", "verdict"}
    assert described["fit"] == set(CURVE) | fields(QuadraticFit) | {"objective"}


def test_the_schema_refuses_what_is_wrong(controlled: Run) -> None:
    right = run_results(collect(controlled.folder))
    VALIDATOR.validate(right)

    def refused(*path: str, value: Any) -> bool:
        wrong = copy.deepcopy(right)
        place = wrong
        for key in path[:-1]:
            place = place[key]
        place[path[-1]] = value
        return not VALIDATOR.is_valid(wrong)

    arm = ("benchmarks", "humaneval", "arms", "tuned")
    assert refused("version", value=2)
    assert refused("kind", value="study")
    assert refused("surprise", value=1)
    assert refused(*arm, "fence_share", value=1.5)
    assert refused(*arm, "pass_at", value={"best": right["benchmarks"]["humaneval"]})
    assert refused("benchmarks", "humaneval", "verdict", value={"word": "great", "text": ""})
    assert refused("settings", "t_train", value="1.2")


def test_the_command_prints_the_schema() -> None:
    command = [sys.executable, "-m", "ssd.report.results", "--schema"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == read_json(SCHEMA)
    assert done.stderr == ""


def test_a_better_run_is_better_for_machines_too(tmp_path: Path) -> None:
    run = make_run(tmp_path, "good", "eval.benchmarks=[humaneval]")
    write_scores(run, humaneval=benchmark_scores(run, BETTER))
    assert written(run)["benchmarks"]["humaneval"]["verdict"]["word"] == "better"
    write_scores(run, humaneval=benchmark_scores(run, UNDECIDED))
    assert written(run)["benchmarks"]["humaneval"]["verdict"]["word"] == "undecided"
