"""Scores of arms, their differences, groups, and the form of answers."""

from dataclasses import replace

import numpy as np
import pytest
from answers import make_verdict
from score_records import EDITION, answers

from ssd.config.choices import Resample
from ssd.errors import ConfigError, DataError
from ssd.evaluate.scores import (
    ArmArrays,
    Estimator,
    benchmark_scores,
    distinct_programs,
    lost_to_form,
    passed_matrix,
    score_candidate,
)
from ssd.method.decoding import Setting
from ssd.method.intervals import Interval
from ssd.records.benchmark_scores import (
    BenchmarkScores,
    ModelScores,
    benchmark_json,
    read_benchmark,
)
from ssd.records.verdicts import Verdict


def verdicts_of(passed_P_G: np.ndarray, num_tokens: int = 10) -> list[Verdict]:
    return [
        make_verdict(f"problem/{problem}", index, bool(passed), num_tokens=num_tokens)
        for problem, row in enumerate(passed_P_G)
        for index, passed in enumerate(row)
    ]


def scored(
    verdicts: dict[str, list[Verdict]],
    k: list[int],
    groups: dict[str, list[str]] | None = None,
    resample: Resample = Resample.problems,
    num_resamples: int = 500,
    seed: int = 0,
) -> BenchmarkScores:
    estimator = Estimator(k=k, resample=resample, num_resamples=num_resamples, seed=seed)
    stand_for = {arm: answers(arm) for arm in verdicts}
    return benchmark_scores(EDITION, stand_for, verdicts, estimator, groups)


def score(
    k: list[int], seed: int = 0, num_resamples: int = 2000, **arms: np.ndarray
) -> BenchmarkScores:
    verdicts = {arm: verdicts_of(passed_P_G) for arm, passed_P_G in arms.items()}
    return scored(verdicts, k, seed=seed, num_resamples=num_resamples)


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
    even = ArmArrays.of(verdicts, [1, 2], Resample.problems)
    assert ArmArrays.of_uneven(verdicts, [1, 2]).intervals() == even.intervals()
    uneven = ArmArrays.of_uneven([v for v in verdicts if v.sample_index < 2 or v.passed], [1, 2])
    np.testing.assert_allclose(uneven.scores[1], [1, 0.5, 0])
    uneven = ArmArrays.of_uneven(verdicts[:-1], [1, 3])  # the last problem has three samples
    np.testing.assert_allclose(uneven.scores[1], [0.5, 0.25, 0])
    np.testing.assert_allclose(uneven.scores[3], [1, 0.75, 0])


@pytest.mark.parametrize("shape", [(2, 1), (3, 2)])
def test_arms_graded_on_different_answers_are_an_error(shape: tuple[int, int]) -> None:
    with pytest.raises(DataError, match="base and tuned were graded on different problems"):
        score([1], base=np.ones((3, 1), dtype=bool), tuned=np.ones(shape, dtype=bool))


def test_equal_models_differ_by_nothing_with_p_1() -> None:
    passed_P_G = np.random.default_rng(0).random((50, 2)) < 0.5
    change = score([1, 2], base=passed_P_G, tuned=passed_P_G).comparisons["base"]
    assert (change.pass_at[1].value, change.pass_at[1].p_value) == (0, 1)
    assert -change.pass_at[1].low == pytest.approx(change.pass_at[1].high)
    assert 0.03 < change.pass_at[1].high < 0.1  # six of 50 problems are 12 points
    assert change.pass_at[2].p_value == 1
    assert change.mean_tokens == Interval(value=0, low=0, high=0)


def test_pairing_makes_a_shared_difficulty_cancel() -> None:
    base_P_G = np.repeat([[True], [False]], 100, axis=0)
    tuned_P_G = base_P_G.copy()
    tuned_P_G[100:120] = True
    both = score([1], base=base_P_G, tuned=tuned_P_G)
    change = both.comparisons["base"].pass_at[1]
    assert change.value == pytest.approx(0.1)
    assert 0.05 < change.low < change.high < 0.15
    assert change.p_value is not None and change.p_value < 0.001
    assert both.models["base"].pass_at[1].high > both.models["tuned"].pass_at[1].low


