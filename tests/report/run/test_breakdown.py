"""What a report says of controls, the choice of settings, groups and other domains."""

from pathlib import Path

import pytest
from run_folders import (
    BETTER,
    UNDECIDED,
    WORSE,
    base_scores,
    benchmark_scores,
    controlled_scores,
    interval,
    make_run,
    make_selection,
    with_groups,
    write_scores,
)

from ssd.report.render.html import html
from ssd.report.render.markdown import markdown
from ssd.report.run.facts import collect
from ssd.report.run.sections import document
from ssd.report.study.collection import collect_study
from ssd.report.study.rows import study_table
from ssd.run import Run, lineage

SURE = interval(0.15, 0.09, 0.21, p_value=0.0001)
SMALL = interval(0.02, -0.03, 0.07, p_value=0.4)
LESS = interval(-0.05, -0.09, -0.01, p_value=0.01)


def markdown_of(run: Run) -> str:
    return markdown(document(collect(run.folder)))


def report_of(tmp_path: Path, **differences: dict[str, float]) -> str:
    run = make_run(tmp_path)
    write_scores(run, humaneval=controlled_scores(run, differences))
    return markdown_of(run)


def cells_of(text: str, start: str) -> list[str]:
    row = next(line for line in text.splitlines() if line.startswith(f"| {start}"))
    return [cell.strip() for cell in row.strip("|").split("|")]


def test_a_tuned_model_that_beats_every_control_is_better_than_the_strongest(
    tmp_path: Path,
) -> None:
    text = report_of(tmp_path, base=SURE, base_swept=BETTER, t1=interval(0.1, 0.05, 0.15))
    assert (
        "**humaneval: better.** pass@1 rises from 48.8% (base_swept, the base model under its own "
        "best decoding, swept as widely as the tuned model's: the strongest control) to 55.0%"
    ) in text
    assert "Over the base model the change is +15.0 [+9.0, +21.0], p &lt; 0.001." in text
    assert "was not compared" not in text


def test_a_gain_over_base_that_a_control_reaches_too_is_undecided(tmp_path: Path) -> None:
    text = report_of(tmp_path, base=SURE, base_swept=SMALL)
    assert "**humaneval: undecided.** pass@1 goes from 53.0% (base_swept" in text
    assert "a gain that this control may explain without self-distillation" in text
    assert "a model trained on its samples of temperature 1 was not compared" in text


def test_a_control_above_the_tuned_model_makes_it_worse(tmp_path: Path) -> None:
    text = report_of(tmp_path, base=SURE, base_swept=BETTER, t1=LESS)
    assert "**humaneval: worse.** pass@1 falls from 60.0% (t1" in text


def test_a_weaker_control_that_is_not_beaten_is_weighed(tmp_path: Path) -> None:
    unsure = interval(0.08, -0.01, 0.17, p_value=0.08)
    text = report_of(tmp_path, base=SURE, base_swept=BETTER, t1=unsure)
    assert "**humaneval: undecided.** pass@1 goes from 47.0% (t1" in text
    assert "a control that it does not beat" in text


def test_controls_stand_in_a_table_with_paired_intervals(tmp_path: Path) -> None:
    text = report_of(tmp_path, base=SURE, base_swept=BETTER, base_same_decoding=SMALL, t1=LESS)
    assert "## Controls" in text
    assert "humaneval, pass@1, pass@2: the tuned model beside every control" in text
    cells = cells_of(text, "base_same_decoding, pass@1")
    assert cells[1:4] == ["53.0% [46.0, 60.0]", "+2.0 [-3.0, +7.0], p = 0.400", "-12 [-20, +4]"]
    assert (
        "of +15.0 points over base, +8.8 by decoding (base_swept minus base, 58% of the gain)"
        in text
    )
    assert "-5.0 [-9.0, -1.0] by SSD (tuned minus t1" in text
    assert "| t1" in text[text.index("What each model is") :]


