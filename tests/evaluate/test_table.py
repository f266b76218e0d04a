"""The plain-text table, as people see it, and what a gain is said to consist of."""

import subprocess
import sys
from typing import Any

import pytest

from ssd.arms import ARMS, gain_parts, gain_sentence
from ssd.config.choices import Extraction
from ssd.evaluate.table import CHOSEN_ON_TEST, score_table
from ssd.problems.extraction import RULES

SCORES = {"base": 0.40, "base_swept": 0.44, "base_same_decoding": 0.42, "t1": 0.45, "tuned": 0.50}


def model(value: float, **changed: Any) -> dict[str, Any]:
    facts = {
        "temp": 0.7,
        "top_k": 20,
        "top_p": 0.8,
        "checkpoint_step": None,
        "pass@1": {"value": value, "low": value - 0.1, "high": value + 0.1},
        "mean_tokens": 310.2,
        "fence_share": 0.98,
        "cut_share": 0.0208,
        "distinct_programs": 1.75,
    }
    return {**facts, **changed}


def change(value: float, p_value: float = 0.01, half: float = 0.02) -> dict[str, Any]:
    score = {"value": value, "low": value - half, "high": value + half, "p_value": p_value}
    return {"pass@1": score}


def benchmark(models: dict[str, Any], comparisons: dict[str, Any], **changed: Any) -> dict:
    facts = {
        "release": None,
        "window": None,
        "grading": "official",
        "extraction": "last_fenced_block_after_reasoning",
        "num_total": 24,
        "num_problems": 24,
        "num_samples": 2,
        "split": "all",
        "regression": False,
    }
    return {**facts, "models": models, "comparisons": comparisons, **changed}


def scores(selection: dict[str, Any] | None = None, **benchmarks: Any) -> dict[str, Any]:
    return {
        "version": 2,
        "sandbox": "namespaces",
        "resample": "problems",
        "selection": selection,
        "benchmarks": benchmarks,
    }


def compared() -> dict[str, Any]:
    models = {"base": model(0.125), "tuned": model(0.1666, temp=0.9, top_k=None, top_p=1.0)}
    return benchmark(models, {"base": change(0.04166, 0.6249, 0.125)})


def controlled() -> dict[str, Any]:
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

percent with 95 % intervals over problems; differences are paired by problem, in points
tokens: mean answer length; fenced: answers with a code block; cut: stopped by the length cap;
  distinct: different programs per problem
code ran isolated by Linux namespaces"""


def test_the_table_shows_scores_intervals_and_differences() -> None:
    alone = benchmark(
        {"base": model(0.5)}, {}, num_problems=1, num_total=500, num_samples=1, release="2024"
    )
    table = score_table(scores(humaneval=compared(), mbpp=alone))
    assert table == EXPECTED
    assert max(map(len, table.splitlines())) <= 120


def test_every_control_has_a_row_with_the_tuned_models_difference_to_it() -> None:
    table = score_table(scores(humaneval=controlled()))
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
    table = " ".join(score_table(scores(humaneval=one)).split())
    assert "base 3.0% (2.0% usage block, 1.0% no fence)" in table
    assert "official grading, lenient extraction)" in table


def test_several_k_stand_below_each_other() -> None:
    more = {"pass@10": {"value": 0.8, "low": 0.7, "high": 0.9}}
    one = benchmark({"base": model(0.125, **more)}, {})
    lines = score_table(scores(humaneval=one)).splitlines()
    assert lines[0].split() == ["decoding", "pass@k", "tokens", "fenced", "cut", "distinct"]
    assert "@1 12.5 [2.5, 22.5]" in lines[3]
    assert lines[4].strip() == "@10 80.0 [70.0, 90.0]"


def test_difficulties_and_errata_have_a_block_of_their_own() -> None:
    one = compared()
    for arm in one["models"].values():
        arm["groups"] = {"hard": {"num_problems": 9, "pass@1": arm["pass@1"]}}
    one["comparisons"]["base"]["groups"] = {"hard": change(-0.01, 0.8)}
    table = score_table(scores(humaneval=one))
    block = table[table.index("humaneval  problems") :].splitlines()
    assert block[2].split()[:3] == ["hard", "9", "base"]
    assert block[2].endswith("-1.0 [-3.0, +1.0] p=0.8")
    assert block[3].split()[0] == "tuned"


def test_regression_benchmarks_stand_apart() -> None:
    other = {**compared(), "regression": True}
    table = score_table(scores(humaneval=compared(), mbpp=other))
    main, apart = table.split("out of domain")
    assert "humaneval, 24 problems" in main
    assert "mbpp, 24 problems" not in main
    assert "mbpp, 24 problems" in apart
    assert "+4.2 [-8.3, +16.7] p=0.62" in apart


def selection(mode: str) -> dict[str, Any]:
    sweeps = {"base": [{}] * 9, "tuned": [{}] * 8}
    return {"mode": mode, "validation": "hash", "problems": {"mbpp": ["a", "b"]}, "sweeps": sweeps}


def test_a_choice_is_told_with_the_problems_that_made_it() -> None:
    table = score_table(scores(selection("heldout"), humaneval=compared()))
    assert (
        "settings chosen on held-out problems, 2 of mbpp; base among 9, tuned among 8 settings"
        in table
    )
    assert CHOSEN_ON_TEST not in table


def test_a_choice_on_the_test_problems_is_stamped() -> None:
    table = score_table(scores(selection("test"), humaneval=compared()))
    assert "CHOSEN ON THE TEST PROBLEMS (eval.selection=test): 2 of mbpp" in table
    assert "biased upwards" in table


def test_code_that_ran_without_isolation_is_called_that() -> None:
    found = {**scores(humaneval=compared()), "sandbox": "bwrap, none"}
    last = "code ran isolated by bubblewrap, not isolated (eval.sandbox=none)"
    assert score_table(found).endswith(last)


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
    certain = gain_sentence(SCORES, certain=True)
    assert "+1.0 by fine-tuning on own samples at T = 1 (t1 minus base_swept, 10% of the" in certain
    assert "+5.0 by SSD (tuned minus t1, 50% of the gain)" in certain
    assert "%" not in gain_sentence(SCORES, certain=False)
    unsure = controlled()
    unsure["comparisons"]["base"] = change(0.1, 0.2)
    assert "of the gain" not in score_table(scores(humaneval=unsure))
    assert "of the gain" in score_table(scores(humaneval=controlled()))


def test_neither_the_table_nor_the_stage_imports_torch_or_vllm() -> None:
    program = "import sys, ssd.evaluate.{}; print([name for name in {} if name in sys.modules])"
    for module, absent in (
        ("table", ["numpy", "torch"]),
        ("evaluation", ["torch", "vllm", "transformers"]),
    ):
        command = [sys.executable, "-c", program.format(module, absent)]
        assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "[]\n"
