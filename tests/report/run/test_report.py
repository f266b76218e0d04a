"""Reports of real run folders: their numbers, their words, and what they say of missing files."""

import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import pytest
from published import sign
from run_folders import (
    ALIKE,
    BETTER,
    UNDECIDED,
    WORSE,
    base_scores,
    benchmark_scores,
    finish_corpus,
    interval,
    make_run,
    write_metrics,
    write_scores,
)

from ssd.config.choices import Extraction
from ssd.errors import ArtifactError
from ssd.problems.extraction import RULES
from ssd.report import report
from ssd.report.render.document import Table
from ssd.report.render.markdown import markdown
from ssd.report.run.artifacts import cost
from ssd.report.run.facts import Facts, collect
from ssd.report.run.sections import document
from ssd.report.run.settings import settings
from ssd.run import Run, evidence, lineage


def markdown_of(run: Run) -> str:
    return markdown(document(collect(run.folder)))


def test_a_finished_run_gets_markdown_html_and_figures(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    write_scores(run, humaneval=benchmark_scores(run, UNDECIDED))
    report(run.folder)
    for name in ("report.html", "results.json", "figures/scores.png", "figures/training.svg"):
        assert (run.folder / name).stat().st_size > 0
    assert (run.folder / "report.md").read_text(encoding="utf-8") == markdown_of(run)
    assert (run.folder / "figures/scores.png").read_bytes().startswith(b"\x89PNG")


def test_markdown_holds_the_scores_in_percent_with_their_intervals(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    write_scores(run, humaneval=benchmark_scores(run, UNDECIDED))
    text = markdown_of(run)
    row = next(line for line in text.splitlines() if line.startswith("| humaneval pass@1"))
    cells = [cell.strip() for cell in row.strip("|").split("|")]
    assert cells[1:] == [
        "37.5% [18.8, 56.2]",
        "41.7% [20.0, 65.0]",
        "+4.2 [-8.3, +16.7]",
        "24 (all)",
    ]
    answers = next(
        line
        for line in text.splitlines()
        if line.startswith("| humaneval, tuned") and "top-k" in line
    )
    cells = [cell.strip() for cell in answers.strip("|").split("|")]
    assert cells[1:] == ["120.0", "75.0%", "12.5%", "2.5%", "1.62", "T 0.7, top-k 20, top-p 0.8"]
    facts = next(line for line in text.splitlines() if line.startswith("| humaneval |"))
    cells = [cell.strip() for cell in facts.strip("|").split("|")]
    assert cells[1:] == ["-", "-", "24 (all)", "2", "official; last fenced block"]


def test_rules_that_are_not_the_benchmarks_own_are_shown(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    changed = {"grading": "tolerant", "extraction": RULES[Extraction.lenient]}
    write_scores(run, humaneval=benchmark_scores(run, UNDECIDED, **changed))
    text = markdown_of(run)
    for column in ("pass@1", "pass@2"):
        assert f"| humaneval (tolerant grading, lenient extraction) {column} |" in text


def test_markdown_holds_sampling_training_and_provenance(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    write_scores(run, humaneval=benchmark_scores(run, UNDECIDED))
    text = " ".join(markdown_of(run).split())
    for fact in (
        "| stub | 3 | 4.7% |",
        "| length | 21 | 34.4% |",
        "| Mean tokens per sample | 147.5 |",
        "| With a code fence | 70.0% |",
        "| Parameters | 134,515,008 |",
        "| Epochs | 2.1 |",
        "The loss goes from 0.900 to 0.750",
        "The median speed is 210 tokens per second.",
        "test settings for the random model",
        "a random two-layer model (random-v1)",
        "| Corpus | 1 min 15 s | 9,000 | this run |",
        "| Checkpoint | 2 h 13 min | 37,800 | this run |",
        "Together 2 h 14 min, nothing reused from earlier runs.",
        f"| Corpus | {lineage.corpus(run).fingerprint} | 2",
        f"| Checkpoint | {lineage.checkpoint(run).fingerprint} | 2",
        evidence.verdicts(run, "tuned", "humaneval").fingerprint,
        "python train.py model=tiny 'data.name=two words'",
        "| Seed | 0 |",
    ):
        assert fact in text, fact


def test_summary_comes_first_and_names_the_missing_controls(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    write_scores(run, humaneval=benchmark_scores(run, UNDECIDED))
    text = markdown_of(run)
    titles = [line for line in text.splitlines() if line.startswith("## ")]
    assert titles == [
        "## Summary",
        "## Scores",
        "## Choice of settings",
        "## Settings",
        "## Sampling",
        "## Training",
        "## Cost",
        "## Provenance",
        "## Glossary",
    ]
    for sentence in (
        "the base model under its own best decoding was not compared (eval.controls=[base_swept]).",
        "a model trained on its samples of temperature 1 was not compared (eval.controls=[t1]).",
        "Settings are as configured; none was chosen by a score.",
    ):
        assert sentence in text


def test_an_interval_that_contains_zero_is_undecided_and_says_what_could_be_seen(
    tmp_path: Path,
) -> None:
    run = make_run(tmp_path)
    write_scores(run, humaneval=benchmark_scores(run, UNDECIDED))
    text = markdown_of(run)
    assert "**humaneval: undecided.** pass@1 goes from 37.5% to 41.7% (+4.2 points)" in text
    assert "-8.3 to +16.7 points, contains 0" in text
    assert (
        "contains 0 (p = 0.550). 24 problems with 2 answers each "
        "can only show differences of about 17.9 points" in text
    )


def test_what_could_be_seen_is_no_less_than_the_paired_test_takes(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    narrow = interval(0.0, -0.03, 0.03, p_value=1.0)
    scores = benchmark_scores(run, narrow, num_problems=48, num_samples=1)
    write_scores(run, humaneval=scores)
    assert "48 problems with one answer each can only show differences of about 16.0 points" in (
        markdown_of(run)
    )


@pytest.mark.parametrize(
    ("difference", "expected"),
    [
        (BETTER, "**humaneval: better.** pass@1 rises from 37.5% to 43.8%, by 6.2 points"),
        (WORSE, "**humaneval: worse.** pass@1 falls from 37.5% to 31.2%, by 6.2 points"),
    ],
)
def test_an_interval_that_excludes_zero_is_a_verdict(
    tmp_path: Path, difference: dict[str, float], expected: str
) -> None:
    run = make_run(tmp_path)
    write_scores(run, humaneval=benchmark_scores(run, difference, num_problems=164))
    text = markdown_of(run)
    assert expected in text
    assert "excludes 0 (164 problems with 2 answers each, p " in text


def test_an_interval_beyond_zero_that_the_test_does_not_support_is_undecided(
    tmp_path: Path,
) -> None:
    run = make_run(tmp_path)
    write_scores(
        run, humaneval=benchmark_scores(run, interval(0.1667, 0.0417, 0.3333, p_value=0.125))
    )
    text = markdown_of(run)
    assert "**humaneval: undecided.**" in text
    assert (
        "excludes 0, but the paired test of the 24 problems with 2 answers each "
        "does not reject 0 (p = 0.125)" in text
    )


def test_programs_run_without_isolation_are_called_that(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    write_scores(run, sandbox="bwrap, none", humaneval=benchmark_scores(run, UNDECIDED))
    ran = "Generated programs ran isolated by bubblewrap, not isolated (eval.sandbox=none)."
    assert ran in markdown_of(run)


@pytest.mark.parametrize("value", [0.0, 0.5])
def test_one_problem_decides_nothing(tmp_path: Path, value: float) -> None:
    run = make_run(tmp_path)
    unsure = interval(value, -1.0, 1.0, p_value=1.0)
    write_scores(run, humaneval=benchmark_scores(run, unsure, num_problems=1))
    text = markdown_of(run)
    assert "**humaneval: undecided.**" in text
    assert "1 problem with 2 answers each cannot show any: the paired test takes 6" in text


def test_headline_sorts_the_benchmarks_by_verdict(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    write_scores(
        run, humaneval=benchmark_scores(run, ALIKE), mbpp=benchmark_scores(run, BETTER, "mbpp")
    )
    assert " The tuned model is better on mbpp; undecided on humaneval.\n\n" in markdown_of(run)


def test_a_change_of_form_is_named_beside_the_scores(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    changed = {"fence_share": 0.25, "mean_tokens": 60.0, "temp": 1.1}
    write_scores(run, humaneval=benchmark_scores(run, UNDECIDED, tuned=changed))
    text = markdown_of(run)
    assert (
        "On humaneval, answers with a code fence go from 75.0% to 25.0%: "
        "part of the difference may be form." in text
    )
    assert "the mean answer goes from 120 to 60 tokens" in text
    assert "Base and tuned model are decoded at different settings." in text


def test_reasoning_has_a_table_of_its_own_where_there_is_some(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    write_scores(run, humaneval=benchmark_scores(run, UNDECIDED))
    assert "Cut off within" not in markdown_of(run)
    reasoning = {"closed_share": 0.75, "cut_share": 0.25, "mean_tokens": 812.5}
    scored = benchmark_scores(run, UNDECIDED, tuned={"reasoning": reasoning})
    write_scores(run, humaneval=scored)
    text = markdown_of(run)
    (row,) = [line for line in text.splitlines() if "812.5" in line]
    cells = [cell.strip() for cell in row.strip("|").split("|")]
    assert cells == ["humaneval, tuned", "75.0%", "25.0%", "812.5"]
    assert "answers that closed their reasoning go from 0.0% to 75.0%" in text


def test_base_alone_is_reported_without_a_comparison(tmp_path: Path) -> None:
    run = make_run(
        tmp_path, "base", "stages=[evaluate,report]", "eval.benchmarks=[humaneval]", finished=False
    )
    write_scores(run, humaneval=base_scores(run))
    text = markdown_of(run)
    assert "**humaneval: base only.** pass@1 is 37.5%, pass@2 is 50.0% for the base model" in text
    assert "On humaneval only the base model was evaluated." in text


def test_a_run_without_scores_reports_what_exists_and_says_what_is_missing(tmp_path: Path) -> None:
    text = markdown_of(make_run(tmp_path))
    assert "whether self-distillation helped is not known" in text
    assert "There is no scores.json: the evaluation has not finished." in text
    assert "## Training" in text
    assert "## Scores" not in text


def test_a_run_that_has_only_begun_still_gets_a_report(tmp_path: Path) -> None:
    run = make_run(tmp_path, finished=False)
    (run.folder / "run.json").unlink()
    text = markdown_of(run)
    assert "The corpus is unfinished: run ssd sample RUN_DIR." in text
    assert "There is no run.json" in text
    assert "## Training" not in text
    assert "## Cost" not in text
    report(run.folder)
    assert not (run.folder / "figures").exists()


def test_an_artifact_that_two_models_share_costs_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    facts = collect(make_run(tmp_path).folder)
    once, results = cost(facts), facts.results
    shared = [dataclasses.replace(result, label="again") for result in results]
    monkeypatch.setattr(Facts, "results", property(lambda _: [*results, *shared]))
    assert cost(facts) == once


def test_the_cost_says_how_often_an_engine_was_started_and_how_long_that_took(
    tmp_path: Path,
) -> None:
    (section,) = cost(collect(make_run(tmp_path).folder))
    text = section.blocks[0].text
    assert "started once" in text
    assert "1 min 14 s" in text


def test_training_in_progress_shows_the_steps_so_far(tmp_path: Path) -> None:
    run = make_run(tmp_path, finished=False)
    finish_corpus(run)
    write_metrics(run, num_steps=4)
    text = markdown_of(run)
    assert "Unfinished: 4 of 6 steps so far." in text
    assert "The checkpoint is unfinished" in text
    assert "(figures/training.png)" in text


def test_a_run_without_an_evaluate_stage_says_so(tmp_path: Path) -> None:
    text = markdown_of(make_run(tmp_path, "sampled", "stages=[sample,report]"))
    assert "this run has no evaluate stage (stages=[sample, report])" in text


def test_a_corpus_that_is_gone_is_named_and_the_scores_still_shown(tmp_path: Path) -> None:
    run = make_run(tmp_path, "gone", "data=file", "data.path=prompts.jsonl", finished=False)
    write_scores(run, humaneval=base_scores(run))
    text = markdown_of(run)
    assert "The corpus cannot be located" in text
    assert "humaneval pass@1" in text


def test_scores_of_other_settings_are_called_out(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    write_scores(run, humaneval=benchmark_scores(run, UNDECIDED))
    text = markdown_of(make_run(tmp_path, "first", "eval.temp=1.1"))
    assert "The tuned scores on humaneval belong to other settings than config.yaml's" in text
    assert "The base scores" not in text
    assert text.index("The scores below are out of date.") < text.index("humaneval: undecided")


def test_scores_with_older_intervals_are_shown_and_called_so(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    write_scores(run, humaneval=benchmark_scores(run, UNDECIDED))
    assert "an earlier version's" not in markdown_of(run)
    path = run.folder / "scores.json"
    stored = json.loads(path.read_text())
    del stored["intervals"]
    path.write_text(json.dumps(stored))
    text = markdown_of(run)
    assert "**humaneval: undecided.**" in text
    assert "ssd evaluate RUN_DIR" in text


def test_scores_of_another_evaluation_name_what_changed(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    write_scores(run, humaneval=benchmark_scores(run, UNDECIDED))
    text = markdown_of(make_run(tmp_path, "first", "eval.bootstrap=77"))
    assert "belong to other settings than config.yaml's (eval.bootstrap): evaluate again" in text


def test_figures_of_facts_that_are_gone_are_removed(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    write_scores(run, humaneval=benchmark_scores(run, UNDECIDED))
    report(run.folder)
    (run.folder / "scores.json").unlink()
    report(run.folder)
    assert {path.name for path in (run.folder / "figures").iterdir()} == {
        "training.png",
        "training.svg",
    }


def test_an_artifact_older_than_the_last_start_was_reused(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    manifest = lineage.corpus(run).folder / "manifest.json"
    stored = json.loads(manifest.read_text(encoding="utf-8"))
    del stored["digest"]
    older = {**stored, "finished": "2026-01-02T03:04:05+0000", "wall_seconds": 8000.0}
    manifest.write_text(json.dumps(older), encoding="utf-8")
    text = " ".join(markdown_of(run).split())
    assert "| Corpus | 2 h 13 min | 9,000 | reused |" in text
    assert "| Checkpoint | 2 h 13 min | 37,800 | this run |" in text
    assert "50.0% of it reused from earlier runs." in text


def test_the_same_files_give_the_same_report(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    write_scores(run, humaneval=benchmark_scores(run, UNDECIDED))
    report(run.folder)
    first = (run.folder / "report.html").read_bytes()
    report(run.folder)
    assert (run.folder / "report.html").read_bytes() == first


def test_a_diverged_loss_does_not_stop_the_report(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    path = lineage.checkpoint(run).folder / "metrics.jsonl"
    lines = path.read_text(encoding="utf-8").splitlines()
    lines[-1] = json.dumps({**json.loads(lines[-1]), "train/loss": float("nan")})
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    sign(path)
    assert "1 of 16 steps have a loss that is not finite" in markdown_of(run)


@pytest.mark.parametrize(
    "damage", ['{"version": 2, "benchmarks": {}}', '{"version": 1}', '{"version": 3}', "{", "[]"]
)
def test_damaged_scores_are_an_error_that_names_the_file(tmp_path: Path, damage: str) -> None:
    run = make_run(tmp_path)
    (run.folder / "scores.json").write_text(damage, encoding="utf-8")
    with pytest.raises(ArtifactError, match=r"scores\.json"):
        report(run.folder)


def command_line(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "ssd.report", *arguments],
        capture_output=True,
        text=True,
        check=False,
    )


def test_command_line_prints_the_findings(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    write_scores(run, humaneval=benchmark_scores(run, UNDECIDED))
    result = command_line(str(run.folder))
    assert result.returncode == 0, result.stderr
    assert "humaneval: undecided. pass@1 goes from 37.5% to 41.7%" in result.stdout
    assert (run.folder / "report.html").is_file()


def test_command_line_explains_itself_and_refuses_other_folders_in_one_line(tmp_path: Path) -> None:
    assert "RUN_DIR|STUDY_DIR" in command_line("--help").stdout
    for folder in (tmp_path, tmp_path / "absent"):
        result = command_line(str(folder))
        assert result.returncode != 0
        assert result.stderr.startswith("error: ")
        assert "neither a run" in result.stderr
        assert len(result.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    ("adapter", "trained"),
    [
        ("none", "all parameters"),
        ("lora", "low-rank adapters, rank 16, alpha 32"),
        ("qlora", "low-rank adapters on 4-bit weights, rank 16, alpha 32"),
    ],
)
def test_the_settings_say_what_is_trained(tmp_path: Path, adapter: str, trained: str) -> None:
    run = make_run(tmp_path, "first", f"adapter={adapter}", finished=False)
    (section,) = settings(collect(run.folder))
    (table,) = [block for block in section.blocks if isinstance(block, Table)]
    assert ["Trained", trained] in table.rows


def test_the_summary_tells_what_the_scores_rest_on(tmp_path: Path) -> None:
    run = make_run(tmp_path, "summary", "sampler.max_new_tokens=192")
    write_scores(run, humaneval=benchmark_scores(run, UNDECIDED))
    identity = "wheel:0123:package/Model.Q4_1.gguf"
    facts = collect(run.folder)
    weights = dataclasses.replace(facts.run.weights, identity=identity)
    known = dataclasses.replace(facts, run=dataclasses.replace(facts.run, weights=weights))
    text = markdown(document(known))
    summary = text[text.index("## Summary") : text.index("## Scores")]
    assert "from a 4-bit file, dequantised" in summary
    assert "34% of the samples were cut off at the length cap of 192 tokens" in summary
    assert "Here the model wrote 61 answers to 64 prompts (T_train 1.2" in summary


@pytest.mark.parametrize(
    ("folder", "title"), [("mine/own-model", "own-model"), ("mine/tiny-25db", "tiny")]
)
def test_a_model_of_a_local_folder_goes_by_its_own_name(
    tmp_path: Path, folder: str, title: str
) -> None:
    run = make_run(tmp_path, "local", f"model.path={tmp_path / folder}", finished=False)
    text = markdown_of(run)
    assert f"Simple self-distillation of {title}:" in text
    assert f"| {title} (" in text
