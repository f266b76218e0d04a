"""Which evaluation temperatures are worth trying, and why: from a fit of earlier scores, or, where
there is none, from theory and from what the paper published.

After an ideal fit, decoding the tuned model at T_eval is decoding the base model at
T_eff = T_train T_eval on the tokens that sampling kept (paper, appendix B, composition). So advice
is given in T_eff and divided by T_train.
"""

import argparse
import textwrap
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ssd.artifacts.files import read_json
from ssd.errors import ArtifactError, ConfigError
from ssd.method.decoding import Decoding
from ssd.method.quadratic import QuadraticFit, fit_quadratic
from ssd.runtime.command_line import command_line

LOWEST, HIGHEST = 0.1, 2.0
"""Range of the advised T_eval; the paper's sweeps end at 1.5."""
STEP = 0.05
"""Advised temperatures are multiples of this."""
NEAR = 0.03
"""A temperature this near to one that was tried counts as tried."""
PUBLISHED = (
    ("Llama-3.1-8B-Instruct", 0.8, 0.7, True),
    ("Qwen3-4B-Instruct-2507", 1.6, 1.1, True),
    ("Qwen3-4B-Thinking-2507", 1.1, 0.7, True),
    ("Qwen3-30B-A3B-Instruct-2507", 1.6, 0.9, True),
    ("Qwen3-30B-A3B-Thinking-2507", 1.2, 0.7, True),
    ("GPT-OSS-20B", 1.2, 1.0, False),
)
"""Model, T_train, T_eval, whether samples were truncated (paper, Tables 3 and 4)."""
PUBLISHED_PEAK = 1.2
"""T_eff at which the paper's fit over its grid without truncation peaks."""


@dataclass(frozen=True, slots=True)
class Suggestion:
    """A temperature and the sentence that says why."""

    temp: float
    reason: str


Idea = tuple[float, str]
"""T_eff, and why."""


def advise(
    sampled: Decoding,
    *,
    base_temp: float,
    fit: QuadraticFit | None,
    tried_temps: Sequence[float] = (),
) -> list[Suggestion]:
    """Evaluation temperatures worth trying, ascending, multiples of `STEP` within
    [`LOWEST`, `HIGHEST`].

    Args:
        sampled: how the samples were drawn; greedy ones (temperature 0) get no advice, since there
            is no temperature to compose with.
        base_temp: the base model's own evaluation temperature.
        fit: of scores over T_eff under the same truncation; advice goes by it where it located a
            peak, and by theory elsewhere.
        tried_temps: evaluation temperatures with a score; none within `NEAR` of them is suggested.
    """
    t_train, truncated = sampled.temp, sampled.top_k is not None or sampled.top_p < 1
    if t_train <= 0:
        return []
    is_located = fit is not None and fit.is_located
    ideas = _from_fit(fit) if fit is not None and is_located else _from_theory(
        t_train, base_temp, truncated=truncated
    )  # fmt: skip
    reasons: dict[float, list[str]] = {}
    for t_eff, reason in ideas:
        temp = round(STEP * round(min(max(t_eff / t_train, LOWEST), HIGHEST) / STEP), 2)
        cut = not LOWEST <= t_eff / t_train <= HIGHEST
        bound = f" (that would be T_eval {t_eff / t_train:.2f}; this is the nearest sensible one)"
        reasons.setdefault(temp, []).append(reason + bound * cut)
    return [
        Suggestion(temp, "; ".join(why) + ".")
        for temp, why in sorted(reasons.items())
        if all(abs(temp - other) > NEAR for other in tried_temps)
    ]


def _from_fit(fit: QuadraticFit) -> list[Idea]:
    assert fit.peak is not None and fit.peak_interval is not None
    where = f"the fit through {fit.num_points} scores (R2 {fit.r_squared:.2f})"
    ends = zip(("lower", "upper"), fit.peak_interval, strict=True)
    return [
        (fit.peak, f"{where} peaks at T_eff {fit.peak:.2f}"),
        *((end, f"the {name} end of that peak's 95 % interval, T_eff {end:.2f}")
          for name, end in ends),
    ]  # fmt: skip


def _from_theory(t_train: float, base_temp: float, *, truncated: bool) -> list[Idea]:
    on = " on the tokens that sampling kept" if truncated else ""
    ideas = []
    if base_temp != 1:
        ideas.append((1.0, f"after an ideal fit the base model's own distribution{on} (T_eff 1)"))
    if base_temp > 0:
        ideas.append(
            (
                base_temp,
                f"after an ideal fit it equals the base model's own decoding at {base_temp:g}{on}; "
                "temperatures above explore more",
            )
        )
    if not truncated:
        peak = PUBLISHED_PEAK
        ideas.append((peak, f"the paper's fit without truncation peaks near T_eff {peak:g}"))
    rows = [row for row in PUBLISHED if row[3] == truncated]
    nearest = min(abs(row[1] - t_train) for row in rows)
    ideas += [
        (train * decode, f"the paper's T_eff for {name}, {train:g} x {decode:g}")
        for name, train, decode, _ in rows
        if abs(train - t_train) <= nearest + 1e-9
    ]
    return ideas


