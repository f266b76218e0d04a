"""The rounds of a run side by side: what each round's models score, and whether they collapse.

Repeated fine-tuning on a model's own outputs mostly decays (arXiv 2605.01130). Whether answers
become alike shows in different programs per problem, in the entropy where there was a choice, and
in the mass on what the base model would have kept. Imports no matplotlib.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ssd.analyse.summary import base_kinds
from ssd.arms import BASE, TUNED, UNIT, FormWords, form_words
from ssd.config.settings import AnalyseConfig
from ssd.errors import UNREADABLE, SSDError
from ssd.evaluate.table import aligned, percent, wrapped
from ssd.method.intervals import Interval
from ssd.method.locks import FORK, LOCK
from ssd.records.analysis import Analysis, read_analysis
from ssd.records.benchmark_scores import BenchmarkScores
from ssd.records.scores import Scores, read_scores
from ssd.run import Run, evidence
from ssd.run.rounds import Fall, all_rounds, fall

KEY = (
    "round 0 is the base model; held-out: pass@1 on the problems that chose; distinct: different "
    "programs or values per problem; tokens: mean answer length; cut: stopped by the length cap"
)
SPREAD = (
    "locks, forks: entropy in nats where the base model is sure, and where it has a choice, of the "
    "same completions in every round; kept: mass on the tokens that the training truncation keeps "
    "of the base model's distribution"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Round:
    """One round as far as it was evaluated."""

    number: int
    scores: Scores
    analysis: Analysis | None
    """None where it is unfinished, damaged or was not requested."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RoundRow:
    """One model of one round. What is no score is a mean over the main benchmarks' problems."""

    round: int
    model: str
    """`base` in round 0, then `tuned` or `t1`."""
    scores: dict[str, Interval]
    """pass@k at the smallest k by benchmark, those out of domain too."""
    held_out: Interval | None
    """pass@1 of the chosen setting on the problems that chose it; None where nothing was chosen."""
    distinct_programs: float
    entropy: dict[str, float] | None
    """Mean in nats at `lock` and `fork`, NaN where there is no such position; None without an
    analysis."""
    kept_mass: float | None
    """Mean, NaN where the corpus was drawn greedily."""
    mean_tokens: float
    fence_share: float
    closed_share: float | None
    """Share of answers that closed their reasoning; None where none reasons."""
    cut_share: float


def collect_rounds(run: Run, *, read_positions: bool = True) -> tuple[Round, ...]:
    """The rounds with scores of the run's own settings, up to one that has none or at which the
    rule stops; nothing where there is one round."""
    rounds = all_rounds(run)
    found: list[Round] = []
    for number, round_ in enumerate(rounds if len(rounds) > 1 else [], start=1):
        scores = read_scores(round_.folder)
        if scores is None or not _is_current(round_, scores):
            break
        analysis = _read_analysis(round_) if read_positions else None
        found.append(Round(number=number, scores=scores, analysis=analysis))
        if stopped(found, run.config.rounds.max_drop):
            break
    return tuple(found)


def _is_current(run: Run, scores: Scores) -> bool:
    """Whether scores belong to the run's settings, as far as its prompts are there to tell."""
    try:
        return scores.inputs == evidence.score_inputs(run)
    except (SSDError, OSError):
        return False


def _read_analysis(run: Run) -> Analysis | None:
    """The run's analysis; None without one that can be read, which the run's own report names."""
    try:
        analysis = evidence.finished_analysis(run)
        return None if analysis is None else read_analysis(analysis.intact())
    except UNREADABLE:
        return None


def last_fall(rounds: Sequence[Round]) -> Fall | None:
    """The last round beside the best before it; None without held-out scores of all."""
    chosen = [round_.scores.held_out for round_ in rounds]
    held_out = [candidate.score.value for candidate in chosen if candidate is not None]
    return fall(held_out) if held_out and len(held_out) == len(rounds) else None


def stopped(rounds: Sequence[Round], max_drop: float | None) -> bool:
    """Whether the rule stops after the last of these rounds."""
    last = last_fall(rounds)
    return max_drop is not None and last is not None and last.exceeds(max_drop)


def round_rows(rounds: Sequence[Round], settings: AnalyseConfig) -> list[RoundRow]:
    """The base model, then every round's trained models."""
    rows = [_row(0, BASE, rounds[0], settings)] if rounds else []
    return rows + [
        _row(round_.number, model, round_, settings)
        for round_ in rounds
        for model in (TUNED, UNIT)
        if any(model in scored.models for scored in round_.scores.main)
    ]


