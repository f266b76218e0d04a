"""The figures of a study: scores in the plane of T_train and T_eval, and along their product."""

from collections.abc import Sequence

import numpy as np
from matplotlib import colormaps
from matplotlib.patches import Rectangle
from matplotlib.ticker import PercentFormatter

from ssd.method.quadratic import QuadraticFit
from ssd.report.render.canvas import FONT, GRID, INK, STYLES, ZERO, blank, drawing, reach
from ssd.report.render.document import Drawing
from ssd.report.study.cells import Cell

COLOURS = colormaps["cividis"]
"""One hue family that colour-blind readers order alike, and that stays ordered in grey."""
MARKERS = ("o", "s", "^", "v", "D", "P", "X", "*")
DARK = 0.55
"""Below this share of the colour scale, numbers are white."""


def draw_plane(best: dict[tuple[float, float], Cell], chosen: set[tuple[float, float]]) -> Drawing:
    """Scores in percent, T_train downwards and T_eval to the right; what a run chose is framed.

    Args:
        best: the cell to show by (T_train, T_eval); other places stay blank.
    """
    t_trains, t_evals = (sorted({place[axis] for place in best}) for axis in (0, 1))
    scores = np.full((len(t_trains), len(t_evals)), np.nan)
    for (t_train, t_eval), cell in best.items():
        scores[t_trains.index(t_train), t_evals.index(t_eval)] = cell.score.value
    figure = blank(1.1 + 0.42 * len(t_trains))
    panel = figure.subplots()
    low, high = np.nanmin(scores), np.nanmax(scores)
    span = max(high - low, 1e-9)
    image = panel.imshow(
        np.ma.masked_invalid(scores), cmap=COLOURS, vmin=low, vmax=low + span, aspect="auto"
    )
    for row, column in zip(*np.nonzero(~np.isnan(scores)), strict=True):
        share = (scores[row, column] - low) / span
        place = (t_trains[row], t_evals[column])
        panel.text(column, row, f"{100 * scores[row, column]:.1f}", ha="center", va="center",
                   fontsize=FONT - 1 if len(t_evals) <= 8 else FONT - 3,
                   color="white" if share < DARK else "black",
                   fontweight="bold" if place in chosen else "normal")  # fmt: skip
        if place in chosen:
            panel.add_patch(Rectangle((column - 0.46, row - 0.44), 0.92, 0.88, fill=False,
                                      color="#D55E00", linewidth=2))  # fmt: skip
    panel.set_xticks(range(len(t_evals)), [f"{temp:g}" for temp in t_evals])
    panel.set_yticks(range(len(t_trains)), [f"{temp:g}" for temp in t_trains])
    panel.tick_params(length=0)
    panel.set_xlabel("T_eval")
    panel.set_ylabel("T_train")
    if high > low:
        bar = figure.colorbar(image, ax=panel, format=PercentFormatter(1, decimals=None))
        bar.outline.set_visible(False)
    return drawing(figure)


def draw_t_eff(points: Sequence[Cell], fit: QuadraticFit) -> Drawing:
    """pass@1 with its interval against T_eff, a marker per T_train, hollow for steps before the
    last; the quadratic fit, and its peak's interval as a band."""
    figure = blank(3.9)
    panel = figure.subplots()
    t_trains = sorted({cell.t_train for cell in points})
    palette = [color for color, _ in STYLES.values()]
    if fit.peak_interval is not None:
        panel.axvspan(*fit.peak_interval, color=GRID, zorder=0, label="peak, 95% interval")
    steps = {cell.setting.checkpoint_step for cell in points}
    for number, t_train in enumerate(t_trains):
        for step in sorted(steps, key=lambda step: (step is not None, step)):
            cells = [
                cell
                for cell in points
                if (cell.t_train, cell.setting.checkpoint_step) == (t_train, step)
            ]
            if not cells:
                continue
            label = f"T_train {t_train:g}"
            if len(steps) > 1:
                label += ", last step" if step is None else f", step {step:,}"
            panel.errorbar([cell.t_eff for cell in cells], [cell.score.value for cell in cells],
                           yerr=reach([cell.score for cell in cells]),
                           fmt=MARKERS[number % len(MARKERS)],
                           color=palette[number % len(palette)], markersize=6, elinewidth=0.8,
                           alpha=0.9, label=label,
                           fillstyle="full" if step is None or len(steps) == 1 else "none",
                           )  # fmt: skip
    low, high = (pick(cell.t_eff for cell in points) for pick in (min, max))
    x = np.linspace(low, high, 200)
    panel.plot(x, fit(x), color=INK, linewidth=1.6, label=f"fit, R2 {fit.r_squared:.2f}")
    if fit.peak is not None and low <= fit.peak <= high:
        panel.axvline(fit.peak, color=ZERO, linewidth=1.2, linestyle="--")
    margin = 0.04 * max(high - low, 0.1)
    panel.set_xlim(low - margin, high + margin)
    panel.set_xlabel("T_eff = T_train T_eval")
    panel.set_ylabel("pass@1")
    panel.set_ylim(bottom=max(0.0, panel.get_ylim()[0]))
    panel.yaxis.set_major_formatter(PercentFormatter(1, decimals=None))
    panel.grid(color=GRID)
    figure.legend(loc="outside upper left", ncols=3, frameon=False, labelcolor=INK,
                  fontsize=FONT - 2, borderaxespad=0.1)  # fmt: skip
    return drawing(figure)
