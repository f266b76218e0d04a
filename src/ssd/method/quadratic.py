"""Score against T_eff = T_train T_eval: a quadratic, how well it fits, and where it peaks.

N points, R resamples.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]
FEWEST = 4
"""Distinct T_eff: with three a quadratic fits everything."""
FLAT = 1e-9
"""Curvature, relative to the scores, below which a fit has no peak: rounding makes as much."""


@dataclass(frozen=True, slots=True, kw_only=True)
class QuadraticFit:
    """Score = a + b T_eff + c T_eff^2 by least squares."""

    coefficients: tuple[float, float, float]
    """a, b, c."""
    r_squared: float
    """Share of the scores' variance that the fit explains; 0 where they do not vary."""
    peak: float | None
    """T_eff of the maximum, -b / (2c); None where the fit opens upwards or is flat."""
    peak_interval: tuple[float, float] | None
    """95 %, from resampling the points; None where fewer than half of the resamples have a peak."""
    span: tuple[float, float]
    """The lowest and highest T_eff of the points: beyond them a peak is extrapolated."""
    num_points: int

    @property
    def is_located(self) -> bool:
        """Whether the peak and its whole interval lie within what was tried: only then do the
        scores say where to look."""
        if self.peak is None or self.peak_interval is None:
            return False
        ends = (self.peak, *self.peak_interval)
        return self.span[0] <= min(ends) and max(ends) <= self.span[1]

    def __call__(self, t_eff: ArrayLike) -> Array:
        """The fitted score."""
        a, b, c = self.coefficients
        x = np.asarray(t_eff, dtype=np.float64)
        return a + b * x + c * x**2


def fit_quadratic(
    t_eff: Sequence[float],
    score: Sequence[float],
    *,
    rng: np.random.Generator,
    num_resamples: int = 2000,
) -> QuadraticFit | None:
    """Fit the curve that the paper draws through its grid without truncation (section 4).

    The peak's interval is the 95 % percentile interval over resamples of the points with
    replacement, among those resamples that have a peak.

    Args:
        t_eff: (N,), with `score` (N,).
        rng: draws the resamples.

    Returns:
        None under `FEWEST` distinct T_eff.
    """
    x, y = np.asarray(t_eff, dtype=np.float64), np.asarray(score, dtype=np.float64)
    if len(np.unique(x)) < FEWEST:
        return None
    centre, scale = x.mean(), np.ptp(x)
    u = (x - centre) / scale  # well conditioned whatever the temperatures
    whole = _solved(u, y, np.ones((1, len(x))))
    a, b, c = whole[0]
    residual, variance = ((y - _design(u) @ whole[0]) ** 2).sum(), ((y - y.mean()) ** 2).sum()
    peaks = _peaks(whole, y)
    weights = rng.multinomial(len(x), np.full(len(x), 1 / len(x)), size=num_resamples)
    drawn = centre + scale * _peaks(_solved(u, y, weights.astype(np.float64)), y)
    interval = None
    if 2 * len(drawn) >= num_resamples:
        low, high = np.percentile(drawn, [2.5, 97.5])
        interval = (float(low), float(high))
    shift = centre / scale
    return QuadraticFit(
        coefficients=(
            float(a - b * shift + c * shift**2),
            float((b - 2 * c * shift) / scale),
            float(c / scale**2),
        ),
        r_squared=float(1 - residual / variance) if variance > 0 else 0.0,
        peak=float(centre + scale * peaks[0]) if len(peaks) else None,
        peak_interval=interval,
        span=(float(x.min()), float(x.max())),
        num_points=len(x),
    )


def _design(u: Array) -> Array:
    return np.stack([np.ones_like(u), u, u**2], axis=1)  # (N, 3)


def _solved(u: Array, y: Array, weights: Array) -> Array:
    """(R', 3) coefficients for each row of weights (R, N) that has three distinct `u` or more."""
    groups = (np.unique(u)[:, None] == u).astype(np.float64)  # (distinct, N)
    weights = weights[((weights @ groups.T) > 0).sum(axis=1) >= 3]
    design = _design(u)
    matrix = np.einsum("rn,ni,nj->rij", weights, design, design)
    right = np.einsum("rn,ni,n->ri", weights, design, y)
    solved: Array = np.linalg.solve(matrix, right[:, :, None])[:, :, 0]
    return solved


def _peaks(coefficients: Array, y: Array) -> Array:
    """The maxima of the parabolas among (R, 3) coefficients that open downwards."""
    opens_down = coefficients[coefficients[:, 2] < -FLAT * np.abs(y).max()]
    peaks: Array = -opens_down[:, 1] / (2 * opens_down[:, 2])
    return peaks
