"""Intervals: coverage by simulation, bounds and symmetry by property."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ssd.method.estimates import largest_step, pass_at_k, sampling_noise
from ssd.method.interval_ends import difference_ends, estimate, mean_ends, score_ends, t_quantile


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


def test_students_quantiles_are_those_of_the_tables() -> None:
    for degrees, quantile in ((4, 2.7764), (10, 2.2281), (30, 2.0423), (1000, 1.9623)):
        assert t_quantile(degrees) == pytest.approx(quantile, abs=0.005)
    low, high = mean_ends(np.array([1.0, 2.0, 3.0, 4.0, 5.0]))
    assert (low, high) == pytest.approx((3 - 2.7764 * 0.7071, 3 + 2.7764 * 0.7071), abs=0.005)
    assert list(mean_ends(np.array([7.0]))) == [7, 7]
