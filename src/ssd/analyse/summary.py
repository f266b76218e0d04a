"""What an analysis says, as plain tables: by kind of position, by rank, by temperature.

N positions, S samples, R resamples, G temperatures. Positions are put into kinds by the BASE
model's distribution, the same for every model. Tokens of one completion hang together, so every
interval is a bootstrap over completions, never over tokens.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ssd.arms import BASE
from ssd.method.locks import FORK, KINDS, LOCK, classify
from ssd.records.analysis import TERMS, Analysis

ALL = "all"
"""The row over every kind."""
MEASURES = (
    "entropy", "top1", "tail_mass", "support", "kept_mass", *TERMS, "cross_entropy", "logprob",
)  # fmt: skip
"""Fields and properties of `Positions` that the table by kind holds."""
PLAUSIBLE, LOCK_TOP1 = (0.05, 0.1, 0.2), (0.5, 0.7, 0.9)
"""Thresholds that `sensitivity` tries."""
HEAD_MASS_EDGES = (0.0, 0.8, 0.9, 0.95, 0.98, 0.99, 0.999, 1.0)
"""Bins of the base model's top-20 mass: finer towards 1, where most positions are."""
NUM_RESAMPLES = 2000


@dataclass(frozen=True, slots=True)
class Estimate:
    """A mean and its 95 % interval; NaN where there is nothing to average, and the interval NaN
    where fewer than two completions have such positions."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True, kw_only=True)
class KindRow:
    """The positions of one kind."""

    kind: str
    """`lock`, `fork`, `other`, or `all`."""
    count: int
    share: Estimate
    """Of all positions."""
    means: dict[str, dict[str, float]]
    """By model, then by name of `MEASURES`."""
    changes: dict[str, dict[str, Estimate]]
    """That of each trained model minus the base model's, by model, then by measure."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SensitivityRow:
    """What other thresholds would have found."""

    plausible: float
    lock_top1: float
    shares: dict[str, float]
    """By kind."""
    entropy_changes: dict[str, dict[str, float]]
    """Mean change of entropy against the base model in nats, by model, then at `lock` and `fork`;
    NaN where there is no such position."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HeadMassBin:
    """The positions whose top-20 mass under the base model lies in [low, high); the last bin holds
    its upper edge too."""

    low: float
    high: float
    count: int
    entropies: dict[str, Estimate]
    """Mean entropy in nats after each model's temperature and the truncation, by model."""


def kind_table(
    analysis: Analysis,
    *,
    plausible: float,
    lock_top1: float,
    rng: np.random.Generator,
    num_resamples: int = NUM_RESAMPLES,
) -> list[KindRow]:
    """The number of positions, every model's predictions and the changes by training, for each
    kind.

    Returns:
        Rows for `lock`, `fork`, `other` and `all`, in this order.
    """
    kinds = base_kinds(analysis, plausible=plausible, lock_top1=lock_top1)
    mean = bootstrap(analysis, rng, num_resamples)
    rows = []
    for kind in (*KINDS, ALL):
        here = np.ones(len(kinds), dtype=bool) if kind == ALL else kinds == kind
        values = {
            model: {name: np.asarray(getattr(part, name), dtype=float) for name in MEASURES}
            for model, part in analysis.positions.items()
        }
        rows.append(
            KindRow(
                kind=kind,
                count=int(here.sum()),
                share=mean(here.astype(float), np.ones(len(kinds), dtype=bool)),
                means={
                    model: {name: _mean(column[here]) for name, column in columns.items()}
                    for model, columns in values.items()
                },
                changes={
                    model: {
                        name: mean(column - values[BASE][name], here)
                        for name, column in columns.items()
                    }
                    for model, columns in values.items()
                    if model != BASE
                },
            )
        )
    return rows


def base_kinds(analysis: Analysis, *, plausible: float, lock_top1: float) -> NDArray[np.str_]:
    """(N,) the kind of each position, by the base model's distribution."""
    return classify(analysis.positions[BASE].top_probs, plausible, lock_top1)


def sensitivity(
    analysis: Analysis,
    *,
    plausible: Sequence[float] = PLAUSIBLE,
    lock_top1: Sequence[float] = LOCK_TOP1,
) -> list[SensitivityRow]:
    """Shares of the kinds and the change of entropy at locks and forks under other thresholds, one
    row for each pair."""
    base = analysis.positions[BASE]
    changes = {
        model: part.entropy - base.entropy
        for model, part in analysis.positions.items()
        if model != BASE
    }
    rows = []
    for least in plausible:
        for peak in lock_top1:
            kinds = base_kinds(analysis, plausible=least, lock_top1=peak)
            rows.append(
                SensitivityRow(
                    plausible=least,
                    lock_top1=peak,
                    shares={kind: float(np.mean(kinds == kind)) for kind in KINDS},
                    entropy_changes={
                        model: {kind: _mean(change[kinds == kind]) for kind in (LOCK, FORK)}
                        for model, change in changes.items()
                    },
                )
            )
    return rows


def cumulative_mass(
    analysis: Analysis, kinds: NDArray[np.str_]
) -> dict[str, dict[str, NDArray[np.float64]]]:
    """Mean mass of the most probable 1, 2, ... `TOP` tokens.

    Args:
        kinds: (N,) as `base_kinds` gives them.

    Returns:
        (TOP,) by model, then by kind and `all`; NaN where there is no position of the kind.
    """
    return _by_kind(analysis, kinds, lambda model: analysis.positions[model].top_probs.cumsum(1))


