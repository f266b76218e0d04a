"""What an analysis says, as plain tables: by kind of position, by rank, by temperature.

N positions, S samples, R resamples, G temperatures. Positions are put into kinds by the BASE
model's distribution, the same for every model. Tokens of one completion hang together, so every
interval is a bootstrap over completions, never over tokens.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import pairwise, product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ssd.arms import BASE
from ssd.config.settings import AnalyseConfig
from ssd.method.locks import FORK, KINDS, LOCK, classify
from ssd.records.analysis import TEMPS, TERMS, Analysis

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
    settings: AnalyseConfig,
    rng: np.random.Generator,
    num_resamples: int = NUM_RESAMPLES,
) -> dict[str, KindRow]:
    """The number of positions, every model's predictions and the changes by training, for each
    kind.

    Returns:
        Rows by kind: `lock`, `fork`, `other` and `all`, in this order.
    """
    kinds = base_kinds(analysis, settings)
    mean = bootstrap(analysis, rng, num_resamples)
    rows = {}
    for kind in (*KINDS, ALL):
        here = np.ones(len(kinds), dtype=bool) if kind == ALL else kinds == kind
        values = {
            model: {name: np.asarray(getattr(part, name), dtype=float) for name in MEASURES}
            for model, part in analysis.positions.items()
        }
        rows[kind] = KindRow(
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
    return rows


def base_kinds(analysis: Analysis, settings: AnalyseConfig) -> NDArray[np.str_]:
    """(N,) the kind of each position, by the base model's distribution."""
    base = analysis.positions[BASE]
    return classify(base.top_probs, settings.plausible, settings.lock_top1)


def sensitivity(analysis: Analysis) -> list[SensitivityRow]:
    """Shares of the kinds and the change of entropy at locks and forks under other thresholds, one
    row for each pair of `PLAUSIBLE` and `LOCK_TOP1`."""
    base = analysis.positions[BASE]
    changes = {
        model: part.entropy - base.entropy
        for model, part in analysis.positions.items()
        if model != BASE
    }
    rows = []
    for plausible, lock_top1 in product(PLAUSIBLE, LOCK_TOP1):
        kinds = classify(base.top_probs, plausible, lock_top1)
        rows.append(
            SensitivityRow(
                plausible=plausible,
                lock_top1=lock_top1,
                shares={kind: float(np.mean(kinds == kind)) for kind in KINDS},
                entropy_changes={
                    model: {kind: _mean(change[kinds == kind]) for kind in (LOCK, FORK)}
                    for model, change in changes.items()
                },
            )
        )
    return rows


def means_by_kind(
    kinds: NDArray[np.str_], values: Mapping[str, NDArray[Any]]
) -> dict[str, dict[str, NDArray[np.float64]]]:
    """Mean rows of each model's (N, K) values, such as `survivors`.

    Args:
        kinds: (N,) as `base_kinds` gives them.

    Returns:
        (K,) by model, then by kind and `all`; NaN where there is no position of the kind.
    """
    return {
        model: {
            kind: _column_means(columns[(kinds == kind) | (kind == ALL)]) for kind in (*KINDS, ALL)
        }
        for model, columns in values.items()
    }


def entropy_by_head_mass(
    analysis: Analysis,
    temps: Mapping[str, float],
    rng: np.random.Generator,
) -> list[HeadMassBin]:
    """Entropy after truncation at each model's own temperature, by bin of the base model's top-20
    mass (paper, figure 6).

    Args:
        temps: the evaluation temperature of each model to show, such as
            `{"base": 0.7, "tuned": 0.9}`; NaN entropies above the last of `TEMPS`.

    Returns:
        A bin between each two of `HEAD_MASS_EDGES`; one without positions has count 0 and NaN
        entropies.
    """
    mass = np.clip(analysis.positions[BASE].head_mass, 0, 1)
    after = {
        model: entropy_at(analysis.positions[model].entropy_after, temp)
        for model, temp in temps.items()
    }
    mean = bootstrap(analysis, rng, NUM_RESAMPLES)
    last = len(HEAD_MASS_EDGES) - 2
    bins = np.clip(np.searchsorted(HEAD_MASS_EDGES, mass, side="right") - 1, 0, last)
    return [
        HeadMassBin(
            low=low,
            high=high,
            count=int((bins == n).sum()),
            entropies={model: mean(values, bins == n) for model, values in after.items()},
        )
        for n, (low, high) in enumerate(pairwise(HEAD_MASS_EDGES))
    ]


def entropy_at(entropies: NDArray[np.float64], temp: float) -> NDArray[np.float64]:
    """Entropies at any temperature, interpolated linearly between 0 at temperature 0 and the
    measured ones.

    Args:
        entropies: (N, G) at each of `TEMPS`.

    Returns:
        (N,); NaN above the last of `TEMPS`.
    """
    if temp > TEMPS[-1]:
        return np.full(len(entropies), np.nan)
    grid = np.array([0.0, *TEMPS])
    from_greedy = np.column_stack([np.zeros(len(entropies)), entropies])
    above = min(int(np.searchsorted(grid, temp, side="right")), len(grid) - 1)
    share = (temp - grid[above - 1]) / (grid[above] - grid[above - 1])
    between: NDArray[np.float64] = (
        from_greedy[:, above - 1] * (1 - share) + from_greedy[:, above] * share
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


def _mean(values: NDArray[np.float64]) -> float:
    return float(values.mean()) if len(values) else float("nan")


def _column_means(values: NDArray[Any]) -> NDArray[np.float64]:
    if not len(values):
        return np.full(values.shape[1], np.nan)
    means: NDArray[np.float64] = values.mean(axis=0, dtype=float)
    return means
