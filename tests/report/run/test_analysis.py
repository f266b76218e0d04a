"""The section that says why: sentences, tables, figures, and what a damaged analysis does."""

import json
from pathlib import Path

import numpy as np
import pytest
from analyses import finish_analysis
from published import sign
from run_folders import (
    BETTER,
    benchmark_scores,
    finish_checkpoint,
    finish_corpus,
    make_run,
    write_scores,
)

from ssd.analyse.summary import kind_table
from ssd.records.analysis import read_analysis
from ssd.report.render.document import Document, Figure, Listing, Paragraph, Section, Table
from ssd.report.render.markdown import markdown
from ssd.report.run.analysis import tokens, why
from ssd.report.run.facts import Facts, collect
from ssd.run import Run, evidence, lineage


def analysed_run(
    tmp_path: Path, *overrides: str, models: tuple[str, ...] = ("base", "tuned")
) -> Run:
    run = make_run(tmp_path, "first", *overrides)
    if "t1" in models:
        finish_corpus(lineage.control(run))
        finish_checkpoint(lineage.control(run))
    finish_analysis(run, num_samples=4, models=models)
    return run


def section_of(facts: Facts) -> Section:
    (section,) = why(facts)
    return section


def blocks_of(section: Section, kind: type) -> list:
    return [block for block in section.blocks if isinstance(block, kind)]


def markdown_of(section: Section) -> str:
    return markdown(Document(title="", subtitle="", sections=[section]))


def test_statements_are_the_measured_numbers_of_every_trained_model(tmp_path: Path) -> None:
    run = analysed_run(tmp_path, "eval.controls=[t1]", models=("base", "t1", "tuned"))
    facts = collect(run.folder)
    assert facts.analysis is not None
    assert facts.results[-1].label == "Analysis"
    section = section_of(facts)
    rng = np.random.default_rng(run.config.seed)
    rows = kind_table(facts.analysis, run.config.analyse, rng)
    fork = rows["fork"]
    change = fork.changes["tuned"]["entropy"]
    (sentences,) = (block.entries for block in blocks_of(section, Listing))
    assert sentences[0].startswith("At forks (")
    assert (
        f"to {fork.means['tuned']['entropy']:.3f} in the tuned model "
        f"({change.value:+.3f} [{change.low:+.3f}, {change.high:+.3f}])"
    ) in sentences[0]
    assert f"to {fork.means['t1']['entropy']:.3f} in t1" in sentences[0]
    claim = blocks_of(section, Paragraph)[1].text
    assert "the tail at locks shrank (the interval excludes 0)" in claim


def test_the_evidence_is_there_in_tables_and_figures_with_their_numbers(tmp_path: Path) -> None:
    section = section_of(collect(analysed_run(tmp_path).folder))
    figures = {figure.name: figure for figure in blocks_of(section, Figure)}
    assert list(figures) == [
        "cumulative_mass", "survivors", "entropy_by_head_mass", "decomposition"
    ]  # fmt: skip
    for figure in figures.values():
        assert "tuned" in figure.alt
        assert figure.drawing("png").startswith(b"\x89PNG")
    spread, tail, terms, thresholds = blocks_of(section, Table)
    kinds = [f"{kind}, {model}" for kind in ("lock", "fork", "other", "all")
             for model in ("base", "tuned")]  # fmt: skip
    assert [row[0] for row in spread.rows] == [row[0] for row in tail.rows] == kinds
    for row in terms.rows:
        loss, parts = float(row[1]), [float(cell) for cell in row[3:]]
        assert loss == pytest.approx(sum(parts), abs=3e-4)
    assert thresholds.folded
    assert len(thresholds.rows) == 9
    assert "<details>\n<summary>What other thresholds would have found" in markdown_of(section)


def test_the_tokens_that_changed_most_have_a_section_and_their_probabilities(
    tmp_path: Path,
) -> None:
    facts = collect(analysed_run(tmp_path).folder)
    assert facts.analysis is not None
    moved, programs = tokens(facts)
    assert (moved.title, programs.title) == (
        "Tokens that changed most", "Programs token by token",
    )  # fmt: skip
    (table,) = blocks_of(moved, Table)
    assert len(table.rows) == 8  # two of each of the four answers
    before, after = (facts.analysis.positions[model].logprob for model in ("base", "tuned"))
    most = np.abs(np.exp(after) - np.exp(before)).argmax()
    assert table.rows[0][4:7] == [
        f"{np.exp(before[most]):.1%}",
        f"{np.exp(after[most]):.1%}",
        f"{100 * (np.exp(after[most]) - np.exp(before[most])):+.1f}",
    ]
    assert "The HTML report shows them token by token." in markdown_of(programs)


