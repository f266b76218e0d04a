"""Scores of arms, their differences, groups, and the form of answers."""

from dataclasses import replace

import numpy as np
import pytest
from answers import make_verdict

from ssd.config import Resample
from ssd.errors import ConfigError, DataError
from ssd.evaluate.scores import (
    ArmScores,
    benchmark_scores,
    form,
    lost_to_form,
    passed_matrix,
    sweep_score,
)
from ssd.records.verdicts import Verdict


def verdicts_of(passed_P_G: np.ndarray, num_tokens: int = 10) -> list[Verdict]:
    return [
        make_verdict(f"problem/{problem}", index, bool(passed), num_tokens=num_tokens)
        for problem, row in enumerate(passed_P_G)
        for index, passed in enumerate(row)
    ]


def score(k: list[int], seed: int = 0, num_resamples: int = 2000, **arms: np.ndarray) -> dict:
    return benchmark_scores(
        {arm: verdicts_of(passed_P_G) for arm, passed_P_G in arms.items()},
        k,
        num_resamples=num_resamples,
        rng=np.random.default_rng(seed),
    )


def test_samples_are_ordered_whatever_the_order_of_the_verdicts() -> None:
    passed_P_G = np.array([[True, False, True], [False, False, True]])
    np.testing.assert_array_equal(passed_matrix(verdicts_of(passed_P_G)[::-1]), passed_P_G)


def test_a_missing_verdict_is_an_error() -> None:
    verdicts = verdicts_of(np.ones((3, 2), dtype=bool))
    with pytest.raises(DataError, match="incomplete"):
        passed_matrix(verdicts[:-1])
    with pytest.raises(DataError, match="incomplete"):
        passed_matrix([])


def test_problems_may_have_different_numbers_of_samples() -> None:
    passed_P_G = np.array([[1, 1, 0, 0], [1, 0, 0, 0], [0, 0, 0, 0]], dtype=bool)
    verdicts = verdicts_of(passed_P_G)
    even = ArmScores.of(verdicts, [1, 2], Resample.problems)
    assert ArmScores.of_uneven(verdicts, [1, 2]).intervals() == even.intervals()
    uneven = ArmScores.of_uneven([v for v in verdicts if v.sample_index < 2 or v.passed], [1, 2])
    np.testing.assert_allclose(uneven.scores[1], [1, 0.5, 0])
    uneven = ArmScores.of_uneven(verdicts[:-1], [1, 3])  # the last problem has three samples
    np.testing.assert_allclose(uneven.scores[1], [0.5, 0.25, 0])
    np.testing.assert_allclose(uneven.scores[3], [1, 0.75, 0])


@pytest.mark.parametrize("shape", [(2, 1), (3, 2)])
def test_arms_graded_on_different_answers_are_an_error(shape: tuple[int, int]) -> None:
    with pytest.raises(DataError, match="base and tuned were graded on different problems"):
        score([1], base=np.ones((3, 1), dtype=bool), tuned=np.ones(shape, dtype=bool))


def test_equal_models_differ_by_nothing_with_p_1() -> None:
    passed_P_G = np.random.default_rng(0).random((50, 2)) < 0.5
    change = score([1, 2], base=passed_P_G, tuned=passed_P_G)["comparisons"]["base"]
    assert change["pass@1"]["value"] == 0
    assert change["pass@1"]["p_value"] == 1
    assert -change["pass@1"]["low"] == pytest.approx(change["pass@1"]["high"])
    assert 0.03 < change["pass@1"]["high"] < 0.1  # six of 50 problems are 12 points
    assert change["pass@2"]["p_value"] == 1
    assert change["mean_tokens"] == {"value": 0, "low": 0, "high": 0}


def test_pairing_makes_a_shared_difficulty_cancel() -> None:
    base_P_G = np.repeat([[True], [False]], 100, axis=0)
    tuned_P_G = base_P_G.copy()
    tuned_P_G[100:120] = True
    found = score([1], base=base_P_G, tuned=tuned_P_G)
    change = found["comparisons"]["base"]["pass@1"]
    assert change["value"] == pytest.approx(0.1)
    assert 0.05 < change["low"] < change["high"] < 0.15
    assert change["p_value"] < 0.001
    assert found["models"]["base"]["pass@1"]["high"] > found["models"]["tuned"]["pass@1"]["low"]


def test_every_arm_is_compared_with_the_tuned_model_by_its_own_difference() -> None:
    rng = np.random.default_rng(3)
    chances = {"base": 0.3, "base_swept": 0.4, "t1": 0.5, "tuned": 0.7}
    arms = {arm: rng.random((80, 2)) < chance for arm, chance in chances.items()}
    found = score([1, 2], **arms)
    assert list(found["models"]) == list(chances)
    assert list(found["comparisons"]) == ["base", "base_swept", "t1"]
    for arm, change in found["comparisons"].items():
        for name in ("pass@1", "pass@2"):
            means = [found["models"][one][name]["value"] for one in ("tuned", arm)]
            assert change[name]["value"] == pytest.approx(means[0] - means[1])
            assert change[name]["low"] < change[name]["value"] < change[name]["high"]


@pytest.mark.parametrize("resample", list(Resample))
def test_a_paired_interval_covers_the_true_difference_about_as_often_as_it_says(
    resample: Resample,
) -> None:
    rng = np.random.default_rng(5)
    covered = 0
    chances_P = rng.uniform(0.1, 0.6, size=(40, 1))
    for _ in range(200):
        arms = {
            "base": verdicts_of(rng.random((40, 3)) < chances_P),
            "tuned": verdicts_of(rng.random((40, 3)) < chances_P + 0.2),
        }
        found = benchmark_scores(arms, [1], resample=resample, num_resamples=300, rng=rng)
        change = found["comparisons"]["base"]["pass@1"]
        covered += change["low"] <= 0.2 <= change["high"]
    assert covered / 200 > 0.91


