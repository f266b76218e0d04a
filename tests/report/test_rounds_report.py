"""Rounds in reports: a row per round and model, a curve per run, and the rule in words."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from analyses import finish_analysis
from jsonschema import Draft202012Validator
from run_folders import (
    benchmark_scores,
    finish_checkpoint,
    interval,
    make_run,
    model_scores,
    write_scores,
)

from ssd.arms import BASE, TUNED, UNIT
from ssd.drive.stages import all_planned
from ssd.report import report, study_report
from ssd.report.results import SCHEMA
from ssd.report.run.facts import collect, run_costs
from ssd.report.run.watch import collect_rounds, round_rows, rounds_text
from ssd.report.study.document import document
from ssd.report.study.rows import study_table
from ssd.run import Run, lineage, save_run
from ssd.run.rounds import all_rounds

SETTINGS = ("eval.benchmarks=[humaneval]", "eval.controls=[t1]", "eval.temps=[0.5,1.0]")
SCHEMA_OF_RESULTS = Draft202012Validator(json.loads(SCHEMA.read_text()))


def chosen(**shares: float) -> dict[str, Any]:
    """The choice of every model's setting on three problems, the second scored so."""
    setting = {"top_k": 20, "top_p": 0.8, "checkpoint_step": None, "num_problems": 3}
    return {
        "mode": "heldout",
        "validation": "hash",
        "problems": {"humaneval": ["HumanEval/3", "HumanEval/7", "HumanEval/9"]},
        "sweeps": {
            model: [
                {**setting, "temp": 0.5, "pass@1": interval(0.0, 0.0, 0.2), "chosen": False},
                {**setting, "temp": 1.0, "pass@1": interval(share, 0.0, 1.0), "chosen": True},
            ]
            for model, share in shares.items()
        },
    }


def make_rounds(
    tmp_path: Path, name: str, held_out: Sequence[float], *overrides: str, count: int | None = None
) -> Run:
    """A run with a round for each held-out score, whose answers become alike from round to
    round."""
    settings = (*SETTINGS, f"rounds={count or len(held_out)}", *overrides)
    run = make_run(tmp_path, name, *settings)
    for number, (round_, share) in enumerate(zip(all_rounds(run), held_out, strict=False), start=1):
        for training in lineage.trainings(round_).values():
            save_run(training, ["python", "train.py", f"rounds={len(held_out)}"])
        entry = benchmark_scores(round_, interval(0.02, -0.1, 0.1, p_value=0.6))
        form = {"distinct_programs": 2 - 0.25 * number, "cut_share": 0.1 * number}
        for model, moved in ((UNIT, 0.01), (TUNED, 0.05)):
            score = interval(0.375 + moved * number, 0.3, 0.6)
            entry["models"][model] = model_scores(round_, model, "humaneval", score, **form)
        entry["comparisons"][UNIT] = entry["comparisons"][BASE]
        write_scores(round_, chosen(tuned=share, t1=0.25), humaneval=entry)
    return run


def test_a_row_says_what_a_round_scored_and_how_alike_its_answers_are(tmp_path: Path) -> None:
    run = make_rounds(tmp_path, "one", [0.5, 0.25])
    for round_ in all_rounds(run):
        for training in lineage.trainings(round_).values():
            finish_checkpoint(training)
        finish_analysis(round_)
    rows = round_rows(collect_rounds(run), run.config.analyse)
    places = [(0, BASE), (1, TUNED), (1, UNIT), (2, TUNED), (2, UNIT)]
    assert [(row.round, row.model) for row in rows] == places
    base, first, last = rows[0], rows[1], rows[3]
    assert base.held_out is None and base.distinct_programs == 1.625
    assert last.held_out is not None and last.held_out.value == 0.25
    assert last.scores["humaneval"].value == pytest.approx(0.475)
    assert (first.distinct_programs, last.distinct_programs) == (1.75, 1.5)
    assert last.cut_share == pytest.approx(0.2)
    assert base.entropy is not None and base.entropy["fork"] > base.entropy["lock"] > 0
    assert first.kept_mass is not None and base.kept_mass is not None
    assert 0 < base.kept_mass < first.kept_mass <= 1  # this tuned model has less of a tail
    text = rounds_text(collect_rounds(run), run.config.analyse)
    lines = text.splitlines()
    assert lines[0].split()[:4] == ["round", "model", "humaneval", "held-out"]
    assert max(map(len, lines)) <= 120
    assert [line.split()[:2] for line in lines[2:7]] == [[str(n), model] for n, model in places]


