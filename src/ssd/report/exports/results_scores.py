"""Scores and choices as results.json holds them, every interval the same way."""

from collections.abc import Mapping
from typing import Any

from ssd.artifacts.fingerprints import plain
from ssd.records.scores import BenchmarkScores, Comparison, Interval, ModelScores, Scored, Selection
from ssd.report.run.summary import finding


def benchmark(scores: BenchmarkScores) -> dict[str, Any]:
    """All arms on the same problems, and the verdict in the words of the report."""
    verdict = finding(scores)
    names = ("release", "window", "grading", "extraction", "split", "regression")
    counts = ("num_problems", "num_total", "num_samples")
    return {
        **{name: getattr(scores, name) for name in (*names, *counts)},
        "verdict": {"word": verdict.verdict, "text": verdict.text},
        "arms": {arm: _arm(one, scores.group_sizes) for arm, one in scores.models.items()},
        "comparisons": {arm: _comparison(one) for arm, one in scores.comparisons.items()},
    }


def _arm(scores: ModelScores, sizes: Mapping[str, int]) -> dict[str, Any]:
    form = ("mean_tokens", "fence_share", "cut_share", "distinct_programs", "statuses")
    decoding = ("model", "temp", "top_k", "top_p", "checkpoint_step", "generations", "verdicts")
    return {
        **{name: getattr(scores, name) for name in (*decoding, *form)},
        "pass_at": _pass_at(scores.pass_at),
        "curve": scores.curve,
        "lost_to_form": scores.lost_to_form,
        "groups": {
            name: {"num_problems": sizes[name], "pass_at": _pass_at(one)}
            for name, one in scores.groups.items()
        },
    }


def _comparison(comparison: Comparison) -> dict[str, Any]:
    return {
        "pass_at": _pass_at(comparison.pass_at),
        "mean_tokens": estimate(comparison.mean_tokens),
        "groups": {name: {"pass_at": _pass_at(one)} for name, one in comparison.groups.items()},
    }


def _pass_at(scored: Scored) -> dict[str, Any]:
    return {str(k): estimate(interval) for k, interval in scored.items()}


def estimate(interval: Interval) -> dict[str, Any]:
    """An estimate with its interval, and its p-value or null."""
    stored: dict[str, Any] = plain(interval)
    return stored if interval.p_value is not None else stored | {"p_value": None}


def selected(selection: Selection) -> dict[str, Any]:
    """How decoding and checkpoint were chosen, and among what."""
    return {
        "mode": selection.mode,
        "validation": selection.validation,
        "num_problems": {name: len(ids) for name, ids in selection.problems.items()},
        "sweeps": {
            model: [{**plain(one), "score": estimate(one.score)} for one in candidates]
            for model, candidates in selection.sweeps.items()
        },
    }