def study_cells(path: Path, top_k: int | None, top_p: float) -> list[dict[str, Any]]:
    """The cells of a study's results.json that were trained under a truncation: of those, the
    largest set of one model and the same problems.

    Raises:
        ArtifactError: there is no such file, or it is no study's.
    """
    if not path.is_file():
        raise ArtifactError(
            f"--points={path} does not exist: ssd report STUDY_DIR writes results.json"
        )
    stored = read_json(path)
    if not isinstance(stored, dict) or "cells" not in stored:
        raise ArtifactError(
            f"--points={path} has no cells: name the results.json of a study, not of a run"
        )
    groups = [
        (cell["model"], cell["held_out"], *cell["benchmarks"])
        if (cell["top_k"], cell["top_p"]) == (top_k, top_p)
        else None
        for cell in stored["cells"]
    ]
    counted = Counter(group for group in groups if group is not None).most_common(1)
    largest = counted[0][0] if counted else ()
    return [cell for cell, group in zip(stored["cells"], groups, strict=True) if group == largest]


def fit_text(fit: QuadraticFit | None, cells: list[dict[str, Any]]) -> str:
    """What the scores say, in a sentence."""
    if not cells:
        return "No score was trained under this truncation: the advice is from theory."
    first = cells[0]
    which = "held-out problems" if first["held_out"] else "reported problems"
    of = f"{len(cells)} scores of {first['model']} on {which} of {', '.join(first['benchmarks'])}"
    if fit is None:
        return f"{of} have too few T_eff for a fit: the advice is from theory."
    if not fit.is_located or fit.peak_interval is None:
        return f"{of} (R2 {fit.r_squared:.2f}) locate no peak: the advice is from theory."
    low, high = fit.peak_interval
    peak = f"{fit.peak:.2f} (95 % {low:.2f} to {high:.2f})"
    return f"{of}: the fit peaks at T_eff {peak}, R2 {fit.r_squared:.2f}."


def parser() -> argparse.ArgumentParser:
    """The command line of `ssd analyse advice`."""
    options = command_line(
        "analyse advice",
        "Evaluation temperatures worth trying for a model that was trained on samples of T_train, "
        "each with its reason.",
        "--t-train 1.6 --top-k 20 --top-p 0.8 --base-temp 0.7",
        "--t-train 1.6 --points outputs/plane/results.json  # with what a study has measured",
    )
    options.add_argument(
        "--t-train", type=float, required=True, metavar="T", help="sampler.temp, above 0"
    )
    options.add_argument("--top-k", type=int, metavar="K", help="truncation.top_k; none by default")
    options.add_argument(
        "--top-p", type=float, default=1.0, metavar="P", help="truncation.top_p; 1 by default"
    )
    options.add_argument(
        "--base-temp", type=float, default=1.0, metavar="T",
        help="eval.base_temp, the base model's own decoding; 1 by default",
    )  # fmt: skip
    options.add_argument(
        "--points", type=Path, metavar="FILE",
        help="results.json of a study: its scores are fitted, and what was tried is left out",
    )  # fmt: skip
    options.add_argument(
        "--tried", type=float, nargs="+", default=[], metavar="T",
        help="evaluation temperatures that need no second try",
    )  # fmt: skip
    return options


def main(arguments: list[str]) -> None:
    """Print the advice.

    Raises:
        ConfigError: a number is out of range.
        ArtifactError: `--points` names no study's results.
    """
    options = parser().parse_args(arguments)
    if not 0 < options.t_train <= 10:
        raise ConfigError(f"--t-train must lie in (0, 10], got {options.t_train:g}")
    if not 0 <= options.base_temp <= 10:
        raise ConfigError(f"--base-temp must lie in [0, 10], got {options.base_temp:g}")
    if not 0 < options.top_p <= 1:
        raise ConfigError(f"--top-p must lie in (0, 1], got {options.top_p:g}")
    if options.top_k is not None and options.top_k < 1:
        raise ConfigError(f"--top-k must be positive, got {options.top_k}")
    fit, tried_temps = None, list(options.tried)
    if options.points is not None:
        cells = study_cells(options.points, options.top_k, options.top_p)
        points = [(cell["t_eff"], cell["value"]) for cell in cells]
        rng = np.random.default_rng(0)
        fit = fit_quadratic([x for x, _ in points], [y for _, y in points], rng=rng)
        tried_temps += [
            cell["t_eval"] for cell in cells if abs(cell["t_train"] - options.t_train) < 1e-9
        ]
        print(f"{fit_text(fit, cells)}\n")
    sampled = Decoding(options.t_train, options.top_k, options.top_p)
    suggestions = advise(sampled, base_temp=options.base_temp, fit=fit, tried_temps=tried_temps)
    print(advice_text(suggestions, options.t_train, tried_temps))


def advice_text(suggestions: list[Suggestion], t_train: float, tried_temps: Sequence[float]) -> str:
    """The table of suggestions, or that nothing is left."""
    temps = ", ".join(f"{temp:g}" for temp in sorted(set(tried_temps)))
    if not suggestions:
        return f"Everything worth trying has been tried: T_eval {temps}."
    lines = ["T_eval  T_eff  reason"]
    for suggestion in suggestions:
        head = f"{suggestion.temp:6.2f}  {suggestion.temp * t_train:5.2f}  "
        lines += textwrap.wrap(
            suggestion.reason,
            98,
            initial_indent=head,
            subsequent_indent=" " * len(head),
            break_on_hyphens=False,
        )
    return "\n".join(
        [*lines, *([f"\nLeft out as tried: T_eval near {temps}."] if tried_temps else [])]
    )
