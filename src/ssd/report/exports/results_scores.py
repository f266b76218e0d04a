"""Scores and choices as results.json holds them, every interval the same way."""

from collections.abc import Mapping
from typing import Any

from ssd.artifacts.fingerprints import plain
from ssd.method.intervals import Interval
from ssd.records.benchmark_scores import BenchmarkScores, Comparison, ModelScores
from ssd.records.pass_at import PassAt
from ssd.records.selection import Candidate, Selection
from ssd.report.run.summary import finding

EDITION = ("release", "window", "grading", "extraction", "split", "regression")
COUNTS = ("num_problems", "num_total", "num_samples")
SOURCE = ("generations", "verdicts")
FORM = ("mean_tokens", "fence_share", "cut_share", "distinct_programs", "statuses")


def benchmark(scores: BenchmarkScores) -> dict[str, Any]:
    """All arms on the same problems, and the verdict in the words of the report."""
    verdict, sizes = finding(scores), scores.group_sizes
    return {
        **{name: getattr(scores, name) for name in (*EDITION, *COUNTS)},
        "verdict": {"word": verdict.verdict, "text": verdict.text},
        "arms": {arm: _arm(model, sizes) for arm, model in scores.models.items()},
        "comparisons": {arm: _comparison(change) for arm, change in scores.comparisons.items()},
    }


def _arm(scores: ModelScores, sizes: Mapping[str, int]) -> dict[str, Any]:
    return {
        "model": scores.model,
        **plain(scores.setting),
        **{name: getattr(scores, name) for name in (*SOURCE, *FORM)},
        "pass_at": _pass_at(scores.pass_at),
        "curve": scores.curve,
        "lost_to_form": scores.lost_to_form,
        **({} if scores.reasoning is None else {"reasoning": plain(scores.reasoning)}),
        "groups": {
            name: {"num_problems": sizes[name], "pass_at": _pass_at(pass_at)}
            for name, pass_at in scores.groups.items()
        },
    }


def _comparison(comparison: Comparison) -> dict[str, Any]:
    return {
        "pass_at": _pass_at(comparison.pass_at),
        "mean_tokens": comparison.mean_tokens,
        "groups": {
            name: {"pass_at": _pass_at(change.pass_at)}
            for name, change in comparison.groups.items()
        },
    }


def _pass_at(pass_at: PassAt) -> dict[str, Interval]:
    return {str(k): interval for k, interval in pass_at.items()}


def selected(selection: Selection) -> dict[str, Any]:
    """How decoding and checkpoint were chosen, and among what."""
    return {
        "mode": selection.mode,
        "validation": selection.validation,
        "num_problems": {name: len(ids) for name, ids in selection.problems.items()},
        "sweeps": {
            model: [_candidate(candidate) for candidate in candidates]
            for model, candidates in selection.sweeps.items()
        },
    }


def _candidate(candidate: Candidate) -> dict[str, Any]:
    return {
        **plain(candidate.setting),
        "score": candidate.score,
        "num_problems": candidate.num_problems,
        "chosen": candidate.chosen,
    }
