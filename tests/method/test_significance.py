"""What a run can show, against the test that it speaks of."""

import numpy as np
import pytest

from ssd.method.estimates import pass_at_k
from ssd.method.sign_flip import sign_flip_p_value
from ssd.method.significance import (
    fewest_changes,
    smallest_significant,
    visible_difference,
    visible_sentence,
)


@pytest.mark.parametrize("level", [0.05, 0.01, 0.2])
def test_the_fewest_changes_are_the_first_that_the_test_rejects(level: float) -> None:
    fewest = fewest_changes(level)
    p_values = []
    for changed in (fewest - 1, fewest):
        differences_P = np.array([1.0] * changed + [0.0] * 20)
        p_values.append(sign_flip_p_value(differences_P, 2**15, np.random.default_rng(0)))
    assert p_values[0] >= level > p_values[1]
    assert fewest_changes() == 6


def test_what_a_run_can_show_is_no_less_than_its_test_could_call_significant() -> None:
    assert smallest_significant(48, 1) == pytest.approx(6 / 48)
    assert smallest_significant(164, 3) == pytest.approx(6 / 164 / 3)
    assert smallest_significant(5, 1) == np.inf
    assert smallest_significant(164, None) == 0
    assert smallest_significant(10, 4, k=2) == pytest.approx(6 * (1 / 6) / 10)
    assert visible_difference(-0.03, 0.03, 48, 1) == pytest.approx(0.125)
    assert visible_difference(-0.03, 0.05, 164, 3) == pytest.approx(0.04)
    assert "12.5 points" in visible_sentence(-0.03, 0.03, 48, 1, 1)
    assert "takes 6 changed problems" in visible_sentence(-1, 1, 5, 1, 1)


@pytest.mark.parametrize(("num_samples", "k"), [(1, 1), (5, 1), (5, 3), (6, 6)])
def test_the_smallest_step_is_that_of_one_sample(num_samples: int, k: int) -> None:
    step_N = np.diff(pass_at_k(num_samples, np.arange(num_samples + 1), k))
    smallest = step_N[step_N > 1e-12].min()
    assert smallest_significant(30, num_samples, k) == pytest.approx(6 * smallest / 30)
