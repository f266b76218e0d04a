"""A report's figures as PNG bytes, on a white card so that they read on light and dark pages.

Drawn with `matplotlib.figure.Figure`, without pyplot: no global state and no window system. Base
and tuned differ in shape as well as in colour (blue and vermilion of Okabe and Ito's colour-blind
safe palette). Six inches at 11 points keep the text legible when a phone scales the image down.
"""

import io
from collections.abc import Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import MaxNLocator, PercentFormatter

from ssd.report.scores import BenchmarkScores, Interval

WIDTH, DPI, FONT = 6.0, 200, 11
INK, GRID, ZERO = "#24292f", "#e3e6ea", "#8a929c"
STYLES = {"base": ("#0072B2", "o"), "tuned": ("#D55E00", "D")}
DIFFERENCE = "#24292f"
CURVES = {"train/loss": "loss", "train/lr": "learning rate", "train/grad_norm": "gradient norm"}
FEW_STEPS = 50
"""Up to this many steps every one gets a dot."""


def scores_png(benchmarks: Sequence[BenchmarkScores]) -> bytes:
    """Base and tuned pass@k above, their paired difference below where there is one;
    a row per benchmark and k."""
    rows = [(benchmark, k) for benchmark in benchmarks for k in benchmark.models["base"].pass_at]
    compared = [(benchmark, k) for benchmark, k in rows if k in benchmark.difference]
    heights = [0.55 * len(rows) + 1.1, *([0.4 * len(compared) + 0.9] if compared else [])]
    figure = _figure(sum(heights))
    axes = figure.subplots(len(heights), 1, squeeze=False, height_ratios=heights)[:, 0]
    _score_panel(axes[0], rows)
    if compared:
        _difference_panel(axes[1], compared)
    return _png(figure)


def training_png(steps: Sequence[dict[str, Any]]) -> bytes:
    """Loss, learning rate and gradient norm over optimizer steps, as far as they were logged."""
    keys = [key for key in CURVES if any(key in line for line in steps)]
    figure = _figure(1.7 * len(keys) + 0.4)
    axes = figure.subplots(len(keys), 1, squeeze=False, sharex=True)[:, 0]
    for panel, key in zip(axes, keys, strict=True):
        lines = [line for line in steps if key in line]
        marker = "o" if len(lines) <= FEW_STEPS else None
        panel.plot([line["step"] for line in lines], [line[key] for line in lines],
                   color=STYLES["base"][0], marker=marker,
                   markersize=3.5, linewidth=1.6)  # fmt: skip
        panel.set_title(CURVES[key], loc="left", fontsize=FONT, color=INK)
        panel.ticklabel_format(axis="y", style="sci", scilimits=(-3, 4), useMathText=True)
        panel.yaxis.set_major_locator(MaxNLocator(4))
        panel.xaxis.set_major_locator(MaxNLocator(integer=True))
        panel.grid(color=GRID)
        if key != "train/loss":
            panel.set_ylim(bottom=0)
    axes[-1].set_xlabel("optimizer step")
    return _png(figure)


def _score_panel(panel: Axes, rows: Sequence[tuple[BenchmarkScores, int]]) -> None:
    for role, (color, marker) in STYLES.items():
        shown = [
            (y, item.models[role].pass_at[k])
            for y, (item, k) in enumerate(rows)
            if role in item.models
        ]
        if shown:
            offset = -0.14 if role == "base" else 0.14
            _dots(panel, [(y + offset, interval) for y, interval in shown], color, marker, role)
    panel.set_xlim(left=-0.015 * panel.get_xlim()[1])  # 0 at the edge, with room for its marker
    panel.set_title("pass@k", loc="left", fontsize=FONT, color=INK)
    panel.xaxis.set_major_formatter(PercentFormatter(1, decimals=None))
    panel.legend(
        loc="lower right",
        bbox_to_anchor=(1, 1),
        ncols=2,
        frameon=False,
        borderaxespad=0.1,
        labelcolor=INK,
    )
    _name_rows(panel, rows)


def _difference_panel(panel: Axes, rows: Sequence[tuple[BenchmarkScores, int]]) -> None:
    panel.axvline(0, color=ZERO, linewidth=1.2, linestyle="--")
    _dots(
        panel,
        [(y, item.difference[k]) for y, (item, k) in enumerate(rows)],
        DIFFERENCE,
        "s",
        "difference",
    )
    panel.set_title("tuned minus base, percentage points", loc="left", fontsize=FONT, color=INK)
    panel.xaxis.set_major_formatter(
        lambda share, _: f"{100 * share:+.3g}" if abs(share) > 1e-9 else "0"
    )
    _name_rows(panel, rows)


def _dots(
    panel: Axes, shown: Sequence[tuple[float, Interval]], color: str, marker: str, label: str
) -> None:
    intervals = [interval for _, interval in shown]
    values = [interval.value for interval in intervals]
    # A bootstrap interval need not hold its own estimate, and a bar cannot have a negative length.
    reach = [
        [max(0.0, interval.value - interval.low) for interval in intervals],
        [max(0.0, interval.high - interval.value) for interval in intervals],
    ]
    panel.errorbar(values, [y for y, _ in shown], xerr=reach, fmt=marker, color=color, label=label,
                   markersize=7, elinewidth=2, capsize=4, capthick=2)  # fmt: skip


def _name_rows(panel: Axes, rows: Sequence[tuple[BenchmarkScores, int]]) -> None:
    # parse_math: a benchmark named `$x` is no formula.
    panel.set_yticks(
        range(len(rows)), [f"{item.name}\npass@{k}" for item, k in rows], parse_math=False
    )
    panel.set_ylim(len(rows) - 0.5, -0.5)
    panel.grid(axis="x", color=GRID)
    panel.tick_params(axis="y", length=0)


def _figure(height: float) -> Figure:
    return Figure(
        figsize=(WIDTH, height),
        dpi=DPI,
        layout=ConstrainedLayoutEngine(h_pad=0.12),
        facecolor="white",
    )


def _png(figure: Figure) -> bytes:
    for panel in figure.axes:
        panel.set_axisbelow(True)
        panel.spines[["top", "right", "left"]].set_visible(False)
        panel.spines["bottom"].set_color(ZERO)
        panel.tick_params(labelsize=FONT - 1, color=ZERO, labelcolor=INK)
        panel.xaxis.label.set(color=INK, fontsize=FONT)
    buffer = io.BytesIO()
    figure.savefig(
        buffer, format="png", metadata={"Software": None}
    )  # the same facts give the same bytes
    return buffer.getvalue()
