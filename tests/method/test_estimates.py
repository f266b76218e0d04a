"""pass@k by enumeration, its noise by simulation."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ssd.method.estimates import pass_at_k, sampling_noise


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


def test_pass_at_k_of_uneven_problems_is_that_of_each_alone() -> None:
    num_samples_P, correct_P = np.array([3, 5, 10]), np.array([1, 5, 2])
    pairs = zip([3, 5, 10], correct_P, strict=True)
    alone = [float(pass_at_k(number, correct, 3)) for number, correct in pairs]
    np.testing.assert_allclose(pass_at_k(num_samples_P, correct_P, 3), alone)


def test_pass_at_k_is_stable_for_many_samples() -> None:
    score_P = pass_at_k(100_000, np.array([0, 1, 50_000, 100_000]), 100)
    np.testing.assert_allclose(score_P, [0, 0.001, 1, 1], rtol=1e-9)


@given(st.integers(2, 12), st.data())
def test_pass_at_k_grows_with_k_and_with_correct_samples(num_samples: int, data) -> None:
    correct = data.draw(st.integers(0, num_samples - 1))
    k = data.draw(st.integers(1, num_samples - 1))
    fewer, more = pass_at_k(num_samples, np.array([correct, correct + 1]), k)
    assert 0 <= fewer <= more <= 1
    assert fewer <= pass_at_k(num_samples, np.array([correct]), k + 1)[0]


@pytest.mark.parametrize(("num_samples", "k"), [(2, 1), (6, 1), (6, 3), (6, 6), (3, 2)])
def test_the_noise_of_sampling_is_the_variance_of_repeats(num_samples: int, k: int) -> None:
    rng = np.random.default_rng(3)
    chances_P = np.full(50, 0.3)
    counts_R_P = rng.binomial(num_samples, chances_P, size=(20_000, 50))
    total_R = pass_at_k(num_samples, counts_R_P, k).sum(axis=1)
    noise = sampling_noise(num_samples, counts_R_P, k).mean()
    assert noise == pytest.approx(total_R.var(), rel=0.05)


def test_samples_that_always_agree_leave_no_noise_of_sampling() -> None:
    for k in (1, 2, 4):
        assert sampling_noise(4, np.array([4, 0, 4]), k) == pytest.approx(0)