def test_every_arm_is_compared_with_the_tuned_model_by_its_own_difference() -> None:
    rng = np.random.default_rng(3)
    chances = {"base": 0.3, "base_swept": 0.4, "t1": 0.5, "tuned": 0.7}
    arms = {arm: rng.random((80, 2)) < chance for arm, chance in chances.items()}
    every = score([1, 2], **arms)
    assert list(every.models) == list(chances)
    assert {arm: model.verdicts for arm, model in every.models.items()} == {
        arm: f"verdicts-{arm}" for arm in chances
    }
    assert list(every.comparisons) == ["base", "base_swept", "t1"]
    for arm, comparison in every.comparisons.items():
        for k, change in comparison.pass_at.items():
            tuned, other = (every.models[name].pass_at[k].value for name in ("tuned", arm))
            assert change.value == pytest.approx(tuned - other)
            assert change.low < change.value < change.high


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
        both = scored(arms, [1], resample=resample, num_resamples=300)
        change = both.comparisons["base"].pass_at[1]
        covered += change.low <= 0.2 <= change.high
    assert covered / 200 > 0.91


def test_an_answer_that_grows_longer_shows_with_its_interval() -> None:
    rng = np.random.default_rng(0)
    base = verdicts_of(np.ones((40, 2), dtype=bool), num_tokens=100)
    tuned = [
        make_verdict(row.problem_id, row.sample_index, True, num_tokens=int(rng.integers(110, 130)))
        for row in base
    ]
    both = scored({"base": base, "tuned": tuned}, [1])
    change = both.comparisons["base"].mean_tokens
    assert change.value == pytest.approx(both.models["tuned"].mean_tokens - 100)
    assert 15 < change.low < change.value < change.high < 25


def test_groups_are_scored_on_their_own_problems() -> None:
    rng = np.random.default_rng(2)
    base_P_G, tuned_P_G = rng.random((30, 2)) < 0.3, rng.random((30, 2)) < 0.6
    easy = [f"problem/{index}" for index in range(10)]
    arms = {"base": verdicts_of(base_P_G), "tuned": verdicts_of(tuned_P_G)}
    both = scored(arms, [1], {"easy": easy, "held out": ["problem/99"]})
    alone = score([1], num_resamples=500, base=base_P_G[:10], tuned=tuned_P_G[:10])
    assert both.group_sizes == {"easy": 10}
    assert both.models["tuned"].groups == {"easy": alone.models["tuned"].pass_at}
    change = both.comparisons["base"].groups["easy"]
    own = alone.comparisons["base"]
    assert change.mean_tokens == own.mean_tokens
    assert (change.pass_at[1].value, change.pass_at[1].low) == (
        own.pass_at[1].value,
        own.pass_at[1].low,
    )
    assert scored(arms, [1]).models["base"].pass_at == both.models["base"].pass_at


def test_redrawing_one_sample_per_problem_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"eval\.num_samples"):
        verdicts = {"base": verdicts_of(np.ones((3, 1), dtype=bool))}
        scored(verdicts, [1], resample=Resample.samples)


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
    assert distinct_programs(rows) == 1.5


def test_a_candidate_decoding_is_scored_by_pass_at_1() -> None:
    rows = verdicts_of(np.array([[True, False]] * 20 + [[False, False]] * 20))
    candidate = score_candidate(Setting(0.9), rows, Resample.problems, chosen=True)
    assert (candidate.setting, candidate.num_problems, candidate.chosen) == (Setting(0.9), 40, True)
    assert candidate.score.value == 0.25
    assert 0.16 < candidate.score.low < 0.25 < candidate.score.high < 0.35


