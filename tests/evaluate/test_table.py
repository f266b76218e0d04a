"""The plain-text table, as people see it, and what a gain is said to consist of."""

import dataclasses
import subprocess
import sys
from typing import Any

import pytest
from score_records import benchmark, change, difference, model, scores, selection

from ssd.arms import ARMS, CHOSEN_ON_TEST, gain_parts, gain_sentence
from ssd.config.choices import Extraction
from ssd.evaluate.table import score_table
from ssd.method.decoding import Setting
from ssd.method.intervals import Interval
from ssd.problems.extraction import RULES
from ssd.records.benchmark_scores import BenchmarkScores

SCORES = {"base": 0.40, "base_swept": 0.44, "base_same_decoding": 0.42, "t1": 0.45, "tuned": 0.50}


def compared(**changed: Any) -> BenchmarkScores:
    models = {"base": model(0.125), "tuned": model(0.1666, setting=Setting(0.9))}
    return benchmark(models, {"base": change(0.04166, 0.6249, 0.125)}, **changed)


def controlled() -> BenchmarkScores:
    models = {arm: model(value) for arm, value in SCORES.items()}
    changes = {arm: change(0.5 - value) for arm, value in SCORES.items() if arm != "tuned"}
    return benchmark(models, changes)


EXPECTED = """\
       decoding          pass@1             tuned minus it             tokens  fenced  cut  distinct
----------------------------------------------------------------------------------------------------
humaneval, 24 problems x 2 answers (official grading)
base   T=0.7 k=20 p=0.8  12.5 [2.5, 22.5]   +4.2 [-8.3, +16.7] p=0.62  310     98%     2%   1.8
tuned  T=0.9             16.7 [6.7, 26.7]                              310     98%     2%   1.8
mbpp, 1 of 500 problems x 1 answer (2024, official grading)
base   T=0.7 k=20 p=0.8  50.0 [40.0, 60.0]                             310     98%     2%   1.8

base and tuned model are decoded differently (eval.base_temp and eval.base_truncation for the base
  model, eval.temp and eval.truncation for the tuned one); eval.controls=[base_same_decoding] tells
  the two apart
percent with 95 % intervals over problems; differences are paired by problem, in points
tokens: mean answer length; fenced: answers with a code block; cut: stopped by the length cap;
  distinct: different programs per problem
code ran isolated by Linux namespaces"""


def test_the_table_says_what_its_controls_are() -> None:
    table = " ".join(score_table(scores(controlled())).split())
    for control in ("base_swept", "base_same_decoding", "t1"):
        assert f"{control} is {ARMS[control]}" in table
    assert f"base is {ARMS['base']}" not in table


def test_the_table_shows_scores_intervals_and_differences() -> None:
    alone = benchmark(
        {"base": model(0.5)}, {},
        name="mbpp", num_problems=1, num_total=500, num_samples=1, release="2024",
    )  # fmt: skip
    table = score_table(scores(compared(), alone))
    assert table == EXPECTED
    assert max(map(len, table.splitlines())) <= 120


def test_every_control_has_a_row_with_the_tuned_models_difference_to_it() -> None:
    table = score_table(scores(controlled()))
    rows = [line.split()[0] for line in table.splitlines() if line.startswith(tuple(SCORES))]
    assert rows == list(SCORES) == list(ARMS)
    assert "+5.0 [+3.0, +7.0] p=0.01" in next(
        line for line in table.splitlines() if line.startswith("t1")
    )
    assert "humaneval pass@1: of +10.0 points over base, +4.0 by decoding" in table


def test_what_is_lost_to_form_and_a_lenient_rule_are_named() -> None:
    lost = {"usage block": 0.02, "unclosed fence": 0.0, "no fence": 0.01}
    models = {"base": model(0.5, lost_to_form=lost), "tuned": model(0.5, lost_to_form=None)}
    one = benchmark(models, {}, extraction=RULES[Extraction.lenient])
    table = " ".join(score_table(scores(one)).split())
    assert "base 3.0% (2.0% usage block, 1.0% no fence)" in table
    assert "official grading, lenient extraction)" in table


def test_several_k_stand_below_each_other() -> None:
    base = model(0.125)
    pass_at = base.pass_at | {10: Interval(value=0.8, low=0.7, high=0.9)}
    one = benchmark({"base": dataclasses.replace(base, pass_at=pass_at)}, {})
    lines = score_table(scores(one)).splitlines()
    assert lines[0].split() == ["decoding", "pass@k", "tokens", "fenced", "cut", "distinct"]
    assert "@1 12.5 [2.5, 22.5]" in lines[3]
    assert lines[4].strip() == "@10 80.0 [70.0, 90.0]"


