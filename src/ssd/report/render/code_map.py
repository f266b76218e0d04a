"""The code map: which programs are shown token by token, and what the page knows of each token."""

import math
from bisect import bisect_right
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ssd.analyse.summary import base_kinds
from ssd.arms import BASE, TUNED, counted
from ssd.config.settings import AnalyseConfig
from ssd.method.locks import FORK
from ssd.records.analysis import Analysis, Positions
from ssd.report.render.document import CodeMap, Program, Reading, Table

NUM_TOP = 5
NUM_MOVED, PER_PROGRAM, CONTEXT = 12, 2, 32
"""Rows of the table of changed positions, rows of one completion among them, characters before."""
ENTROPY_STEPS = (0.05, 0.2, 0.5, 1.0, 1.5, 2.5)
"""Borders in nats between the shades of entropy."""
CHANGE_STEPS = (-0.2, -0.05, -0.01, 0.01, 0.05, 0.2)
"""Borders in nats between the shades of its change."""


def code_map(analysis: Analysis, settings: AnalyseConfig, num_programs: int) -> CodeMap | None:
    """The programs that show most, token by token; None if there is nothing to show."""
    kinds = base_kinds(analysis, settings)
    numbers = chosen_programs(analysis, kinds, num_programs)
    if not numbers:
        return None
    is_compared = TUNED in analysis.positions
    which = "whose forks changed most" if is_compared else "with the most forks"
    caption = (
        f"The {counted(len(numbers), 'answer')} {which}, of {len(analysis.samples)}; answers "
        "with code first. They illustrate the change and do not measure it."
    )
    programs = [_program(analysis, kinds, number) for number in numbers]
    return CodeMap(caption=caption, programs=programs)


def chosen_programs(analysis: Analysis, kinds: NDArray[np.str_], num_programs: int) -> list[int]:
    """Numbers of the completions that show most: those with code before the others, by the largest
    mean change of entropy at forks, in size; without a tuned model by the most forks."""
    base, after = analysis.positions[BASE], analysis.positions.get(TUNED)
    worth = {}
    for number in np.unique(base.sample).tolist():
        forks = (base.sample == number) & (kinds == FORK)
        shown = float(forks.sum())
        if after is not None and forks.any():
            shown = float(np.abs(after.entropy - base.entropy)[forks].mean())
        text = "".join(analysis.samples[number].tokens)
        worth[number] = ("```" not in text and "def " not in text, -np.nan_to_num(shown), number)
    return sorted(worth, key=lambda number: worth[number])[:num_programs]


def shades(program: Program) -> list[dict[str, str]]:
    """Text and classes of each token: shade of entropy, shade of its change, and kind."""
    readings = list(program.readings.values())
    before, after = readings[0].entropy, readings[-1].entropy
    return [
        {
            "text": text,
            "classes": f"e{_shade(first, ENTROPY_STEPS)} "
            f"c{_shade(last - first, CHANGE_STEPS, 3)} {kind}",
        }
        for text, kind, first, last in zip(
            program.tokens, program.kinds, before, after, strict=True
        )
    ]


def page_data(block: CodeMap) -> dict[str, Any]:
    """The data about the programs for the page's script, as JSON types: each text once."""
    words: dict[str, int] = {}

    def word(text: str) -> int:
        return words.setdefault(text, len(words))

    programs = [
        {
            "name": program.name,
            "kinds": program.kinds,
            "tokens": [word(text) for text in program.tokens],
            "readings": {
                model: {
                    "entropy": [_rounded(value) for value in reading.entropy],
                    "tail": [_rounded(value) for value in reading.tail_mass],
                    "support": reading.support,
                    "top": [
                        [[word(text), _rounded(prob)] for text, prob in place]
                        for place in reading.top
                    ],
                }
                for model, reading in program.readings.items()
            },
        }
        for program in block.programs
    ]
    return {"words": list(words), "programs": programs}