def test_an_answer_that_grows_longer_shows_with_its_interval() -> None:
    rng = np.random.default_rng(0)
    base = verdicts_of(np.ones((40, 2), dtype=bool), num_tokens=100)
    tuned = [
        make_verdict(row.problem_id, row.sample_index, True, num_tokens=int(rng.integers(110, 130)))
        for row in base
    ]
    found = benchmark_scores({"base": base, "tuned": tuned}, [1], num_resamples=500, rng=rng)
    change = found["comparisons"]["base"]["mean_tokens"]
    grown = found["models"]["tuned"]["mean_tokens"] - 100
    assert change["value"] == pytest.approx(grown)
    assert 15 < change["low"] < change["value"] < change["high"] < 25


def test_groups_are_scored_on_their_own_problems() -> None:
    rng = np.random.default_rng(2)
    base_P_G, tuned_P_G = rng.random((30, 2)) < 0.3, rng.random((30, 2)) < 0.6
    easy = [f"problem/{index}" for index in range(10)]
    arms = {"base": verdicts_of(base_P_G), "tuned": verdicts_of(tuned_P_G)}
    found = benchmark_scores(
        arms,
        [1],
        groups={"easy": easy, "held out": ["problem/99"]},
        num_resamples=500,
        rng=np.random.default_rng(0),
    )
    alone = score([1], num_resamples=500, base=base_P_G[:10], tuned=tuned_P_G[:10])
    group = found["models"]["tuned"]["groups"]["easy"]
    assert list(found["models"]["tuned"]["groups"]) == ["easy"]
    assert group["num_problems"] == 10
    assert group["pass@1"]["value"] == alone["models"]["tuned"]["pass@1"]["value"]
    change = found["comparisons"]["base"]["groups"]["easy"]["pass@1"]
    assert change["value"] == alone["comparisons"]["base"]["pass@1"]["value"]
    assert change["low"] == alone["comparisons"]["base"]["pass@1"]["low"]
    ungrouped = benchmark_scores(arms, [1], num_resamples=500, rng=np.random.default_rng(0))
    assert ungrouped["models"]["base"]["pass@1"] == found["models"]["base"]["pass@1"]


def test_redrawing_one_sample_per_problem_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"eval\.num_samples"):
        benchmark_scores(
            {"base": verdicts_of(np.ones((3, 1), dtype=bool))},
            [1],
            resample=Resample.samples,
            num_resamples=10,
            rng=np.random.default_rng(0),
        )


def test_scores_depend_on_the_seed_alone() -> None:
    rng = np.random.default_rng(5)
    arms = {"base": rng.random((40, 3)) < 0.4, "tuned": rng.random((40, 3)) < 0.6}
    assert score([1, 3], **arms) == score([1, 3], **arms)
    assert score([1, 3], **arms) != score([1, 3], seed=1, **arms)


def test_equal_programs_of_a_problem_count_once_and_missing_ones_never() -> None:
    rows = [
        make_verdict("a", 0, True, program="one"),
        make_verdict("a", 1, True, program="one"),
        make_verdict("a", 2, False, program="two"),
        make_verdict("b", 0, True, program="one"),
        make_verdict("b", 1, False, program=""),
        make_verdict("b", 2, False, program=""),
    ]
    assert form(rows)["distinct_programs"] == 1.5


def test_a_candidate_decoding_is_scored_by_pass_at_1() -> None:
    rows = verdicts_of(np.array([[True, False]] * 20 + [[False, False]] * 20))
    found = sweep_score(rows)
    assert found["num_problems"] == 40
    assert found["pass@1"]["value"] == 0.25
    assert 0.16 < found["pass@1"]["low"] < 0.25 < found["pass@1"]["high"] < 0.35


def test_the_score_dict_has_the_documented_shape() -> None:
    rows = [
        make_verdict("a", 0, True, program="x"),
        make_verdict("a", 1, False, program="y", finish_reason="length"),
    ]
    found = benchmark_scores({"base": rows}, [1, 2], num_resamples=9, rng=np.random.default_rng(0))
    assert found == {
        "num_problems": 1,
        "num_samples": 2,
        "models": {
            "base": {
                "pass@1": {"value": 0.5, "low": 0, "high": 1},
                "pass@2": {"value": 1, "low": 0, "high": 1},
                "mean_tokens": 10,
                "fence_share": 0.5,
                "cut_share": 0.5,
                "distinct_programs": 2,
                "lost_to_form": None,
                "statuses": {"passed": 1, "failed": 1},
                "curve": [0.5, 1.0],
            }
        },
        "comparisons": {},
    }


def test_shares_lost_to_form_are_counted_where_all_answers_were_looked_at() -> None:
    rows = [
        replace(make_verdict("a", index, False), lost_to=form)
        for index, form in enumerate(["", "usage block", "usage block", "no fence"])
    ]
    assert lost_to_form(rows) == {"usage block": 0.5, "unclosed fence": 0, "no fence": 0.25}
    assert lost_to_form([*rows, make_verdict("b", 0, True)]) is None


def test_the_curve_is_pass_at_every_k() -> None:
    passed_P_G = np.random.default_rng(3).random((20, 6)) < 0.4
    found = score([1, 3, 6], base=passed_P_G, num_resamples=9)["models"]["base"]
    assert len(found["curve"]) == 6
    assert found["curve"] == sorted(found["curve"])
    for k in (1, 3, 6):
        assert found["curve"][k - 1] == pytest.approx(found[f"pass@{k}"]["value"])
