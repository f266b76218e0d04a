"""The quadratic of score over T_eff."""

import numpy as np
import pytest

from ssd.method.quadratic import fit_quadratic

GRID = {
    0.5: [43.5, 43.5, 43.7, 43.4, 44.0, 43.6, 44.3, 43.9, 45.5, 45.2],
    0.7: [44.3, 44.0, 43.9, 45.5, 44.8, 44.3, 45.3, 45.2, 44.4, 45.1],
    1.0: [44.7, 44.1, 44.2, 45.3, 45.3, 44.7, 45.3, 45.3, 45.7, 45.1],
    1.5: [45.6, 46.0, 46.6, 46.3, 46.3, 47.4, 46.3, 46.6, 42.7, 38.1],
    2.0: [46.0, 46.3, 47.4, 48.1, 47.5, 47.0, 43.6, 40.8, 36.6, 30.9],
}
"""pass@1 of Qwen3-30B-Instruct trained without truncation, by T_train, at T_eval 0.6 to 1.5 (Zhang
et al. 2026, arXiv:2604.01193, the grid without training truncation)."""
POINTS = [
    (t_train * (6 + n) / 10, score) for t_train, row in GRID.items() for n, score in enumerate(row)
]


def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def test_the_papers_grid_has_the_papers_fit() -> None:
    fit = fit_quadratic(*zip(*POINTS, strict=True), rng=rng())
    assert fit is not None and fit.peak is not None and fit.peak_interval is not None
    assert f"{fit.r_squared:.2f}" == "0.74"  # the paper prints 0.75, and a peak near 1.2
    assert f"{fit.peak:.2f}" == "1.32"
    low, high = fit.peak_interval
    assert 1.1 < low < fit.peak < high < 1.6
    assert fit.num_points == 50
    assert fit.span == pytest.approx((0.3, 3.0))


def test_a_quadratic_is_found_exactly() -> None:
    x = [0.4, 0.8, 1.1, 1.5, 2.0]
    y = [3 + 2 * v - 0.8 * v**2 for v in x]
    fit = fit_quadratic(x, y, rng=rng())
    assert fit is not None
    assert fit.coefficients == pytest.approx((3, 2, -0.8))
    assert fit.r_squared == pytest.approx(1)
    assert fit.peak == pytest.approx(1.25)
    assert fit.peak_interval == pytest.approx((1.25, 1.25))
    np.testing.assert_allclose(fit(x), y)


def test_the_interval_narrows_with_less_noise() -> None:
    x = np.linspace(0.3, 2.5, 30)
    noise = np.random.default_rng(1).normal(size=30)
    widths = []
    for size in (0.02, 0.2):
        fit = fit_quadratic(x, 3 + 2 * x - 0.8 * x**2 + size * noise, rng=rng())
        assert fit is not None and fit.peak_interval is not None
        low, high = fit.peak_interval
        assert low < 1.25 < high
        widths.append(high - low)
    assert widths[0] < widths[1] / 5


def test_a_fit_that_opens_upwards_or_is_flat_has_no_peak() -> None:
    x = [0.5, 1.0, 1.5, 2.0, 2.5]
    for y in ([v**2 for v in x], [0.4] * 5, x):
        fit = fit_quadratic(x, y, rng=rng())
        assert fit is not None
        assert fit.peak is None
        assert fit.peak_interval is None
    flat = fit_quadratic(x, [0.4] * 5, rng=rng())
    assert flat is not None and flat.r_squared == 0


def test_three_temperatures_are_too_few() -> None:
    assert fit_quadratic([1, 1, 2, 3], [0.1, 0.2, 0.3, 0.2], rng=rng()) is None
    assert fit_quadratic([], [], rng=rng()) is None