def survivors_by_temp(
    analysis: Analysis, kinds: NDArray[np.str_]
) -> dict[str, dict[str, NDArray[np.float64]]]:
    """Mean number of tokens that `eval.truncation` leaves at each of `analysis.temps`.

    Returns:
        (G,) by model, then by kind and `all`; NaN where there is no position of the kind.
    """
    return _by_kind(analysis, kinds, lambda model: analysis.positions[model].survivors)


def entropy_by_temp(
    analysis: Analysis, kinds: NDArray[np.str_]
) -> dict[str, dict[str, NDArray[np.float64]]]:
    """Mean entropy in nats of what `eval.truncation` leaves at each of `analysis.temps`.

    Returns:
        (G,) by model, then by kind and `all`; NaN where there is no position of the kind.
    """
    return _by_kind(analysis, kinds, lambda model: analysis.positions[model].entropy_after)


def entropy_by_head_mass(
    analysis: Analysis,
    temps: Mapping[str, float],
    *,
    rng: np.random.Generator,
    edges: Sequence[float] = HEAD_MASS_EDGES,
    num_resamples: int = NUM_RESAMPLES,
) -> list[HeadMassBin]:
    """Entropy after truncation at each model's own temperature, by bin of the base model's top-20
    mass (paper, figure 6).

    Args:
        temps: the evaluation temperature of each model to show, such as
            `{"base": 0.7, "tuned": 0.9}`; NaN entropies above the last of `analysis.temps`.
        edges: of the bins, ascending; a bin without positions has count 0 and NaN entropies.
    """
    mass = np.clip(analysis.positions[BASE].head_mass, 0, 1)
    after = {
        model: at_temp(analysis.positions[model].entropy_after, analysis.temps, temp, greedy=0.0)
        for model, temp in temps.items()
    }
    mean = bootstrap(analysis, rng, num_resamples)
    bins = np.clip(np.searchsorted(edges, mass, side="right") - 1, 0, len(edges) - 2)
    return [
        HeadMassBin(
            low=edges[n],
            high=edges[n + 1],
            count=int((bins == n).sum()),
            entropies={model: mean(values, bins == n) for model, values in after.items()},
        )
        for n in range(len(edges) - 1)
    ]


def at_temp(
    values: NDArray[np.float64], temps: Sequence[float], temp: float, *, greedy: float
) -> NDArray[np.float64]:
    """Values at any temperature, interpolated linearly between the measured ones.

    Args:
        values: (N, G), such as `survivors` or `entropy_after`.
        temps: (G,), ascending.
        greedy: the value at temperature 0: 1 survivor, entropy 0.

    Returns:
        (N,); NaN above the last of `temps`.
    """
    if temp > temps[-1]:
        return np.full(len(values), np.nan)
    grid = np.array([0.0, *temps])
    values_from_greedy = np.column_stack([np.full(len(values), greedy), values])
    above = min(int(np.searchsorted(grid, temp, side="right")), len(grid) - 1)
    share = (temp - grid[above - 1]) / (grid[above] - grid[above - 1])
    between: NDArray[np.float64] = (
        values_from_greedy[:, above - 1] * (1 - share) + values_from_greedy[:, above] * share
    )
    return between


def bootstrap(
    analysis: Analysis, rng: np.random.Generator, num_resamples: int
) -> Callable[[NDArray[np.float64], NDArray[np.bool_]], Estimate]:
    """A function that gives the mean of (N,) values over chosen positions, with the percentile
    interval over resampled completions. All its intervals use the same resamples."""
    _, sample = np.unique(analysis.positions[BASE].sample, return_inverse=True)  # (N,)
    num_samples = int(sample.max()) + 1
    times = rng.multinomial(
        num_samples, np.full(num_samples, 1 / num_samples), size=num_resamples
    ).astype(float)  # (R, S) how often each completion is drawn

    def mean(values: NDArray[np.float64], here: NDArray[np.bool_]) -> Estimate:
        counts = np.bincount(sample[here], minlength=num_samples)  # (S,)
        sums = np.bincount(sample[here], weights=values[here], minlength=num_samples)
        drawn = times @ counts  # (R,)
        # Few resamples may all miss the few completions that have such a position.
        if (counts > 0).sum() < 2 or not drawn.any():
            return Estimate(_mean(values[here]), np.nan, np.nan)
        means = (times @ sums)[drawn > 0] / drawn[drawn > 0]
        low, high = np.percentile(means, (2.5, 97.5))
        return Estimate(float(sums.sum() / counts.sum()), float(low), float(high))

    return mean


def _by_kind(
    analysis: Analysis, kinds: NDArray[np.str_], values: Callable[[str], NDArray]
) -> dict[str, dict[str, NDArray[np.float64]]]:
    return {
        model: {
            kind: _column_means(values(model)[(kinds == kind) | (kind == ALL)])
            for kind in (*KINDS, ALL)
        }
        for model in analysis.positions
    }


def _mean(values: NDArray[np.float64]) -> float:
    return float(values.mean()) if len(values) else float("nan")


def _column_means(values: NDArray) -> NDArray[np.float64]:
    if not len(values):
        return np.full(values.shape[1], np.nan)
    means: NDArray[np.float64] = values.mean(axis=0, dtype=float)
    return means
