"""The figures of the analysis: distributions by rank and temperature, and the loss in its parts."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas
from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator
from numpy.typing import NDArray

from ssd.analyse.summary import (
    ALL,
    HeadMassBin,
    KindRow,
    entropy_by_head_mass,
    means_by_kind,
)
from ssd.arms import BASE
from ssd.method.locks import FORK, LOCK
from ssd.records.analysis import TEMPS, Analysis
from ssd.report.render.canvas import FONT, GRID, INK, STYLES, ZERO, blank, drawing, legend, reach
from ssd.report.render.document import Drawing, Figure
from ssd.report.run.analysis_tables import number, share

Curves = Mapping[str, Mapping[str, NDArray[np.float64]]]
"""By model, then by kind of position."""
TERM_TITLES = {
    "support_compression": "support compression, -log KeptMass",
    "reshaping": "reshaping within the support",
    "alignment": "alignment, T KL",
}
"""The parts of the loss that training can change; the constant is the same for every model."""
LEAST = 1e-6
"""Smallest remaining mass that a logarithmic axis shows; float32 probabilities resolve no less."""
LIVE_TITLES = {
    f"decomposition/{term}": title
    for term, title in {**TERM_TITLES, "kept_mass": "KeptMass"}.items()
}
"""By logged metric."""


def mass_figure(analysis: Analysis, kinds: NDArray[np.str_]) -> Figure:
    """How much mass the most probable tokens have, by kind and model."""
    cumulative = {model: part.top_probs.cumsum(1) for model, part in analysis.positions.items()}
    masses, shown = means_by_kind(kinds, cumulative), _shown(kinds)
    values = [
        f"{kind} {model} {share(float(by_kind[kind][0]))} on 1 token, "
        f"{share(float(by_kind[kind][4]))} on 5, {share(float(by_kind[kind][-1]))} on 20"
        for kind in shown
        for model, by_kind in masses.items()
    ]
    return Figure(
        name="cumulative_mass",
        caption=f"How much probability the most probable tokens hold together{_minus(masses)}, at "
        "temperature 1 without truncation"
        + ("" if len(masses) > 1 else ". The axis is logarithmic in the mass that is left")
        + "; each panel has its own scale.",
        alt=f"Line plots of cumulative mass over rank. {'; '.join(values)}.",
        drawing=draw_cumulative_mass(masses, shown),
    )


def survivor_figure(analysis: Analysis, kinds: NDArray[np.str_], cut: str) -> Figure:
    """How many tokens the evaluation's truncation, `cut` in words, leaves at each temperature."""
    survivors = {model: part.survivors for model, part in analysis.positions.items()}
    counts, shown = means_by_kind(kinds, survivors), _shown(kinds)
    values = [
        f"{kind} {model} {by_kind[kind][0]:.1f} at {TEMPS[0]:g}, "
        f"{by_kind[kind][-1]:.1f} at {TEMPS[-1]:g}"
        for kind in shown
        for model, by_kind in counts.items()
    ]
    return Figure(
        name="survivors",
        caption=f"How many tokens survive the evaluation's truncation ({cut}) at a temperature"
        f"{_minus(counts)}.",
        alt=f"Line plots of surviving tokens over T_eval. {'; '.join(values)}.",
        drawing=draw_survivors(counts, shown),
    )


def bin_figure(
    analysis: Analysis, temps: Mapping[str, float], cut: str, rng: np.random.Generator
) -> Figure:
    """Entropy after truncation by top-20 mass, every model at its own temperature of `temps`."""
    bins = [head for head in entropy_by_head_mass(analysis, temps, rng) if head.count]
    labels = {model: f"{model} at T {temp:g}" for model, temp in temps.items()}
    values = [
        f"{head.low:g} to {head.high:g} ({head.count:,} positions): "
        + ", ".join(f"{model} {number(head.entropies[model].value)}" for model in temps)
        for head in bins
    ]
    return Figure(
        name="entropy_by_head_mass",
        caption="Entropy that is left after each model's temperature and the evaluation's "
        f"truncation ({cut}), by how much mass the base model has on its 20 most probable tokens "
        "(paper, figure 6); bars are 95% intervals.",
        alt=f"Dot plot with interval bars of entropy in nats by bin. {'; '.join(values)}.",
        drawing=draw_entropy_bins(bins, labels),
    )


