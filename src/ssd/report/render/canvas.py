"""What all figures share: size, colours and markers of the arms, and the way to files.

Drawn with `matplotlib.figure.Figure`, without pyplot: no global state and no window system. On a
white card, so that figures read on light and dark pages. Models differ in shape as well as in
colour (Okabe and Ito's colour-blind safe palette). Six inches at 11 points keep the text legible
when a phone scales the image down.
"""

import io
from collections.abc import Sequence
from functools import cache, partial

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from numpy.typing import NDArray
from PIL import Image

from ssd.analyse.summary import Estimate
from ssd.method.intervals import Interval
from ssd.report.render.document import Drawing

WIDTH, DPI, FONT = 6.0, 200, 11
LEGEND_COLUMNS = 3
INK, GRID, ZERO = "#24292f", "#e3e6ea", "#8a929c"
STYLES = {
    "base": ("#0072B2", "o"),
    "base_swept": ("#56B4E9", "s"),
    "base_same_decoding": ("#009E73", "^"),
    "t1": ("#CC79A7", "v"),
    "tuned": ("#D55E00", "D"),
}
"""Colour and marker by arm."""


def reach(intervals: Sequence[Interval | Estimate]) -> NDArray[np.float64]:
    """How far bars reach below and above estimates, (2, N). A bootstrap interval, or one in older
    scores, need not hold its own estimate, and a bar has no negative length."""
    below = [each.value - each.low for each in intervals]
    above = [each.high - each.value for each in intervals]
    ends: NDArray[np.float64] = np.maximum(np.nan_to_num(np.array([below, above])), 0)
    return ends


def blank(height: float) -> Figure:
    """An empty figure, `height` inches high."""
    return Figure(
        figsize=(WIDTH, height),
        dpi=DPI,
        layout=ConstrainedLayoutEngine(h_pad=0.12),
        facecolor="white",
    )


def legend(panel: Axes) -> None:
    """Name the panel's marks above the figure, `LEGEND_COLUMNS` in a line."""
    handles, labels = panel.get_legend_handles_labels()
    panel.figure.legend(
        handles,
        labels,
        loc="outside upper right",
        ncols=min(len(labels), LEGEND_COLUMNS),
        frameon=False,
        borderaxespad=0.1,
        labelcolor=INK,
    )


def drawing(figure: Figure) -> Drawing:
    """The finished figure's files; the same facts give the same bytes."""
    for panel in figure.axes:
        panel.set_axisbelow(True)
        panel.spines[["top", "right", "left"]].set_visible(False)
        panel.spines["bottom"].set_color(ZERO)
        panel.tick_params(labelsize=FONT - 1, color=ZERO, labelcolor=INK)
        panel.xaxis.label.set(color=INK, fontsize=FONT)
        panel.yaxis.label.set(color=INK, fontsize=FONT)
    return cache(partial(_saved, figure))


def _saved(figure: Figure, kind: str) -> bytes:
    buffer = io.BytesIO()
    # SVG: a fixed salt for its ids and no date.
    with matplotlib.rc_context({"svg.hashsalt": "ssd"}):
        undated = {"Software": None} if kind == "png" else {"Date": None}
        figure.savefig(buffer, format=kind, metadata=undated)
    figure.set_layout_engine("none")  # the second format keeps its places: half the time
    return _indexed(buffer) if kind == "png" else buffer.getvalue()


def _indexed(png: io.BytesIO) -> bytes:
    """The PNG with a palette of 256 colours, a third of the size: a chart has a few."""
    small = io.BytesIO()
    Image.open(png).convert("RGB").quantize(256).save(small, format="png", optimize=True)
    return small.getvalue()