def cells(rows: Sequence[RoundRow], words: FormWords) -> tuple[list[str], list[list[str]]]:
    """Titles of the columns, and a row of texts for each row."""
    benchmarks = list(dict.fromkeys(name for row in rows for name in row.scores))
    closes = any(row.closed_share is not None for row in rows)
    reads = was_read(rows)
    titles = ["round", "model", *benchmarks, "held-out", "distinct"]
    titles += ["locks", "forks", "kept"] if reads else []
    titles += ["tokens", words.share, *(["closed"] if closes else []), "cut"]
    return titles, [
        [
            str(row.round),
            row.model,
            *(percent(row.scores[name]) if name in row.scores else "-" for name in benchmarks),
            "-" if row.held_out is None else f"{100 * row.held_out.value:.1f}",
            f"{row.distinct_programs:.2f}",
            *(_spread_cells(row) if reads else []),
            f"{row.mean_tokens:.0f}",
            f"{row.fence_share:.0%}",
            *([_share(row.closed_share)] if closes else []),
            f"{row.cut_share:.0%}",
        ]
        for row in rows
    ]


def was_read(rows: Sequence[RoundRow]) -> bool:
    """Whether an analysis of any of these models was read."""
    return any(row.entropy is not None for row in rows)


def key(rows: Sequence[RoundRow]) -> str:
    """What the columns mean."""
    return f"{KEY}; {SPREAD}" if was_read(rows) else KEY


def rounds_text(rounds: Sequence[Round], settings: AnalyseConfig) -> str:
    """The table for a terminal."""
    rows = round_rows(rounds, settings)
    titles, texts = cells(rows, answer_words(rounds))
    return "\n\n".join([aligned([titles, *texts]), wrapped([key(rows)])])


def answer_words(rounds: Sequence[Round]) -> FormWords:
    """The words for the answers of the main benchmarks."""
    return form_words(scored.extraction for round_ in rounds for scored in round_.scores.main)


def _row(number: int, model: str, of: Round, settings: AnalyseConfig) -> RoundRow:
    here = [(scored, scored.models[model]) for scored in of.scores.main if model in scored.models]
    reasoning = [(scored, each.reasoning) for scored, each in here if each.reasoning is not None]
    selection = None if model == BASE else of.scores.selection
    chosen = None
    if selection is not None and selection.mode == "heldout":
        chosen = selection.chosen(model)
    entropy, kept_mass = _spread(model, of.analysis, settings)
    return RoundRow(
        round=number,
        model=model,
        scores={
            scored.title: scored.models[model].pass_at[scored.k]
            for scored in of.scores.benchmarks
            if model in scored.models
        },
        held_out=None if chosen is None else chosen.score,
        distinct_programs=_mean(here, "distinct_programs"),
        entropy=entropy,
        kept_mass=kept_mass,
        mean_tokens=_mean(here, "mean_tokens"),
        fence_share=_mean(here, "fence_share"),
        closed_share=_mean(reasoning, "closed_share") if reasoning else None,
        cut_share=_mean(here, "cut_share"),
    )


def _spread(
    model: str, analysis: Analysis | None, settings: AnalyseConfig
) -> tuple[dict[str, float] | None, float | None]:
    """Mean entropy by kind of position, and mean kept mass."""
    if analysis is None or model not in analysis.positions:
        return None, None
    positions, kinds = analysis.positions[model], base_kinds(analysis, settings)
    entropy = {}
    for kind in (LOCK, FORK):
        values = positions.entropy[kinds == kind]
        entropy[kind] = float(values.mean()) if len(values) else float("nan")
    return entropy, float(np.mean(positions.kept_mass))


def _mean(parts: Sequence[tuple[BenchmarkScores, Any]], name: str) -> float:
    values = [getattr(each, name) for _, each in parts]
    return float(np.average(values, weights=[scored.num_problems for scored, _ in parts]))


def _spread_cells(row: RoundRow) -> list[str]:
    entropies = [None if row.entropy is None else row.entropy[kind] for kind in (LOCK, FORK)]
    return [_digits(value) for value in (*entropies, row.kept_mass)]


def _digits(value: float | None) -> str:
    return "-" if value is None or np.isnan(value) else f"{value:.3f}"


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.0%}"