def test_a_round_without_an_analysis_has_dashes(tmp_path: Path) -> None:
    run = make_rounds(tmp_path, "one", [0.5, 0.25])
    rows = round_rows(collect_rounds(run), run.config.analyse)
    assert all(row.entropy is None and row.kept_mass is None for row in rows)
    assert " - " in rounds_text(collect_rounds(run), run.config.analyse)


def test_rounds_end_at_the_first_without_scores_of_these_settings(tmp_path: Path) -> None:
    run = make_rounds(tmp_path, "one", [0.5, 0.25, 0.5], count=4)
    assert len(collect_rounds(run)) == 3
    second = all_rounds(run)[1].folder / "scores.json"
    stored = json.loads(second.read_text())
    stored["inputs"]["temps"] = [0.5, 1.1]
    second.write_text(json.dumps(stored))
    assert len(collect_rounds(run)) == 1


def test_the_rule_ends_the_rounds_that_are_told_and_says_so(tmp_path: Path) -> None:
    run = make_rounds(tmp_path, "one", [0.5, 0.25, 0.75], "rounds.max_drop=0.2")
    assert len(collect_rounds(run)) == 2  # the third is of a time before the rule
    assert [owner.folder.name for owner, name in all_planned(run) if name == "report"] == [
        "one",
        "2",
    ]
    report(run.folder)
    text = (run.folder / "report.md").read_text()
    assert "2 of 3 rounds" in text
    assert "25.0 points below round 1" in text and "rounds.max_drop=0.2, so it was the last" in text


def test_a_report_tells_all_rounds_and_a_round_only_itself(tmp_path: Path) -> None:
    run = make_rounds(tmp_path, "one", [0.5, 0.25])
    for round_ in all_rounds(run):
        finish_checkpoint(round_)
    for round_ in all_rounds(run):
        report(round_.folder)
    whole, second = (round_.folder for round_ in all_rounds(run))
    assert "## Rounds" in (whole / "report.md").read_text()
    assert (whole / "figures" / "rounds.png").is_file()
    assert "## Rounds" not in (second / "report.md").read_text()
    assert "2 of 2: samples of the model of round 1" in (second / "report.md").read_text()
    assert (second / "report.md").read_text().startswith("# one, round 2")
    results = json.loads((whole / "results.json").read_text())
    made = {(cost.kind, cost.fingerprint) for cost in run_costs(collect(whole))}
    checkpoints = {lineage.checkpoint(round_).fingerprint for round_ in all_rounds(run)}
    assert {name for kind, name in made if kind == "checkpoint"} == checkpoints
    assert "The later rounds (1 artifact)" in (whole / "report.md").read_text()
    SCHEMA_OF_RESULTS.validate(results)
    assert [row["round"] for row in results["rounds"]] == [0, 1, 1, 2, 2]
    SCHEMA_OF_RESULTS.validate(json.loads((second / "results.json").read_text()))


def test_a_run_of_one_round_says_nothing_of_rounds(tmp_path: Path) -> None:
    run = make_rounds(tmp_path, "one", [0.5])
    assert collect(run.folder).rounds == ()
    report(run.folder)
    assert "## Rounds" not in (run.folder / "report.md").read_text()
    assert "rounds" not in json.loads((run.folder / "results.json").read_text())


def test_a_study_draws_every_runs_rounds_beside_its_controls(tmp_path: Path) -> None:
    make_rounds(tmp_path, "fresh", [0.5, 0.25])
    make_rounds(tmp_path, "onward", [0.25, 0.5], "rounds.train_from=previous")
    make_rounds(tmp_path, "single", [0.5], "sampler.temp=0.9")
    folder = tmp_path / "outputs" / "main"
    study = study_report(folder)
    assert len(study.runs) == 3
    assert study_table(study).count("rounds.train_from") == 1
    (section,) = [each for each in document(study).sections if each.title == "Rounds"]
    (figure,) = [each for each in document(study).figures if each.name == "rounds"]
    assert figure.alt.count("tuned: ") == figure.alt.count("t1: ") == 2
    assert "t1: 37.5%, 38.5%, 39.5%" in figure.alt
    assert len(section.blocks) == 5  # what each run did, the curves, a key, a table for each
    results = json.loads((folder / "results.json").read_text())
    SCHEMA_OF_RESULTS.validate(results)
    assert sorted(len(row.get("rounds", [])) for row in results["runs"]) == [0, 5, 5]