def test_the_base_model_alone_is_described_without_a_change(tmp_path: Path) -> None:
    run = make_run(tmp_path, "base", "stages=[evaluate,analyse,report]", finished=False)
    finish_analysis(run, num_samples=3, models=("base",))
    section = section_of(collect(run.folder))
    assert blocks_of(section, Listing) == []
    text = markdown_of(section)
    assert "nan" not in text.lower()
    (programs,) = tokens(collect(run.folder))
    assert "with the most forks" in markdown_of(programs)
    assert all(figure.drawing("png") for figure in blocks_of(section, Figure))


def test_a_greedy_corpus_has_no_parts_of_the_loss(tmp_path: Path) -> None:
    run = analysed_run(tmp_path)
    facts = collect(run.folder)
    assert facts.analysis is not None
    for one in facts.analysis.positions.values():
        for name in ("kept_mass", "support_compression", "reshaping", "alignment", "constant"):
            getattr(one, name)[:] = np.nan
    text = markdown_of(section_of(facts))
    assert "The corpus was drawn greedily" in text
    assert "decomposition.png" not in text
    assert "nan" not in text.lower()
    assert "KeptMass) goes" not in text


def test_measurements_during_training_are_drawn_without_an_analysis(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    path = lineage.checkpoint(run).folder / "metrics.jsonl"
    terms = {"support_compression": 0.05, "reshaping": -0.01, "alignment": 0.002, "kept_mass": 0.95,
             "constant": 0.4, "cross_entropy": 0.442}  # fmt: skip
    first = {"step": 0, **{f"decomposition/{name}": value for name, value in terms.items()}}
    last = {**first, "step": 16, "decomposition/kept_mass": 0.99}
    lines = [first, *map(json.loads, path.read_text(encoding="utf-8").splitlines()), last]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    sign(path)
    (figure,) = blocks_of(section_of(collect(run.folder)), Figure)
    assert figure.name == "live_decomposition"
    assert "KeptMass from 0.9500 to 0.9900" in figure.alt
    assert figure.drawing("svg").startswith(b"<?xml")


def test_a_run_without_analysis_has_no_such_section(tmp_path: Path) -> None:
    facts = collect(make_run(tmp_path).folder)
    assert facts.analysis is None
    assert why(facts) == []


def test_an_unfinished_analysis_is_named(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    artifact = evidence.analysis(run, evidence.reported_steps(run))
    facts = collect(run.folder)
    assert "The analysis is unfinished: run ssd analyse RUN_DIR." in facts.missing
    assert (facts.results[-1].fingerprint, facts.results[-1].manifest) == (
        artifact.fingerprint,
        None,
    )


@pytest.mark.parametrize("damage", ["tuned.parquet", "tokens.json", "samples.parquet"])
@pytest.mark.parametrize("how", ["gone", "garbled"])
def test_a_damaged_analysis_is_a_sentence_and_the_report_goes_on(
    tmp_path: Path, damage: str, how: str
) -> None:
    run = analysed_run(tmp_path)
    write_scores(run, humaneval=benchmark_scores(run, BETTER))
    path = evidence.analysis(run, evidence.reported_steps(run)).folder / damage
    path.unlink() if how == "gone" else path.write_bytes(b"PAR1 {nonsense")
    facts = collect(run.folder)
    assert facts.analysis is None
    assert facts.scores is not None
    (sentence,) = (one for one in facts.missing if "is damaged" in one)
    assert sentence.endswith("delete it and run ssd analyse RUN_DIR.")


def test_an_analysis_of_another_layout_is_a_sentence(tmp_path: Path) -> None:
    run = analysed_run(tmp_path)
    artifact = evidence.analysis(run, evidence.reported_steps(run))
    (artifact.folder / "samples.parquet").write_bytes(
        (artifact.folder / "tuned.parquet").read_bytes()
    )
    facts = collect(run.folder)
    assert facts.analysis is None
    assert any("is damaged" in one for one in facts.missing)


def test_what_is_stored_is_what_was_written(tmp_path: Path) -> None:
    run = analysed_run(tmp_path)
    analysis = read_analysis(evidence.analysis(run, evidence.reported_steps(run)).folder)
    tuned = analysis.positions["tuned"]
    np.testing.assert_allclose(tuned.support_compression, -np.log(tuned.kept_mass))


def test_positions_without_locks_and_forks_are_described_all_the_same(tmp_path: Path) -> None:
    run = analysed_run(tmp_path, "analyse.plausible=0.98", "analyse.lock_top1=0.999")
    section = section_of(collect(run.folder))
    text = markdown_of(section)
    assert "No position is a fork." in text
    assert "the method's claim cannot be weighed here" in text
    assert "nan" not in text.lower()
    assert {row[0].split(",")[0] for row in blocks_of(section, Table)[0].rows} == {"other", "all"}