def term_figure(rows: Sequence[KindRow]) -> Figure:
    """The loss in its parts, by kind and model."""
    values = [
        f"{row.kind} {model} "
        + ", ".join(f"{name.replace('_', ' ')} {number(means[name], 4)}" for name in TERM_TITLES)
        for row in rows
        for model, means in row.means.items()
    ]
    return Figure(
        name="decomposition",
        caption="The parts of the loss that training can change, in nats; the constant, T H(q), is "
        "the same for every model and left out. Each panel has its own scale.",
        alt=f"Bar plots by kind of position. {'; '.join(values)}.",
        drawing=draw_terms(rows),
    )


def live_figure(lines: Sequence[dict[str, Any]]) -> Figure:
    """The loss in its parts as training measured it."""
    values = []
    for key, title in LIVE_TITLES.items():
        values_of_key = [line[key] for line in lines if key in line]
        if values_of_key:
            values.append(f"{title} from {values_of_key[0]:.4f} to {values_of_key[-1]:.4f}")
    return Figure(
        name="live_decomposition",
        caption="The parts of the loss at a few fixed contexts of the corpus, measured during "
        "training, in nats, and KeptMass; each panel has its own scale.",
        alt=f"Line plots over optimizer steps. {'; '.join(values)}.",
        drawing=draw_live_terms(lines),
    )


def _shown(kinds: NDArray[np.str_]) -> list[str]:
    """The kinds that get a panel: locks and forks where there are some, and all positions."""
    return [*(kind for kind in (LOCK, FORK) if (kinds == kind).any()), ALL]


def _minus(curves: Curves) -> str:
    """What is drawn, in words: models that were trained a little lie on top of their base."""
    return ": each trained model minus the base model" if len(curves) > 1 else ""


def _against_base(curves: Curves) -> Curves:
    """Every trained model minus the base model."""
    return {
        model: {kind: by_kind[kind] - curves[BASE][kind] for kind in by_kind}
        for model, by_kind in curves.items()
        if model != BASE
    }


def draw_cumulative_mass(masses: Curves, kinds: Sequence[str]) -> Drawing:
    """Mean mass of the most probable 1, 2, ... tokens, a panel per kind: the change against the
    base model in percentage points, or the base model alone, on an axis that is logarithmic in the
    mass that is left."""
    changes = _against_base(masses)
    figure, panels = _stacked(len(kinds), 1.75, changes or masses)
    for panel, kind in zip(panels, kinds, strict=True):
        for model, by_kind in (changes or masses).items():
            ranks = np.arange(1, len(by_kind[kind]) + 1)
            height = 100 * by_kind[kind] if changes else np.maximum(1 - by_kind[kind], LEAST)
            _line(panel, ranks, height, model)
        _title(panel, f"{kind}, percentage points" if changes else kind)
        if changes:
            _zero(panel)
            continue
        panel.set_yscale("log")
        panel.invert_yaxis()
        panel.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        panel.yaxis.set_major_formatter(lambda left, _: f"{100 * (1 - left):.5g}%")
        panel.yaxis.set_minor_locator(NullLocator())
    panels[-1].set_xticks([1, 5, 10, 15, 20])
    panels[-1].set_xlabel("most probable tokens counted")
    return _finished(figure, panels)


def draw_survivors(counts: Curves, kinds: Sequence[str]) -> Drawing:
    """Mean number of tokens that truncation leaves, over the evaluation temperature: the change
    against the base model, or the base model alone."""
    changes = _against_base(counts)
    figure, panels = _stacked(len(kinds), 1.75, changes or counts)
    for panel, kind in zip(panels, kinds, strict=True):
        for model, by_kind in (changes or counts).items():
            _line(panel, TEMPS, by_kind[kind], model)
        _title(panel, f"{kind}, tokens")
        if changes:
            _zero(panel)
        else:
            panel.set_ylim(bottom=0)
            panel.yaxis.set_major_locator(MaxNLocator(4))
    panels[-1].xaxis.set_major_locator(MaxNLocator(steps=[1, 2, 5]))
    panels[-1].set_xlabel("T_eval")
    return _finished(figure, panels)


