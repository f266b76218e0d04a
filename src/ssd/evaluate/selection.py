"""What the held-out problems choose: each model's decoding and training step.

The paper chose temperatures and checkpoints on the problems it reports, and its 4B-Thinking
headline is the largest cell of a 13 x 12 grid. Choosing elsewhere costs a quarter of the problems
and leaves scores that mean what they say.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ssd.arms import BASE, SAME, SWEPT, TUNED, UNIT
from ssd.artifacts import plain, write_json
from ssd.evaluate.grading import VERDICTS, Verdict, read_verdicts
from ssd.evaluate.scores import sweep_score
from ssd.run import SELECTION, Run, Setting

VERSION = 1


@dataclass(frozen=True, slots=True)
class Arm:
    """A model under one setting, as a row of the score table."""

    name: str
    """`base`, `base_swept`, `base_same_decoding`, `t1` or `tuned`."""
    model: str
    how: Setting


def list_arms(run: Run, chosen: Mapping[str, Setting]) -> list[Arm]:
    """The rows of the score table, from the setting chosen for each model."""
    controls, models = run.config.eval.controls, run.models()
    arms = [Arm(BASE, BASE, run.candidates(BASE)[0])]
    if SWEPT in controls:
        arms.append(Arm(SWEPT, BASE, chosen[BASE]))
    if SAME in controls and TUNED in models:
        arms.append(Arm(SAME, BASE, dataclasses.replace(chosen[TUNED], checkpoint_step=None)))
    return arms + [Arm(name, name, chosen[name]) for name in (UNIT, TUNED) if name in models]


def choose(run: Run) -> dict[str, Any]:
    """The best setting of every model by pass@1 over the problems that choose, each problem
    weighing the same; needs their verdicts. Ties go to the earlier candidate.

    Returns:
        The contents of selection.json: `chosen` by model, `problems` by benchmark, and `sweeps`
        with every candidate's score.
    """
    chosen, sweeps = {}, {}
    problems: dict[str, list[str]] = {}
    for model in run.models():
        candidates = run.candidates(model)
        rows = []
        for how in candidates:
            verdicts = _pooled(run, model, how)
            rows.append({**plain(how), **_score(run, verdicts)})
            for verdict in verdicts:
                name, problem_id = verdict.problem_id.split(":", 1)
                problems.setdefault(name, []).append(problem_id)
        best = max(range(len(rows)), key=lambda number: rows[number]["pass@1"]["value"])
        chosen[model] = candidates[best]
        if len(rows) > 1:
            sweeps[model] = [{**row, "chosen": n == best} for n, row in enumerate(rows)]
    settings = run.config.eval
    return {
        "version": VERSION,
        "inputs": run.score_inputs(),
        "mode": settings.selection.value,
        "validation": settings.validation,
        "problems": {name: sorted(set(ids)) for name, ids in problems.items()},
        "chosen": plain(chosen),
        "sweeps": sweeps,
    }


def write_selection(run: Run, selection: Mapping[str, Any]) -> None:
    """Keep a selection in the run folder; `Run.chosen_settings` reads it."""
    write_json(run.folder / SELECTION, selection)


def _pooled(run: Run, model: str, how: Setting) -> list[Verdict]:
    """Verdicts on every problem that chooses, the benchmark's name before each problem's."""
    return [
        dataclasses.replace(verdict, problem_id=f"{name}:{verdict.problem_id}")
        for name, part in run.chosen_on()
        for verdict in read_verdicts(run.verdicts(model, name, how, part).folder / VERDICTS)
    ]


def _score(run: Run, verdicts: Sequence[Verdict]) -> dict[str, Any]:
    settings = run.config.eval
    return sweep_score(
        verdicts,
        resample=settings.resample,
        num_resamples=settings.bootstrap,
        rng=np.random.default_rng(run.config.seed),
    )
