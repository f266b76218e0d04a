"""A study's part on temperatures: T_train by T_eval, the fit along their product, what to try."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ssd.analyse.advice import advise
from ssd.config.choices import ObjectiveType
from ssd.method.decoding import Setting
from ssd.method.quadratic import FEWEST, QuadraticFit
from ssd.report.render import formats
from ssd.report.render.document import Block, Figure, Heading, Paragraph, Section, Table
from ssd.report.run.facts import Facts
from ssd.report.study.cells import Cell, cells, curves, fit_cells
from ssd.report.study.collection import Study, run_names
from ssd.report.study.figures import draw_plane, draw_t_eff

Place = tuple[float, float]
NO_T_TRAIN = (
    "Runs on a power of whole answers are not in this section: no temperature of single tokens was "
    "fitted, so there is none for T_eval to multiply."
)


@dataclass(frozen=True, slots=True)
class Plane:
    """Cells that can stand in one picture: one model, the same truncations and problems."""

    cells: tuple[Cell, ...]
    chosen: frozenset[tuple[str, Setting]]
    """Run and setting of what each run chose."""

    @property
    def first(self) -> Cell:
        return self.cells[0]

    @property
    def best(self) -> dict[Place, Cell]:
        """The best cell of each place, where several runs or steps share one."""
        best: dict[Place, Cell] = {}
        for cell in self.cells:
            place = (cell.t_train, cell.t_eval)
            if place not in best or cell.score.value > best[place].score.value:
                best[place] = cell
        return best

    @property
    def chosen_places(self) -> set[Place]:
        return {
            (cell.t_train, cell.t_eval)
            for cell in self.cells
            if (cell.run, cell.setting) in self.chosen
        }

    @property
    def title(self) -> str:
        """What the cells have in common."""
        first = self.first
        cut, eval_cut = formats.truncation(first.sampled), formats.truncation(first.setting)
        is_usual = first.objective == ObjectiveType.cross_entropy
        objective, cut_at = ("", "sampling") if is_usual else (f"{first.objective}, ", "training")
        return (
            f"{first.model}, {objective}truncation {cut} at {cut_at} and {eval_cut} at evaluation, "
            f"{problems(first)}"
        )


def temperatures(study: Study) -> list[Section]:
    """Heat maps, T_eff plots and advice; nothing without a trained model's score."""
    groups = planes(study.runs)
    if not groups:
        return []
    blocks: list[Block] = [Paragraph(_introduction(groups))]
    if any(facts.power is not None and facts.fitted is None for facts in study.runs):
        blocks.append(Paragraph(NO_T_TRAIN))
    for number, plane in enumerate(groups, 1):
        if len(groups) > 1:
            blocks.append(Heading(plane.title))
        blocks += _plane_blocks(plane, number)
    return [Section("Temperatures", [*blocks, *_advice(study.runs, groups)])]


def planes(runs: Sequence[Facts]) -> list[Plane]:
    """The cells of all runs, by what must be the same in one picture."""
    names = run_names([facts.run.folder for facts in runs])
    chosen = frozenset(
        (names[facts.run.folder], facts.held_out.setting)
        for facts in runs
        if facts.held_out is not None
    )
    return [Plane(tuple(group), chosen) for group in curves(cells(runs))]


def problems(cell: Cell) -> str:
    """`24 held-out problems of humaneval and mbpp`."""
    part = "held-out" if cell.held_out else "reported"
    plural = "" if cell.num_problems == 1 else "s"
    return f"{cell.num_problems} {part} problem{plural} of {' and '.join(cell.benchmarks)}"


def _introduction(groups: Sequence[Plane]) -> str:
    sentences = [
        "After an ideal fit, decoding at T_eval is the base model at T_eff = T_train T_eval "
        "(paper, appendix B), so scores should follow the product."
    ]
    if any(plane.first.held_out for plane in groups):
        sentences.append(
            "Cells on held-out problems are what settings are chosen by; they are few, "
            "and the best cell looks better than it is."
        )
    if any(not plane.first.held_out for plane in groups):
        sentences.append(
            "Cells on reported problems are the scores of the table above: choosing a temperature "
            "by them selects on the test problems."
        )
    return " ".join(sentences)


def _plane_blocks(plane: Plane, number: int) -> list[Block]:
    places = plane.best
    blocks: list[Block] = []
    if len(places) > 1:
        blocks.append(_heat_map(plane, number))
    num_t_eff = len({round(cell.t_eff, 9) for cell in plane.cells})
    if num_t_eff > 1:
        fit = fit_cells(plane.cells)
        if fit is not None:
            blocks.append(_t_eff(plane, fit, number))
        blocks.append(Paragraph(_fit_sentence(fit, num_t_eff)))
    else:
        (cell,) = list(places.values())[:1]
        blocks.append(
            Paragraph(
                f"There is one temperature pair only, T_train {cell.t_train:g} with "
                f"T_eval {cell.t_eval:g}: {formats.score(cell.score)}."
            )
        )
    return blocks


