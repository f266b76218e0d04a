"""pass@k by enumeration, intervals by known cases, differences on the same resamples."""

import itertools

import numpy as np
import pytest
from answers import make_verdict
from hypothesis import given
from hypothesis import strategies as st

from ssd.errors import DataError
from ssd.evaluate.grading import Verdict
from ssd.evaluate.scores import (
    benchmark_scores,
    interval,
    pass_at_k,
    passed_matrix,
    resample_counts,
    sign_flip_p_value,
)


def verdicts_of(passed_P_G: np.ndarray) -> list[Verdict]:
    return [
        make_verdict(f"problem/{problem}", index, bool(passed))
        for problem, row in enumerate(passed_P_G)
        for index, passed in enumerate(row)
    ]


def score(base_P_G: np.ndarray, tuned_P_G: np.ndarray, k: list[int], seed: int = 0) -> dict:
    roles = {"base": verdicts_of(base_P_G), "tuned": verdicts_of(tuned_P_G)}
    return benchmark_scores(roles, k, num_resamples=2000, rng=np.random.default_rng(seed))


@pytest.mark.parametrize("num_samples", [1, 2, 5, 7])
def test_pass_at_k_is_the_share_of_subsets_with_a_correct_sample(num_samples: int) -> None:
    correct_P = np.arange(num_samples + 1)
    for k in range(1, num_samples + 1):
        enumerated = [
            np.mean(
                [
                    any(i < correct for i in chosen)
                    for chosen in itertools.combinations(range(num_samples), k)
                ]
            )
            for correct in correct_P
        ]
        np.testing.assert_allclose(pass_at_k(num_samples, correct_P, k), enumerated, atol=1e-15)


def test_pass_at_k_is_stable_for_many_samples() -> None:
    score_P = pass_at_k(100_000, np.array([0, 1, 50_000, 100_000]), 100)
    np.testing.assert_allclose(score_P, [0, 0.001, 1, 1], rtol=1e-9)


def test_samples_are_ordered_whatever_the_order_of_the_verdicts() -> None:
    passed_P_G = np.array([[True, False, True], [False, False, True]])
    np.testing.assert_array_equal(passed_matrix(verdicts_of(passed_P_G)[::-1]), passed_P_G)


def test_a_missing_verdict_is_an_error() -> None:
    verdicts = verdicts_of(np.ones((3, 2), dtype=bool))
    with pytest.raises(DataError, match="incomplete"):
        passed_matrix(verdicts[:-1])
    with pytest.raises(DataError, match="incomplete"):
        passed_matrix([])


def test_models_graded_on_different_problems_are_an_error() -> None:
    with pytest.raises(DataError, match="different problems"):
        score(np.ones((3, 1), dtype=bool), np.ones((2, 1), dtype=bool), [1])


def test_every_resample_draws_as_many_problems_as_there_are() -> None:
    counts_B_P = resample_counts(7, 100, np.random.default_rng(0))
    assert counts_B_P.shape == (100, 7)
    assert (counts_B_P.sum(axis=1) == 7).all()


def test_an_interval_has_the_width_of_the_binomial() -> None:
    values_P = np.repeat([1.0, 0.0], 200)
    found = interval(values_P, resample_counts(400, 20_000, np.random.default_rng(0)))
    assert found["value"] == 0.5
    half = 1.96 * np.sqrt(0.25 / 400)
    assert found["low"] == pytest.approx(0.5 - half, abs=0.003)
    assert found["high"] == pytest.approx(0.5 + half, abs=0.003)


def test_intervals_cover_the_truth_about_as_often_as_they_say() -> None:
    rng = np.random.default_rng(1)
    covered = 0
    for _ in range(300):
        values_P = (rng.random(100) < 0.3).astype(float)
        found = interval(values_P, resample_counts(100, 400, rng))
        covered += found["low"] <= 0.3 <= found["high"]
    assert 0.90 < covered / 300 < 0.99


def test_equal_models_differ_by_nothing_with_p_1() -> None:
    passed_P_G = np.random.default_rng(0).random((50, 2)) < 0.5
    found = score(passed_P_G, passed_P_G, [1, 2])
    assert found["difference"]["pass@1"] == {"value": 0, "low": 0, "high": 0, "p_value": 1}
    assert found["difference"]["pass@2"]["p_value"] == 1


def test_pairing_makes_a_shared_difficulty_cancel() -> None:
    base_P_G = np.repeat([[True], [False]], 100, axis=0)
    tuned_P_G = base_P_G.copy()
    tuned_P_G[100:120] = True
    found = score(base_P_G, tuned_P_G, [1])
    change = found["difference"]["pass@1"]
    assert change["value"] == pytest.approx(0.1)
    assert 0.05 < change["low"] < change["high"] < 0.15
    assert change["p_value"] < 0.001
    assert found["models"]["base"]["pass@1"]["high"] > found["models"]["tuned"]["pass@1"]["low"]


def test_the_sign_flip_test_agrees_with_enumeration() -> None:
    differences_P = np.array([1.0, 1.0, 1.0, -1.0, 1.0, 0.0, 0.5])
    signs = itertools.product([1, -1], repeat=len(differences_P))
    exact = np.mean(
        [abs(np.dot(sign, differences_P)) >= abs(differences_P.sum()) - 1e-9 for sign in signs]
    )
    found = sign_flip_p_value(differences_P, 200_000, np.random.default_rng(0))
    assert found == pytest.approx(exact, abs=0.005)


@given(st.lists(st.booleans(), min_size=1, max_size=30), st.integers(0, 5))
def test_p_values_of_swapped_models_are_equal(changes: list[bool], ties: int) -> None:
    differences_P = np.array([1.0 if change else -1.0 for change in changes] + [0.0] * ties)
    one, other = (
        sign_flip_p_value(sign * differences_P, 500, np.random.default_rng(3)) for sign in (1, -1)
    )
    assert one == other
    assert 0 < one <= 1


def test_scores_depend_on_the_seed_alone() -> None:
    rng = np.random.default_rng(5)
    base_P_G, tuned_P_G = rng.random((40, 3)) < 0.4, rng.random((40, 3)) < 0.6
    assert score(base_P_G, tuned_P_G, [1, 3]) == score(base_P_G, tuned_P_G, [1, 3])
    assert score(base_P_G, tuned_P_G, [1, 3]) != score(base_P_G, tuned_P_G, [1, 3], seed=1)


def test_the_score_dict_has_the_documented_shape() -> None:
    verdicts = [make_verdict("a", 0, True), make_verdict("a", 1, False, "length")]
    found = benchmark_scores(
        {"base": verdicts}, [1, 2], num_resamples=10, rng=np.random.default_rng(0)
    )
    assert found == {
        "num_problems": 1,
        "num_samples": 2,
        "models": {
            "base": {
                "pass@1": {"value": 0.5, "low": 0.5, "high": 0.5},
                "pass@2": {"value": 1, "low": 1, "high": 1},
                "mean_tokens": 10,
                "fence_share": 0.5,
                "cut_share": 0.5,
                "statuses": {"passed": 1, "failed": 1},
            }
        },
    }
