"""A study's scores in the plane of T_train and T_eval, and the fits through them. Imports no
matplotlib."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ssd.arms import TUNED
from ssd.config.choices import ObjectiveType
from ssd.method.decoding import Decoding, Setting
from ssd.method.intervals import Interval
from ssd.method.quadratic import QuadraticFit, fit_quadratic
from ssd.report.render import formats
from ssd.report.run.facts import Facts
from ssd.report.study.collection import reported, run_names

CURVE = (
    "model", "top_k", "top_p", "eval_top_k", "eval_top_p", "held_out", "benchmarks", "num_problems",
)  # fmt: skip
"""What the cells behind one fit share: they differ in temperature, run and step alone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """One score in the plane of T_train and T_eval."""

    run: str
    model: str
    objective: str
    sampled: Decoding
    """What was fitted: how the corpus was drawn, or the target of `objective=soft`."""
    setting: Setting
    """How the tuned model was made to answer."""
    score: Interval
    """pass@1, or the smallest k that was reported, on `benchmarks` together."""
    held_out: bool
    """Whether the problems had no part in what is reported."""
    benchmarks: tuple[str, ...]
    num_problems: int

    @property
    def t_train(self) -> float:
        return self.sampled.temp

    @property
    def t_eval(self) -> float:
        return self.setting.temp

    @property
    def t_eff(self) -> float:
        """T_train T_eval: after an ideal fit, decoding at T_eval is the base model at this
        temperature (paper, appendix B)."""
        return self.t_train * self.t_eval

    def json(self) -> dict[str, Any]:
        """The cell as `results.json` holds it."""
        return {
            "run": self.run,
            "model": self.model,
            **objective_field(self.objective),
            "t_train": self.t_train,
            "top_k": self.sampled.top_k,
            "top_p": self.sampled.top_p,
            "t_eval": self.t_eval,
            "eval_top_k": self.setting.top_k,
            "eval_top_p": self.setting.top_p,
            "checkpoint_step": self.setting.checkpoint_step,
            "held_out": self.held_out,
            "benchmarks": self.benchmarks,
            "num_problems": self.num_problems,
            "t_eff": self.t_eff,
            **{end: getattr(self.score, end) for end in ("value", "low", "high")},
        }


def objective_field(objective: str) -> dict[str, str]:
    """The objective for a row of `results.json`, which earlier ones had none of."""
    return {} if objective == ObjectiveType.cross_entropy else {"objective": objective}


def cells(runs: Sequence[Facts]) -> list[Cell]:
    """Every setting that a run's tuned model was scored under: each candidate of its sweep, or the
    one that is reported where there was no sweep."""
    names = run_names([facts.run.folder for facts in runs])
    return [cell for facts in runs for cell in _cells(facts, names[facts.run.folder])]


def curves(every: Sequence[Cell]) -> list[list[Cell]]:
    """Cells by what a fit must have in common, the objective and `CURVE`."""
    grouped: dict[tuple[Any, ...], list[Cell]] = {}
    for cell in every:
        fields = cell.json()
        key = (cell.objective, *(fields[name] for name in CURVE))
        grouped.setdefault(key, []).append(cell)
    return list(grouped.values())


def fit_cells(curve: Sequence[Cell]) -> QuadraticFit | None:
    """The quadratic of the score over T_eff through every cell; None under
    `method.quadratic.FEWEST` different T_eff."""
    return fit_quadratic(
        [cell.t_eff for cell in curve],
        [cell.score.value for cell in curve],
        rng=np.random.default_rng(0),
    )


def _cells(facts: Facts, name: str) -> list[Cell]:
    if facts.fitted is None:
        return []  # no temperature to compose with
    selection = facts.scores.selection if facts.scores is not None else None
    if selection is not None and TUNED in selection.sweeps:
        swept = [
            (candidate.setting, candidate.score, candidate.num_problems)
            for candidate in selection.sweeps[TUNED]
        ]
        benchmarks, held_out = tuple(selection.problems), selection.mode == "heldout"
    else:
        score = reported(facts)
        if score is None:
            return []
        shown = [scored for scored in facts.main if TUNED in scored.models]
        num_problems = sum(scored.num_problems for scored in shown)
        swept = [(shown[0].models[TUNED].setting, score, num_problems)]
        benchmarks, held_out = tuple(scored.name for scored in shown), False
    return [
        Cell(
            run=name,
            model=formats.model(facts.run.config.model),
            objective=facts.run.config.objective.type.value,
            sampled=facts.fitted,
            setting=setting,
            score=score,
            held_out=held_out,
            benchmarks=benchmarks,
            num_problems=num_problems,
        )
        for setting, score, num_problems in swept
    ]