def test_base_and_tuned_alone_have_no_control_section(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    write_scores(run, humaneval=benchmark_scores(run, BETTER))
    text = markdown_of(run)
    for title in ("## Controls", "## Difficulty", "## Out of domain"):
        assert title not in text


def test_a_choice_names_its_problems_and_shows_every_candidate(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    scores = benchmark_scores(run, BETTER, num_problems=161, num_total=164, split="test")
    write_scores(run, make_selection(), humaneval=scores)
    text = markdown_of(run)
    assert "Settings were chosen on held-out problems: 3 of humaneval." in text
    assert "humaneval: HumanEval/3 HumanEval/7 HumanEval/9" in text
    assert cells_of(text, "humaneval pass@1")[-1] == "161 of 164 (test)"
    section = text[text.index("Candidates for the tuned model") :]
    assert cells_of(section, "T 1, top-k 20")[1:] == ["50.0% [30.0, 70.0]", "3", "chosen"]
    assert cells_of(section, "T 1.3, top-k 20")[3] == "-"
    assert "CHOSEN ON THE TEST PROBLEMS" not in text


def test_a_choice_on_the_test_problems_is_stamped_on_the_summary(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    write_scores(run, make_selection("test"), humaneval=benchmark_scores(run, BETTER))
    text = markdown_of(run)
    stamp = text.index("CHOSEN ON THE TEST PROBLEMS (eval.selection=test)")
    assert stamp < text.index("## Scores")
    assert "held-out" not in text[: text.index("## Scores")]
    assert "CHOSEN ON THE TEST PROBLEMS" in html(document(collect(run.folder)))


def test_temperatures_worth_trying_are_named_with_their_reasons(tmp_path: Path) -> None:
    run = make_run(tmp_path, "first", "sampler.temp=1.25", "eval.base_temp=1.0")
    write_scores(run, make_selection(), humaneval=benchmark_scores(run, BETTER))
    text = markdown_of(run)
    section = text[text.index("## Choice of settings") : text.index("## Settings")]
    assert "T_eval worth trying next for the tuned model (eval.temps=[" in section
    assert "\n- 0.8: after an ideal fit" in section
    assert "\n- 1: " not in section  # 0.7, 1 and 1.3 were tried


def test_a_greedy_corpus_gets_no_advice(tmp_path: Path) -> None:
    run = make_run(tmp_path, "first", "sampler.temp=0")
    write_scores(run, humaneval=benchmark_scores(run, BETTER))
    assert "worth trying" not in markdown_of(run)


def test_groups_show_all_problems_first(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    scores = with_groups(benchmark_scores(run, BETTER), hard=9, **{"without errata": 23})
    write_scores(run, humaneval=scores)
    text = markdown_of(run)
    section = text[text.index("## Difficulty and errata") :]
    names = [
        line.split("|")[1].strip()
        for line in section.splitlines()
        if line.startswith("| humaneval pass@1")
    ]
    assert names == [
        "humaneval pass@1, all",
        "humaneval pass@1, hard",
        "humaneval pass@1, without errata",
    ]
    assert cells_of(section, "humaneval pass@1, hard")[1:] == [
        "9",
        "37.5% [18.8, 56.2]",
        "43.8% [20.0, 65.0]",
        "+6.2 [+1.0, +12.0], p = 0.012",
    ]


@pytest.mark.parametrize(
    ("difference", "words"),
    [(UNDECIDED, "no change is shown"), (WORSE, "a change is shown")],
)
def test_a_benchmark_out_of_domain_is_watched_and_decides_nothing(
    tmp_path: Path, difference: dict[str, float], words: str
) -> None:
    run = make_run(tmp_path)
    other = benchmark_scores(run, difference, "mbpp", regression=True)
    write_scores(run, humaneval=benchmark_scores(run, BETTER), mbpp=other)
    text = markdown_of(run)
    summary, section = text[: text.index("## Scores")], text[text.index("## Out of domain") :]
    assert " The tuned model is better on humaneval.\n\n" in summary
    assert (
        f"Out of domain, on mbpp, pass@1 goes from 37.5% to {37.5 + 100 * difference['value']:.1f}%"
        in summary
    )
    assert f": {words}." in summary
    assert cells_of(section, "mbpp pass@1, base")[1] == "37.5% [18.8, 56.2]"


def test_a_benchmark_out_of_domain_without_a_tuned_model_says_so(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    other = {**base_scores(run, "mbpp"), "regression": True}
    write_scores(run, humaneval=base_scores(run), mbpp=other)
    text = markdown_of(run)
    assert "Out of domain, on mbpp, only the base model was evaluated." in text


def test_artifacts_of_the_control_are_listed(tmp_path: Path) -> None:
    run = make_run(tmp_path, "first", "eval.controls=[t1]", "sampler.temp=1.2")
    write_scores(run, humaneval=controlled_scores(run, {"base": SURE, "t1": BETTER}))
    text = markdown_of(run)
    assert (
        cells_of(text, "Checkpoint, t1")[1] == lineage.checkpoint(lineage.control(run)).fingerprint
    )
    assert cells_of(text, "Checkpoint, t1")[2] == "unfinished"


def test_a_study_weighs_the_strongest_rival(tmp_path: Path) -> None:
    run = make_run(tmp_path, "first", "eval.benchmarks=[humaneval]")
    plain = make_run(tmp_path, "second", "eval.benchmarks=[humaneval]")
    write_scores(run, humaneval=controlled_scores(run, {"base": SURE, "base_swept": SMALL}))
    write_scores(plain, humaneval=benchmark_scores(plain, BETTER))
    table = study_table(collect_study([run.folder.parent], run.folder.parent))
    assert cells_of(table, "Run")[-1].endswith("minus strongest rival")
    assert cells_of(table, "first")[-1] == "+2.0 [-3.0, +7.0] base_swept"
    assert cells_of(table, "second")[-1] == "+6.2 [+1.0, +12.0]"
