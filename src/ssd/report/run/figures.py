"""The figures of scores and of training."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator, PercentFormatter

from ssd.arms import UNIT, form_words
from ssd.method.intervals import Interval
from ssd.records.benchmark_scores import BenchmarkScores
from ssd.report.render.canvas import (
    FONT,
    GRID,
    INK,
    LEGEND_COLUMNS,
    STYLES,
    ZERO,
    blank,
    drawing,
    legend,
    reach,
)
from ssd.report.render.document import Drawing

DIFFERENCE = ("#24292f", "s")
SPREAD = 0.28
"""Distance of neighbouring models in a row that is 1 high, where there are two."""
CURVES = {"train/loss": "loss", "train/lr": "learning rate", "train/grad_norm": "gradient norm"}
FORM = {"mean_tokens": "mean tokens", "fence_share": "with a {}", "cut_share": "cut off"}
FEW_STEPS = 50
"""Up to this many steps every one gets a dot."""


def draw_scores(benchmarks: Sequence[BenchmarkScores]) -> Drawing:
    """pass@k of every arm above, the tuned model's paired difference to the others below where
    there is one; a row per benchmark and k."""
    rows = [
        (benchmark, k)
        for benchmark in benchmarks
        for k in next(iter(benchmark.models.values())).pass_at
    ]
    compared = [(benchmark, k) for benchmark, k in rows if benchmark.comparisons]
    arms = [arm for arm in STYLES if any(arm in item.models for item, _ in rows)]
    others = [arm for arm in arms if any(arm in item.comparisons for item, _ in compared)]
    heights = [
        (0.25 + 0.15 * len(arms)) * len(rows) + 1.1 + 0.2 * (len(arms) > LEGEND_COLUMNS),
        *([(0.25 + 0.15 * len(others)) * len(compared) + 0.9] if compared else []),
    ]
    figure = blank(sum(heights))
    axes = figure.subplots(len(heights), 1, squeeze=False, height_ratios=heights)[:, 0]
    _score_panel(axes[0], rows, arms)
    if compared:
        _difference_panel(axes[1], compared, others)
    return drawing(figure)


def draw_pass_curves(benchmarks: Sequence[BenchmarkScores]) -> Drawing:
    """pass@k of every arm over k, from 1 to the samples per problem; a panel per benchmark."""
    arms = [arm for arm in STYLES if any(arm in item.models for item in benchmarks)]
    height = 2.2 * len(benchmarks) + 0.6 + 0.2 * (len(arms) > LEGEND_COLUMNS)
    figure = blank(height)
    panels = figure.subplots(len(benchmarks), 1, squeeze=False)[:, 0]
    for panel, item in zip(panels, benchmarks, strict=True):
        for arm, model in item.models.items():
            color, marker = STYLES[arm]
            many = len(model.curve) > FEW_STEPS
            panel.plot(range(1, len(model.curve) + 1), model.curve, color=color, label=arm,
                       marker=None if many else marker, markersize=5, linewidth=1.6)  # fmt: skip
        panel.set_title(item.title, loc="left", fontsize=FONT, color=INK, parse_math=False)
        panel.yaxis.set_major_formatter(PercentFormatter(1, decimals=None))
        panel.xaxis.set_major_locator(MaxNLocator(integer=True))
        panel.grid(color=GRID)
    panels[-1].set_xlabel("k")
    legend(panels[0])
    return drawing(figure)


def draw_form(benchmarks: Sequence[BenchmarkScores]) -> Drawing:
    """Mean answer length, and shares with a code fence or box and cut off, of every arm; a row per
    benchmark."""
    arms = [arm for arm in STYLES if any(arm in item.models for item in benchmarks)]
    figure = blank((0.4 + 0.15 * len(arms)) * len(benchmarks) + 1.2)
    panels = figure.subplots(1, len(FORM), sharey=True)
    short = form_words(item.extraction for item in benchmarks).short
    for panel, (name, title) in zip(panels, FORM.items(), strict=True):
        for arm in arms:
            shown = [
                (getattr(item.models[arm], name), row + _offset(arm, arms))
                for row, item in enumerate(benchmarks)
                if arm in item.models
            ]
            color, marker = STYLES[arm]
            panel.plot(*zip(*shown, strict=True), color=color, marker=marker, markersize=7,
                       linestyle="none", label=arm)  # fmt: skip
        panel.set_title(title.format(short), loc="left", fontsize=FONT - 1, color=INK)
        panel.grid(axis="x", color=GRID)
        panel.xaxis.set_major_locator(MaxNLocator(3))
        if name == "mean_tokens":
            longest = max(
                getattr(model, name) for item in benchmarks for model in item.models.values()
            )
            panel.set_xlim(0, 1.12 * max(longest, 1))  # room for a marker at the end
        else:
            panel.set_xlim(-0.05, 1.05)
            panel.xaxis.set_major_formatter(PercentFormatter(1, decimals=None))
    panels[0].set_yticks(
        range(len(benchmarks)), [item.name for item in benchmarks], parse_math=False
    )
    panels[0].set_ylim(len(benchmarks) - 0.5, -0.5)
    for panel in panels:
        panel.tick_params(axis="y", length=0)
    legend(panels[0])
    return drawing(figure)


@dataclass(frozen=True, slots=True, kw_only=True)
class Course:
    """One model's scores over rounds."""

    label: str
    model: str
    run: int
    """Number of its run, from 0: runs differ in their colour, models in their marker."""
    scores: dict[int, Interval]
    """By round; 0 is the base model."""


