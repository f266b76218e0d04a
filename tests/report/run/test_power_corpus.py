"""What reports say of a corpus of a power of whole answers, and what they leave out for it."""

import re
from pathlib import Path

import jsonschema
from analyses import finish_analysis
from run_folders import (
    BETTER,
    benchmark_scores,
    finish_checkpoint,
    finish_corpus,
    make_run,
    make_selection,
    write_scores,
)

from ssd.artifacts.files import read_json, write_json
from ssd.artifacts.names import RESULTS
from ssd.records.resampling import Choice, summarise
from ssd.report.exports.card import write_cards
from ssd.report.render.markdown import markdown
from ssd.report.results import SCHEMA, run_results
from ssd.report.run.facts import collect
from ssd.report.run.sections import document
from ssd.report.study.cells import cells
from ssd.report.study.collection import collect_study
from ssd.report.study.document import document as study_document
from ssd.run import Run, lineage

CHOICES = [
    Choice(
        prompt_id=f"p{number}", num_candidates=8, effective_sizes=[8.0, 2.0, size],
        largest_share=0.5, num_resampled=1, num_cut=2, error=0.01, chosen=[3],
        chosen_logprob=-20.0,
    )
    for number, size in enumerate((1.0, 3.0))
]  # fmt: skip


def power_run(tmp_path: Path, name: str = "power", *overrides: str) -> Run:
    run = make_run(tmp_path, name, "experiment=power", *overrides, finished=False)
    finish_corpus(run, power=summarise(CHOICES))
    finish_checkpoint(run)
    write_scores(run, make_selection(), humaneval=benchmark_scores(run, BETTER))
    return run


def test_the_summary_is_of_every_weighing() -> None:
    summary = summarise(CHOICES)
    assert summary["num_candidates"] == 16
    assert summary["effective_size"] == 2.5  # of 8, 2, 1, 8, 2, 3
    assert summary["effective_size_end"] == 2
    assert (summary["cut_share"], summary["repeated_share"]) == (0.25, 0)


def test_a_report_says_what_is_approximate_and_gives_no_number_of_a_temperature(
    tmp_path: Path,
) -> None:
    run = power_run(tmp_path)
    finish_analysis(run, models=("base", "tuned"))
    facts = collect(run.folder)
    assert facts.analysis is not None
    for positions in facts.analysis.positions.values():
        for name in ("kept_mass", "support_compression", "reshaping", "alignment", "constant"):
            getattr(positions, name)[:] = float("nan")
    text = markdown(document(facts))
    assert "power 4 of whole answers (approximate: 8 candidates each at T 0.25)" in text
    assert "with 8 candidates per prompt, effective sample size 2.5" in text
    assert "25% of candidates were cut off" in text
    assert "a power of the base model's distribution over whole answers: what" in text
    assert "No T_eval follows from theory: a corpus of a power" in text
    assert "T_train 0.25" not in text and "drawn greedily" not in text
    assert not re.search(r"\bnan\b", text.lower())


def test_results_have_the_power_in_the_place_of_a_temperature(tmp_path: Path) -> None:
    run = power_run(tmp_path)
    write_json(run.folder / RESULTS, run_results(collect(run.folder)))
    stored = read_json(run.folder / RESULTS)
    jsonschema.Draft202012Validator(read_json(SCHEMA)).validate(stored)
    assert stored["settings"]["t_train"] is None
    assert stored["settings"]["power"]["alpha"] == 4
    assert stored["settings"]["power"]["quality"]["effective_size"] == 2.5


def test_a_study_sets_it_beside_the_temperature_of_single_tokens(tmp_path: Path) -> None:
    power_run(tmp_path)
    local = make_run(tmp_path, "local", "experiment=power", "sampler.power.alpha=null")
    write_scores(local, make_selection(), humaneval=benchmark_scores(local, BETTER))
    study = collect_study([local.folder.parent], local.folder.parent)
    assert {cell.run for cell in cells(study.runs)} == {"local"}
    text = markdown(study_document(study))
    assert "| power 4 (8 candidates) |" in text
    assert "approximate: sequential Monte Carlo" in text
    assert "Runs on a power of whole answers are not in this section" in text


def test_a_corpus_named_by_its_folder_keeps_its_power(tmp_path: Path) -> None:
    run = power_run(tmp_path)
    corpus = lineage.corpus(run).folder
    again = make_run(tmp_path, "again", f"train.corpus={corpus}", finished=False)
    facts = collect(again.folder)
    assert facts.power is not None and facts.power.alpha == 4
    assert facts.fitted is None and lineage.target(again) is None
    assert facts.approximation is not None


def test_a_card_names_the_distribution(tmp_path: Path) -> None:
    run = power_run(tmp_path)
    (lineage.checkpoint(run).folder / "model").mkdir(parents=True)
    (path,) = write_cards(collect(run.folder))
    assert "drawn by power 4 of whole answers" in path.read_text()