def _zero(panel: Axes) -> None:
    """The line of no change, always in sight."""
    panel.axhline(0, color=ZERO, linewidth=1)
    panel.yaxis.set_major_locator(MaxNLocator(4))


def draw_entropy_bins(bins: Sequence[HeadMassBin], labels: Mapping[str, str]) -> Drawing:
    """Entropy after truncation by bin of the base model's top-20 mass, with intervals.

    Args:
        labels: what the legend says of each model.
    """
    figure = blank(3.2)
    panel = figure.subplots()
    step = 0.6 / len(labels)
    for place, model in enumerate(labels):
        color, marker = STYLES[model]
        estimates = [head.entropies[model] for head in bins]
        values = [estimate.value for estimate in estimates]
        places = np.arange(len(bins)) + step * (place - (len(labels) - 1) / 2)
        panel.errorbar(places, values, yerr=reach(estimates), fmt=marker, color=color,
                       label=labels[model], markersize=6, elinewidth=1.6, capsize=3)  # fmt: skip
    panel.set_xticks(range(len(bins)), [f"{head.low:g}-\n{head.high:g}" for head in bins])
    panel.set_xlabel("top-20 mass of the base model")
    panel.set_ylabel("entropy, nats")
    panel.set_ylim(bottom=-0.04 * panel.get_ylim()[1])  # 0 near the edge, with room for its marker
    return _finished(figure, [panel])


def draw_terms(rows: Sequence[KindRow]) -> Drawing:
    """The parts of the loss of every model by kind of position, a panel per part."""
    models = list(rows[0].means)
    figure, panels = _stacked(len(TERM_TITLES), 1.55, models)
    width = 0.72 / len(models)
    for panel, (term, title) in zip(panels, TERM_TITLES.items(), strict=True):
        for place, model in enumerate(models):
            places = np.arange(len(rows)) + width * (place - (len(models) - 1) / 2)
            heights = [row.means[model][term] for row in rows]
            panel.bar(places, heights, width * 0.9, color=STYLES[model][0], label=model)
        panel.axhline(0, color=ZERO, linewidth=1)
        _title(panel, title)
        panel.yaxis.set_major_locator(MaxNLocator(4))
    panels[-1].set_xticks(range(len(rows)), [row.kind for row in rows])
    return _finished(figure, panels)


def draw_live_terms(lines: Sequence[dict[str, Any]]) -> Drawing:
    """The parts of the loss at the fixed positions of training, over optimizer steps."""
    keys = [key for key in LIVE_TITLES if any(key in line for line in lines)]
    figure, panels = _stacked(len(keys), 1.45, ())
    for panel, key in zip(panels, keys, strict=True):
        measurements = [line for line in lines if key in line]
        steps = [line["step"] for line in measurements]
        values = [line[key] for line in measurements]
        panel.plot(steps, values, color=STYLES["tuned"][0], marker="o", markersize=4, linewidth=1.6)
        _title(panel, LIVE_TITLES[key])
        panel.yaxis.set_major_locator(MaxNLocator(4))
        panel.xaxis.set_major_locator(MaxNLocator(integer=True))
        panel.ticklabel_format(axis="y", style="plain", useOffset=False)
        panel.grid(color=GRID)
    panels[-1].set_xlabel("optimizer step")
    return drawing(figure)


def _stacked(count: int, height: float, models: Iterable[str]) -> tuple[Canvas, list[Axes]]:
    """Panels above one another that share their x axis, with room for a legend of `models`."""
    figure = blank(height * count + 0.5 + 0.25 * bool(list(models)))
    axes = figure.subplots(count, 1, squeeze=False, sharex=True)[:, 0]
    return figure, list(axes)


def _line(panel: Axes, x: Any, y: NDArray[np.float64], model: str) -> None:
    color, marker = STYLES[model]
    panel.plot(x, y, color=color, marker=marker, markersize=4.5, linewidth=1.4, label=model)


def _title(panel: Axes, text: str) -> None:
    panel.set_title(text, loc="left", fontsize=FONT, color=INK)


def _finished(figure: Canvas, panels: Sequence[Axes]) -> Drawing:
    for panel in panels:
        panel.grid(axis="y", color=GRID)
    legend(panels[0])
    return drawing(figure)