def draw_courses(panels: Mapping[str, Sequence[Course]]) -> Drawing:
    """Scores over rounds with their intervals, a panel per benchmark. The models of one run have
    the arms' colours; of several runs, each run has its own."""
    every = [course for courses in panels.values() for course in courses]
    several = len({course.run for course in every}) > 1
    palette = [color for color, _ in STYLES.values()]
    names = list(dict.fromkeys(course.label for course in every))
    figure = blank(2.2 * len(panels) + 0.6 + 0.2 * ((len(names) - 1) // LEGEND_COLUMNS))
    axes = figure.subplots(len(panels), 1, squeeze=False)[:, 0]
    for panel, (benchmark, courses) in zip(axes, panels.items(), strict=True):
        for place, course in enumerate(courses):
            color, marker = STYLES[course.model]
            if several:
                color = palette[course.run % len(palette)]
            shift = 0.05 * (place - (len(courses) - 1) / 2)
            scores = list(course.scores.values())
            panel.errorbar([number + shift for number in course.scores],
                           [score.value for score in scores], yerr=reach(scores), color=color,
                           marker=marker, markersize=6, elinewidth=0.8, linewidth=1.6,
                           linestyle="--" if course.model == UNIT else "-",
                           label=course.label)  # fmt: skip
        panel.set_title(benchmark, loc="left", fontsize=FONT, color=INK, parse_math=False)
        panel.yaxis.set_major_formatter(PercentFormatter(1, decimals=None))
        panel.xaxis.set_major_locator(MaxNLocator(integer=True))
        panel.grid(color=GRID)
    axes[-1].set_xlabel("round")
    legend(axes[0])
    return drawing(figure)


def draw_training(steps: Sequence[dict[str, Any]]) -> Drawing:
    """Loss, learning rate and gradient norm over optimizer steps, as far as they were logged."""
    keys = [key for key in CURVES if any(key in line for line in steps)]
    figure = blank(1.7 * len(keys) + 0.4)
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
    return drawing(figure)


def _score_panel(
    panel: Axes, rows: Sequence[tuple[BenchmarkScores, int]], arms: Sequence[str]
) -> None:
    for arm in arms:
        shown = [
            (y + _offset(arm, arms), item.models[arm].pass_at[k])
            for y, (item, k) in enumerate(rows)
            if arm in item.models
        ]
        _dots(panel, shown, *STYLES[arm], arm)
    panel.set_xlim(left=-0.015 * panel.get_xlim()[1])  # 0 at the edge, with room for its marker
    panel.set_title("pass@k", loc="left", fontsize=FONT, color=INK)
    panel.xaxis.set_major_formatter(PercentFormatter(1, decimals=None))
    legend(panel)
    _name_rows(panel, rows)


def _difference_panel(
    panel: Axes, rows: Sequence[tuple[BenchmarkScores, int]], others: Sequence[str]
) -> None:
    panel.axvline(0, color=ZERO, linewidth=1.2, linestyle="--")
    for arm in others:
        shown = [
            (y + _offset(arm, others), item.comparisons[arm].pass_at[k])
            for y, (item, k) in enumerate(rows)
            if arm in item.comparisons
        ]
        _dots(panel, shown, *(STYLES[arm] if len(others) > 1 else DIFFERENCE), arm)
    other = "each other model" if len(others) > 1 else others[0]
    panel.set_title(f"tuned minus {other}, percentage points", loc="left", fontsize=FONT, color=INK)
    panel.xaxis.set_major_formatter(
        lambda share, _: f"{100 * share:+.3g}" if abs(share) > 1e-9 else "0"
    )
    _name_rows(panel, rows)


def _offset(arm: str, arms: Sequence[str]) -> float:
    """Where an arm stands in its row, from -0.5 to 0.5."""
    step = min(SPREAD, 0.76 / len(arms))
    return step * (arms.index(arm) - (len(arms) - 1) / 2)


def _dots(
    panel: Axes, shown: Sequence[tuple[float, Interval]], color: str, marker: str, label: str
) -> None:
    intervals = [interval for _, interval in shown]
    values = [interval.value for interval in intervals]
    panel.errorbar(values, [y for y, _ in shown], xerr=reach(intervals), fmt=marker, color=color,
                   label=label, markersize=7, elinewidth=2, capsize=4, capthick=2)  # fmt: skip


def _name_rows(panel: Axes, rows: Sequence[tuple[BenchmarkScores, int]]) -> None:
    # parse_math: a benchmark named `$x` is no formula.
    panel.set_yticks(
        range(len(rows)), [f"{item.title}\npass@{k}" for item, k in rows], parse_math=False
    )
    panel.set_ylim(len(rows) - 0.5, -0.5)
    panel.grid(axis="x", color=GRID)
    panel.tick_params(axis="y", length=0)
