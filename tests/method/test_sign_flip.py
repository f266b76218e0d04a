"""The sign-flip test by hand, its false alarms by simulation."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ssd.method.estimates import pass_at_k
from ssd.method.sign_flip import sign_flip_p_value


def test_the_sign_flip_test_is_exact_for_few_problems() -> None:
    differences_P = np.array([1.0, 1.0, 1.0, -1.0, 1.0, 0.0, 0.5])
    signs = itertools.product([1, -1], repeat=len(differences_P))
    exact = np.mean(
        [abs(np.dot(sign, differences_P)) >= abs(differences_P.sum()) - 1e-9 for sign in signs]
    )
    assert sign_flip_p_value(differences_P, 64, np.random.default_rng(0)) == exact


def test_random_signs_come_close_to_all_of_them() -> None:
    differences_P = np.array([1.0, -1.0, 1.0, 0.5, 1.0, -0.5, 1.0] * 2)
    every = sign_flip_p_value(differences_P, 2**14, np.random.default_rng(0))
    drawn = sign_flip_p_value(differences_P, 2**14 - 1, np.random.default_rng(0))
    assert drawn == pytest.approx(every, abs=0.01)
    assert drawn != every


def test_four_problems_that_turn_have_the_p_value_of_four_coins() -> None:
    differences_P = np.array([1.0] * 4 + [0.0] * 20)
    assert sign_flip_p_value(differences_P, 1000, np.random.default_rng(0)) == 2 / 2**4


@pytest.mark.parametrize(("num_problems", "num_samples"), [(12, 1), (60, 1), (60, 4)])
def test_p_values_alarm_falsely_as_often_as_they_say(num_problems: int, num_samples: int) -> None:
    rng = np.random.default_rng(7)
    p_values = []
    for _ in range(600):
        chances_P = rng.beta(0.7, 0.7, size=(num_problems, 1))
        base, tuned = (rng.random((num_problems, num_samples)) < chances_P for _ in range(2))
        differences_P = tuned.mean(axis=1) - base.mean(axis=1)
        p_values.append(sign_flip_p_value(differences_P, 400, rng))
    found = np.mean(np.array(p_values) < 0.05)
    assert found < 0.075
    if num_problems > 12:  # few problems have few p-values below 0.05: the test is then cautious
        assert found > 0.02
        assert 0.09 < np.mean(np.array(p_values) < 0.2) < 0.25


@given(st.lists(st.booleans(), min_size=1, max_size=30), st.integers(0, 5))
def test_p_values_of_swapped_models_are_equal(changes: list[bool], ties: int) -> None:
    differences_P = np.array([1.0 if change else -1.0 for change in changes] + [0.0] * ties)
    one, other = (
        sign_flip_p_value(sign * differences_P, 500, np.random.default_rng(3)) for sign in (1, -1)
    )
    assert one == other
    assert 0 < one <= 1


def test_the_paired_test_about_holds_its_level_for_ten_samples_against_one() -> None:
    rng, significant = np.random.default_rng(0), 0
    for _ in range(600):
        rate_P = rng.beta(0.3, 0.7, size=48)
        ten_P, one_P = (pass_at_k(n, rng.binomial(n, rate_P), 1) for n in (10, 1))
        significant += sign_flip_p_value(ten_P - one_P, 400, rng) < 0.05
    assert significant <= 45  # 7.5 %; 5 % are expected, with a standard error of 0.9
