"""pass@k by enumeration, coverage and false alarms by simulation, the sign-flip test by hand."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ssd.method.estimates import (
    difference_ends,
    estimate,
    largest_step,
    mean_ends,
    pass_at_k,
    sampling_noise,
    score_ends,
    sign_flip_p_value,
    t_quantile,
)


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


def bootstrap_ends(value_P: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """What this project used before: percentile-bootstrap ends of one mean, 500 resamples."""
    rows_B_P = rng.integers(len(value_P), size=(500, len(value_P)))
    return np.quantile(value_P[rows_B_P].mean(axis=1), [0.025, 0.975])


def coverage(ends: np.ndarray, truth: np.ndarray | float) -> float:
    """How often intervals, (2, R), hold the truth."""
    return float(np.mean((ends[0] <= truth + 1e-12) & (truth - 1e-12 <= ends[1])))


def beta(mean: float, size: float, shape: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    return rng.beta(mean * size, (1 - mean) * size, size=shape)


PROMISED = 0.94 - 0.01
"""94 %, less three standard errors of 4,000 repeats."""


@pytest.mark.parametrize("spread", [0.05, 1.0, 100.0])
@pytest.mark.parametrize(("num_samples", "k"), [(1, 1), (4, 1), (20, 1), (5, 5), (20, 10)])
def test_intervals_over_problems_hold_the_mean_of_the_population(
    num_samples: int, k: int, spread: float
) -> None:
    rng = np.random.default_rng(0)
    by_count = pass_at_k(num_samples, np.arange(num_samples + 1), k)
    for num_problems, mean in itertools.product((20, 48, 164), (0.01, 0.03, 0.4, 0.97)):
        chances_R_P = beta(mean, spread, (4000, num_problems), rng)
        failing = (1 - mean) * spread + np.arange(k)
        truth = 1 - np.prod(failing / (spread + np.arange(k)))
        score_R_P = by_count[rng.binomial(num_samples, chances_R_P)]
        assert coverage(score_ends(score_R_P), truth) > PROMISED, (num_problems, mean)


def test_the_percentile_bootstrap_would_fail_these_simulations() -> None:
    rng = np.random.default_rng(0)
    passed_R_P = (rng.random((600, 48)) < 0.03).astype(float)
    old_R = np.array([bootstrap_ends(passed_P, rng) for passed_P in passed_R_P]).T
    assert coverage(old_R, 0.03) < 0.85
    assert coverage(score_ends(passed_R_P), 0.03) > PROMISED


@pytest.mark.parametrize(("num_samples", "k"), [(1, 1), (4, 1), (20, 1), (5, 5)])
def test_paired_intervals_over_problems_hold_the_mean_difference(num_samples: int, k: int) -> None:
    rng = np.random.default_rng(1)
    by_count = pass_at_k(num_samples, np.arange(num_samples + 1), k)
    for num_problems, (base, share, to) in itertools.product(
        (20, 48, 164), ((0.0, 0.03, 1.0), (0.0, 0.4, 1.0), (0.3, 0.05, 0.3), (0.5, 0.5, 0.7))
    ):
        shape = (4000, num_problems)
        base_R_P = np.full(shape, base)
        tuned_R_P = np.where(rng.random(shape) < share, to, base_R_P)
        truth = share * ((1 - base) ** k - (1 - to) ** k)
        one, other = (by_count[rng.binomial(num_samples, c)] for c in (tuned_R_P, base_R_P))
        assert coverage(difference_ends(one, other), truth) > PROMISED, (num_problems, base, share)


@pytest.mark.parametrize(
    ("num_samples", "k"),
    [(2, 1), (8, 1), *(pytest.param(*more, marks=pytest.mark.slow) for more in ((8, 3), (10, 10)))],
)
@pytest.mark.parametrize("spread", [0.05, 1.0, 100.0])
def test_intervals_over_samples_hold_what_these_problems_would_give(
    num_samples: int, k: int, spread: float
) -> None:
    rng = np.random.default_rng(2)
    by_count = pass_at_k(num_samples, np.arange(num_samples + 1), k)
    step = largest_step(num_samples, k)
    for num_problems, mean in itertools.product((20, 164), (0.03, 0.5, 0.9)):
        base_R_P = beta(mean, spread, (4000, num_problems), rng)
        tuned_R_P = np.minimum(base_R_P + 0.05 * (rng.random(base_R_P.shape) < 0.5), 1)
        counts = [rng.binomial(num_samples, chances) for chances in (base_R_P, tuned_R_P)]
        base_score, tuned_score = (by_count[count] for count in counts)
        noise = [sampling_noise(num_samples, count, k) for count in counts]
        truths = [(1 - (1 - chances) ** k).mean(axis=1) for chances in (base_R_P, tuned_R_P)]
        assert coverage(score_ends(base_score, noise[0], step), truths[0]) > PROMISED
        ends = difference_ends(tuned_score, base_score, noise[0] + noise[1], step)
        assert coverage(ends, truths[1] - truths[0]) > PROMISED


def test_widths_are_those_of_the_binomial_where_there_are_many_problems() -> None:
    score_P = np.repeat([0.0, 1.0], 500)
    low, high = score_ends(score_P)
    assert high - low == pytest.approx(2 * 1.96 * np.sqrt(0.25 / 1000), rel=0.02)
    concentrated_P = np.tile([0.45, 0.5, 0.55], 333)
    low, high = score_ends(concentrated_P)
    assert high - low == pytest.approx(2 * 1.96 * concentrated_P.std() / np.sqrt(999), rel=0.1)


@given(st.data(), st.integers(1, 40), st.integers(1, 6))
def test_intervals_have_width_hold_their_value_and_stay_in_bounds(
    data: st.DataObject, num_problems: int, num_samples: int
) -> None:
    counts = st.lists(st.integers(0, num_samples), min_size=num_problems, max_size=num_problems)
    k = data.draw(st.integers(1, num_samples))
    one, other = (np.array(data.draw(counts)) for _ in range(2))
    one_P, other_P = (pass_at_k(num_samples, count, k) for count in (one, other))
    noises = [None]
    if num_samples > 1:
        noises.append(sampling_noise(num_samples, one, k) + sampling_noise(num_samples, other, k))
    for noise in noises:
        step = largest_step(num_samples, k)
        for value, ends, bounds in (
            (one_P.mean(), score_ends(one_P, noise, step), (0, 1)),
            ((one_P - other_P).mean(), difference_ends(one_P, other_P, noise, step), (-1, 1)),
        ):
            interval = estimate(value, ends)
            assert bounds[0] <= interval.low <= interval.value <= interval.high <= bounds[1]
            assert interval.high > interval.low
            np.testing.assert_allclose([interval.low, interval.high], ends, atol=1e-9)


def test_swapped_models_have_mirrored_intervals() -> None:
    one_P, other_P = np.array([0.5, 1, 0, 1, 1.0]), np.array([0, 1, 0, 0.5, 0.0])
    low, high = difference_ends(one_P, other_P)
    np.testing.assert_allclose(difference_ends(other_P, one_P), [-high, -low])
    low, high = score_ends(one_P)
    np.testing.assert_allclose(score_ends(1 - one_P), [1 - high, 1 - low])


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


def test_students_quantiles_are_those_of_the_tables() -> None:
    for degrees, quantile in ((4, 2.7764), (10, 2.2281), (30, 2.0423), (1000, 1.9623)):
        assert t_quantile(degrees) == pytest.approx(quantile, abs=0.005)
    low, high = mean_ends(np.array([1.0, 2.0, 3.0, 4.0, 5.0]))
    assert (low, high) == pytest.approx((3 - 2.7764 * 0.7071, 3 + 2.7764 * 0.7071), abs=0.005)
    assert list(mean_ends(np.array([7.0]))) == [7, 7]


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