def test_an_arm_has_its_scores_its_form_and_what_it_stands_for() -> None:
    rows = [
        make_verdict("a", 0, True, program="x"),
        make_verdict("a", 1, False, program="y", finish_reason="length"),
    ]
    alone = scored({"base": rows}, [1, 2])
    assert (alone.name, alone.num_problems, alone.num_samples) == ("humaneval", 1, 2)
    assert alone.comparisons == {}
    assert alone.models["base"] == ModelScores(
        model="base",
        setting=Setting(0.7, 20, 0.8),
        generations="answers-base",
        verdicts="verdicts-base",
        pass_at={1: Interval(value=0.5, low=0, high=1), 2: Interval(value=1, low=0, high=1)},
        groups={},
        mean_tokens=10,
        fence_share=0.5,
        cut_share=0.5,
        distinct_programs=2,
        lost_to_form=None,
        statuses={"passed": 1, "failed": 1},
        curve=(0.5, 1.0),
    )


def test_shares_lost_to_form_are_counted_where_all_answers_were_looked_at() -> None:
    rows = [
        replace(make_verdict("a", index, False), lost_to=form)
        for index, form in enumerate(["", "usage block", "usage block", "no fence"])
    ]
    assert lost_to_form(rows) == {"usage block": 0.5, "unclosed fence": 0, "no fence": 0.25}
    assert lost_to_form([*rows, make_verdict("b", 0, True)]) is None


def test_the_curve_is_pass_at_every_k() -> None:
    passed_P_G = np.random.default_rng(3).random((20, 6)) < 0.4
    base = score([1, 3, 6], base=passed_P_G, num_resamples=9).models["base"]
    assert len(base.curve) == 6
    assert list(base.curve) == sorted(base.curve)
    for k in (1, 3, 6):
        assert base.curve[k - 1] == pytest.approx(base.pass_at[k].value)


def test_arms_with_the_same_answers_have_the_same_p_value() -> None:
    """More changes than all signs are tried for: the p-value comes from drawn signs."""
    rng = np.random.default_rng(3)
    base_P_G, tuned_P_G = rng.random((60, 1)) < 0.4, rng.random((60, 1)) < 0.6
    changes = score([1], base=base_P_G, base_swept=base_P_G, tuned=tuned_P_G).comparisons
    assert changes["base"].pass_at == changes["base_swept"].pass_at


def test_every_part_of_a_gain_has_an_interval_that_is_stored() -> None:
    rng = np.random.default_rng(4)
    arms = {
        arm: rng.random((40, 2)) < share
        for arm, share in (("base", 0.3), ("base_swept", 0.4), ("t1", 0.4), ("tuned", 0.6))
    }
    scored_arms = score([1], **arms)
    stored = read_benchmark("humaneval", benchmark_json(scored_arms))
    parts = stored.part_intervals
    assert list(parts) == ["base_swept", "t1", "tuned"]
    whole = stored.values["tuned"] - stored.values["base"]
    assert sum(part.value for part in parts.values()) == pytest.approx(whole, abs=1e-5)
    for arm, part in parts.items():
        assert f"[{100 * part.low:+.1f}, {100 * part.high:+.1f}] by" in stored.gain, arm
    assert score([1], base=arms["base"], tuned=arms["tuned"]).steps == {}


def test_a_control_with_the_base_models_own_answers_adds_nothing_for_certain() -> None:
    rng = np.random.default_rng(4)
    base_P_G, unit_P_G, tuned_P_G = (rng.random((40, 2)) < share for share in (0.3, 0.4, 0.6))
    arms = {"base": base_P_G, "base_swept": base_P_G, "t1": unit_P_G, "tuned": tuned_P_G}
    verdicts = {arm: verdicts_of(passed_P_G) for arm, passed_P_G in arms.items()}
    stand_for = {arm: answers(arm) for arm in arms} | {"base_swept": answers("base")}
    estimator = Estimator(k=[1], num_resamples=99, seed=0)
    scored_arms = benchmark_scores(EDITION, stand_for, verdicts, estimator)
    assert list(scored_arms.part_intervals) == ["t1", "tuned"]
    assert " +0.0 by decoding (base_swept minus base" in scored_arms.gain