def ranges(steps: Sequence[float]) -> list[str]:
    """What each shade between these borders stands for."""
    between = [f"{low:g} to {high:g}" for low, high in pairwise(steps)]
    return [f"below {steps[0]:g}", *between, f"from {steps[-1]:g}"]


def visible(text: str) -> str:
    """White space as marks, and unprintable characters as their codes, as in the page's panel."""
    marks = {" ": "·", "\n": "⏎", "\t": "⇥", "\r": "␍"}
    shown = [
        marks.get(character, character if character.isprintable() else f"<U+{ord(character):04X}>")
        for character in text
    ]
    return "".join(shown) or "(empty)"


def _program(analysis: Analysis, kinds: NDArray[np.str_], number: int) -> Program:
    sample = analysis.samples[number]
    base = analysis.positions[BASE]
    rows = np.flatnonzero(base.sample == number)
    rows = rows[np.argsort(base.index[rows], kind="stable")]
    return Program(
        name=f"{sample.prompt_id}, sample {sample.sample_index}",
        tokens=[sample.tokens[place] for place in base.index[rows]],
        kinds=kinds[rows].tolist(),
        readings={
            model: _reading(positions, rows, analysis.tokens)
            for model, positions in analysis.positions.items()
        },
    )


def _reading(positions: Positions, rows: NDArray[np.int64], texts: dict[int, str]) -> Reading:
    return Reading(
        entropy=positions.entropy[rows].tolist(),
        tail_mass=positions.tail_mass[rows].tolist(),
        support=positions.support[rows].tolist(),
        top=[
            [
                (texts.get(token, f"token {token}"), prob)
                for token, prob in zip(ids, probs, strict=True)
            ]
            for ids, probs in zip(
                positions.top_ids[rows, :NUM_TOP].tolist(),
                positions.top_probs[rows, :NUM_TOP].tolist(),
                strict=True,
            )
        ],
    )


def moved_table(analysis: Analysis, settings: AnalyseConfig) -> Table | None:
    """The tokens whose probability changed most, with the probabilities; None without a tuned
    model."""
    base, after = analysis.positions[BASE], analysis.positions.get(TUNED)
    if after is None:
        return None
    kinds = base_kinds(analysis, settings)
    before_N, after_N = np.exp(base.logprob), np.exp(after.logprob)
    change_N = after_N - before_N
    rows: list[list[str]] = []
    num_rows: dict[int, int] = {}
    for n in np.argsort(-np.abs(np.nan_to_num(change_N)), kind="stable").tolist():
        number, place = int(base.sample[n]), int(base.index[n])
        if num_rows.get(number, 0) == PER_PROGRAM:
            continue
        num_rows[number] = num_rows.get(number, 0) + 1
        tokens = analysis.samples[number].tokens
        rows.append(
            [
                analysis.samples[number].prompt_id,
                visible("".join(tokens[:place]))[-CONTEXT:] if place else "(start)",
                visible(tokens[place]),
                str(kinds[n]),
                f"{before_N[n]:.1%}",
                f"{after_N[n]:.1%}",
                f"{100 * change_N[n]:+.1f}",
                f"{base.entropy[n]:.2f}",
                f"{after.entropy[n]:.2f}",
            ]
        )
        if len(rows) == NUM_MOVED:
            break
    return Table(
        caption="The tokens of the answers whose probability changed most, at most "
        f"{PER_PROGRAM} of one answer: the token's probability, its change in percentage points, "
        "and how open the choice was (entropy, nats)",
        columns=[
            "Answer", "Text before", "Token", "Kind", "Base", "Tuned", "Change",
            "Entropy, base", "Entropy, tuned",
        ],
        sides="llllrrrrr",
        rows=rows,
    )  # fmt: skip


def _shade(value: float, steps: Sequence[float], unknown: int = 0) -> int:
    return bisect_right(steps, value) if math.isfinite(value) else unknown


def _rounded(value: float) -> float | None:
    return float(f"{value:.5g}") if math.isfinite(value) else None