def test_difficulties_and_errata_have_a_block_of_their_own() -> None:
    models = {
        arm: dataclasses.replace(scored, groups={"hard": scored.pass_at})
        for arm, scored in compared().models.items()
    }
    changes = {"base": change(0.04, groups={"hard": difference(-0.01, 0.8)})}
    table = score_table(scores(benchmark(models, changes, group_sizes={"hard": 9})))
    block = table[table.index("humaneval  problems") :].splitlines()
    assert block[2].split()[:3] == ["hard", "9", "base"]
    assert block[2].endswith("-1.0 [-3.0, +1.0] p=0.8")
    assert block[3].split()[0] == "tuned"


def test_regression_benchmarks_stand_apart() -> None:
    table = score_table(scores(compared(), compared(name="mbpp", regression=True)))
    main, apart = table.split("out of domain")
    assert "humaneval, 24 problems" in main
    assert "mbpp, 24 problems" not in main
    assert "mbpp, 24 problems" in apart
    assert "+4.2 [-8.3, +16.7] p=0.62" in apart


def test_the_gain_goes_by_the_smallest_k_whatever_their_order() -> None:
    def both(scored: Any) -> Any:
        (first,) = scored.pass_at.values()
        ten = dataclasses.replace(first, value=0.9, high=0.95)
        return dataclasses.replace(scored, pass_at={10: ten, 1: first})

    arms = controlled()
    several = dataclasses.replace(
        arms,
        models={arm: both(scored) for arm, scored in arms.models.items()},
        comparisons={arm: both(changed) for arm, changed in arms.comparisons.items()},
    )
    assert "humaneval pass@1: of +10.0 points over base" in score_table(scores(several))


def test_a_choice_is_told_with_the_problems_that_made_it() -> None:
    table = score_table(scores(compared(), selection=selection("heldout")))
    assert (
        "settings chosen on held-out problems, 2 of mbpp; base among 3, tuned among 2 settings"
        in table
    )
    assert CHOSEN_ON_TEST not in table


def test_a_choice_on_the_test_problems_is_stamped() -> None:
    table = score_table(scores(compared(), selection=selection("test")))
    assert "CHOSEN ON THE TEST PROBLEMS (eval.selection=test): 2 of mbpp" in table
    assert "biased upwards" in table


def test_code_that_ran_without_isolation_is_called_that() -> None:
    stored = scores(compared(), sandbox="bwrap, none")
    last = "code ran isolated by bubblewrap, not isolated (eval.sandbox=none)"
    assert score_table(stored).endswith(last)


@pytest.mark.parametrize(
    ("arms", "causes"),
    [
        (["base", "tuned"], []),
        (["base", "base_same_decoding", "tuned"], []),
        (["base", "base_swept", "t1"], []),
        (["base", "base_swept", "tuned"], ["decoding", "training on own samples"]),
        (["base", "t1", "tuned"], ["decoding and fine-tuning on own samples at T = 1", "SSD"]),
        (list(SCORES), ["decoding", "fine-tuning on own samples at T = 1", "SSD"]),
    ],
)
def test_a_gain_is_parted_by_the_controls_that_are_there(
    arms: list[str], causes: list[str]
) -> None:
    parts = gain_parts({arm: SCORES[arm] for arm in arms})
    assert [part.cause for part in parts] == causes
    if parts:
        assert sum(part.gain for part in parts) == pytest.approx(0.1)


def test_shares_of_a_gain_are_given_only_where_the_gain_is_certain() -> None:
    certain = gain_sentence(SCORES, {}, certain=True)
    assert "+1.0 by fine-tuning on own samples at T = 1 (t1 minus base_swept, 10% of the" in certain
    assert "+5.0 by SSD (tuned minus t1, 50% of the gain)" in certain
    assert "%" not in gain_sentence(SCORES, {}, certain=False)
    ends = {"t1": (-0.03, 0.05)}
    assert "+1.0 [-3.0, +5.0] by fine-tuning" in gain_sentence(SCORES, ends, certain=False)
    sure = controlled()
    unsure = dataclasses.replace(sure, comparisons=sure.comparisons | {"base": change(0.1, 0.2)})
    assert "of the gain" not in score_table(scores(unsure))
    assert "of the gain" in score_table(scores(sure))


def test_neither_the_table_nor_the_stage_imports_torch_or_vllm() -> None:
    program = "import sys, ssd.evaluate.{}; print([name for name in {} if name in sys.modules])"
    for module, absent in (
        ("table", ["numpy", "torch"]),
        ("evaluation", ["torch", "vllm", "transformers"]),
    ):
        command = [sys.executable, "-c", program.format(module, absent)]
        assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "[]\n"
