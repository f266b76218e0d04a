"""The toy machine's figure: success against temperature, and the gain against top-p."""

from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.figure import Figure

from ssd.artifacts.files import replacing
from ssd.toy.machine import TEMPS, Machine, best, success

INK, GRID, EDGE = "#24292f", "#e3e6ea", "#8a929c"
STYLES = {"teacher": ("#0072B2", "o"), "student": ("#D55E00", "D")}
"""Colour and marker, those of the base and the tuned model in a report."""
SHOWN = TEMPS <= 4


def write_figure(
    folder: Path, base: Machine, tuned: Machine, top_p: float, top_ps: tuple[float, ...]
) -> list[Path]:
    """Draw `toy.png` and `toy.svg` into `folder`; the same machines give the same bytes."""
    figure = Figure(figsize=(10, 4.2), dpi=160, layout="constrained", facecolor="white")
    left, right = figure.subplots(1, 2)
    _curves(left, {"teacher": base, "student": tuned}, top_p)
    _gaps(right, base, tuned, top_ps)
    for panel in (left, right):
        panel.spines[["top", "right", "left"]].set_visible(False)
        panel.spines["bottom"].set_color(EDGE)
        panel.tick_params(color=EDGE, labelcolor=INK)
        panel.grid(axis="y", color=GRID)
        panel.set_axisbelow(True)
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for kind, undated in (("png", "Software"), ("svg", "Date")):
        with (
            replacing(folder / f"toy.{kind}") as temporary,
            matplotlib.rc_context({"svg.hashsalt": "ssd"}),
        ):
            figure.savefig(temporary, format=kind, metadata={undated: None})
        written.append(folder / f"toy.{kind}")
    return written


def _curves(panel: Any, machines: dict[str, Machine], top_p: float) -> None:
    for name, machine in machines.items():
        colour, marker = STYLES[name]
        panel.plot(TEMPS[SHOWN], 100 * success(machine, TEMPS[SHOWN], top_p), color=colour)
        top = best(machine, top_p)
        label = f"{name}: best {100 * top.success:.2f} % at T = {top.temp:.3g}"
        panel.plot(top.temp, 100 * top.success, marker, color=colour, ms=8, ls="-", label=label)
    panel.set_title(f"Success of a program, decoded under top-p {top_p:g}", color=INK, fontsize=11)
    panel.set_xlabel("evaluation temperature", color=INK)
    panel.set_ylabel("programs that succeed, %", color=INK)
    panel.margins(y=0.25)
    panel.set_ylim(bottom=0)
    panel.legend(frameon=False, loc="upper left", labelcolor=INK)


def _gaps(panel: Any, base: Machine, tuned: Machine, top_ps: tuple[float, ...]) -> None:
    gaps = [100 * (best(tuned, top_p).success - best(base, top_p).success) for top_p in top_ps]
    colour, marker = STYLES["student"]
    panel.plot(top_ps, gaps, marker=marker, color=colour, ms=7)
    for top_p, gap in zip(top_ps, gaps, strict=True):
        panel.annotate(
            f"{gap:+.2f}", (top_p, gap), (0, 9), textcoords="offset points", ha="center", color=INK,
            bbox={"facecolor": "white", "edgecolor": "none", "pad": 1},
        )  # fmt: skip
    panel.set_title("Best student less best teacher", color=INK, fontsize=11)
    panel.set_xlabel("evaluation top-p", color=INK)
    panel.set_ylabel("percentage points", color=INK)
    panel.margins(x=0.08, y=0.15)
    panel.set_ylim(bottom=min(0, 1.2 * min(gaps)))  # other settings can lose
    panel.axhline(0, color=EDGE, lw=0.8)