def _heat_map(plane: Plane, number: int) -> Figure:
    best = plane.best
    spread = np.median([(cell.score.high - cell.score.low) / 2 for cell in best.values()])
    several = max(
        sum((cell.t_train, cell.t_eval) == place for cell in plane.cells) for place in best
    )
    caption = f"pass@1 in percent by T_train and T_eval: {plane.title}. "
    if spread > 0:
        caption += f"A cell's 95% interval reaches about {100 * spread:.0f} points to both sides."
    if plane.chosen_places:
        caption += " Framed: what each run chose."
    if several > 1:
        caption += f" Where up to {several} runs or steps share a place, the best is shown."
    rows = []
    for t_train in sorted({place[0] for place in best}):
        values = ", ".join(
            f"{formats.percent(cell.score.value)} at T_eval {t_eval:g}"
            for (other, t_eval), cell in sorted(best.items())
            if other == t_train
        )
        rows.append(f"T_train {t_train:g}: {values}")
    return Figure(
        name=f"plane_{number}",
        caption=caption,
        alt=f"Heat map of pass@1. {'; '.join(rows)}.",
        drawing=draw_plane(best, plane.chosen_places),
    )


def _t_eff(plane: Plane, fit: QuadraticFit, number: int) -> Figure:
    ordered = sorted(plane.cells, key=lambda cell: cell.t_eff)
    best = max(plane.cells, key=lambda cell: cell.score.value)
    alt = (
        f"{len(ordered)} scores against T_eff from {ordered[0].t_eff:.3g} to "
        f"{ordered[-1].t_eff:.3g}; the highest is {formats.percent(best.score.value)} "
        f"at T_eff {best.t_eff:.3g} (T_train {best.t_train:g}, T_eval {best.t_eval:g})."
    )
    return Figure(
        name=f"t_eff_{number}",
        caption=f"pass@1 against T_eff with 95% intervals: {plane.title}.{_several(plane)}",
        alt=f"{alt} {_fit_sentence(fit, len({cell.t_eff for cell in ordered}))}",
        drawing=draw_t_eff(ordered, fit),
    )


def _several(plane: Plane) -> str:
    """What points of one pair of temperatures are, where there are such."""
    if len(plane.best) == len(plane.cells):
        return ""
    by_step = len({cell.setting.checkpoint_step for cell in plane.cells}) > 1
    what = "steps of a training" if by_step else "runs, which differ in other settings"
    return f" Points of one colour above each other are several {what}."


def _fit_sentence(fit: QuadraticFit | None, num_t_eff: int) -> str:
    if fit is None:
        return (
            f"No fit: {num_t_eff} different T_eff are too few for a quadratic, "
            f"which takes {FEWEST}."
        )
    text = f"The quadratic fit of {fit.num_points} scores has R2 {fit.r_squared:.2f}"
    if fit.peak is None:
        return f"{text} and is flat or opens upwards: it has no peak."
    if fit.peak_interval is None:
        return (
            f"{text}; its peak, T_eff {fit.peak:.2f}, is not determined: fewer than half of the "
            "resamples have one."
        )
    low, high = fit.peak_interval
    if not fit.span[0] <= fit.peak <= fit.span[1]:
        return (
            f"{text} and rises beyond what was tried; extrapolated, its peak would lie at T_eff "
            f"{fit.peak:.2f}, 95% interval {low:.2f} to {high:.2f}."
        )
    if not fit.is_located:
        return (
            f"{text}; its peak, T_eff {fit.peak:.2f}, is not located: the 95% interval, "
            f"{low:.2f} to {high:.2f}, leaves the tried {fit.span[0]:.2f} to {fit.span[1]:.2f}, so "
            "no T_eval follows from it."
        )
    return f"{text}; its peak lies at T_eff {fit.peak:.2f}, 95% interval {low:.2f} to {high:.2f}."


def _advice(runs: Sequence[Facts], groups: Sequence[Plane]) -> list[Block]:
    """What T_eval to try next for each training temperature and truncation; nothing where scores
    have a fit that locates no peak."""
    rows = []
    for sampled in sorted({facts.fitted for facts in runs if facts.fitted is not None}, key=str):
        own = [
            plane
            for plane in groups
            if plane.first.held_out
            and dataclasses.replace(plane.first.sampled, temp=sampled.temp) == sampled
        ]
        fit = fit_cells(max(own, key=lambda plane: len(plane.cells)).cells) if own else None
        if fit is not None and not fit.is_located:
            continue
        tried_temps = [
            cell.t_eval for plane in groups for cell in plane.cells if cell.sampled == sampled
        ]
        base_temp = next(
            facts.run.config.eval.base_temp for facts in runs if facts.fitted == sampled
        )
        for advice in advise(sampled, base_temp=base_temp, fit=fit, tried_temps=tried_temps):
            temps = [f"{sampled.temp:g}", formats.truncation(sampled), f"{advice.temp:g}"]
            rows.append([*temps, advice.reason])
    if not rows:
        return []
    return [
        Table(
            caption="T_eval worth trying, by how the model was sampled; only held-out scores are "
            "fitted",
            columns=["T_train", "Truncation", "T_eval", "Reason"],
            sides="rlrl",
            rows=rows,
            folded=len(rows) > 12,
        )
    ]
