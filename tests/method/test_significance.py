"""What a run can show, against the test that it speaks of."""

import numpy as np
import pytest

from ssd.method.estimates import pass_at_k
from ssd.method.sign_flip import sign_flip_p_value
from ssd.method.significance import (
    fewest_changes,
    fewest_problems,
    smallest_detectable,
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


def test_the_least_that_shows_is_what_the_test_finds_in_four_runs_of_five() -> None:
    # No noise: every problem that changes turns from failed to passed.
    rng = np.random.default_rng(0)
    share = smallest_detectable(48, 1)
    changed = rng.binomial(48, share, size=400)
    found = sum(
        sign_flip_p_value(np.ones(count), 2**15, rng) < 0.05
        for count in changed[changed > 0].tolist()
    )
    assert 0.75 < found / 400 < 0.85
    assert share > 6 / 48  # fewer than six changes of 48 are never called significant


def test_problems_and_differences_are_one_relation() -> None:
    assert fewest_problems(0.03, 1) == 263
    assert smallest_detectable(263, 1) <= 0.03 < smallest_detectable(262, 1)
    assert fewest_problems(0.03, 3) == fewest_problems(0.09, 1)
    assert fewest_problems(0.03, None) == 6
    assert smallest_detectable(5, 1) == np.inf
    assert smallest_detectable(164, None) == 0


def test_what_a_run_can_show_goes_by_noise_and_by_its_test() -> None:
    assert visible_difference(-0.03, 0.03, 48, 1) == pytest.approx(smallest_detectable(48, 1))
    # (1.96 + 0.84) standard errors, of which the interval reaches 1.96 to both sides
    assert visible_difference(-0.03, 0.05, 164, 3) == pytest.approx(0.04 * 2.8016 / 1.96, abs=1e-4)
    assert "16.0 points" in visible_sentence(-0.03, 0.03, 48, 1, 1)
    assert "takes 6 changed problems" in visible_sentence(-1, 1, 5, 1, 1)


@pytest.mark.parametrize(("num_samples", "k"), [(1, 1), (5, 1), (5, 3), (6, 6)])
def test_the_smallest_step_is_that_of_one_sample(num_samples: int, k: int) -> None:
    step_N = np.diff(pass_at_k(num_samples, np.arange(num_samples + 1), k))
    smallest = step_N[step_N > 1e-12].min()
    assert smallest_detectable(30, num_samples, k) == pytest.approx(
        smallest * smallest_detectable(30, 1)
    )
