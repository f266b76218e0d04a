"""Verdicts -> scores: every arm's pass@k with intervals, and the paired differences between them.

Pure; random numbers are arguments. P problems, G samples per problem.
An arm is a model under one decoding: `base`, `tuned`, or a control.
"""

from collections import Counter, defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ssd.config import Resample
from ssd.errors import ConfigError, DataError
from ssd.method.estimates import (
    Booleans,
    Floats,
    difference_ends,
    estimate,
    largest_step,
    mean_ends,
    pass_at_k,
    sampling_noise,
    score_ends,
    sign_flip_p_value,
)
from ssd.problems.extraction import LOSING_FORMS
from ssd.records.verdicts import Verdict

REFERENCE = "tuned"
"""The arm that every other one is compared with."""


def passed_matrix(verdicts: Sequence[Verdict]) -> Booleans:
    """Whether each sample passed, as (P, G) with problems and samples in the order of
    their names and indices.

    Raises:
        DataError: problems differ in their sample indices.
    """
    rows: dict[str, dict[int, bool]] = {}
    for verdict in verdicts:
        rows.setdefault(verdict.problem_id, {})[verdict.sample_index] = verdict.passed
    indices = {tuple(sorted(row)) for row in rows.values()}
    if len(indices) != 1:
        raise DataError(
            "verdicts are incomplete (problems differ in their samples): "
            "delete their folder and run again"
        )
    (order,) = indices
    return np.array([[rows[problem][index] for index in order] for problem in sorted(rows)])


def pass_curve(passed_P_G: Booleans) -> list[float]:
    """Mean unbiased pass@k for k = 1, 2, ... G."""
    num_samples, correct_P = passed_P_G.shape[1], passed_P_G.sum(axis=1)
    return [float(pass_at_k(num_samples, correct_P, k).mean()) for k in range(1, num_samples + 1)]


@dataclass(frozen=True, slots=True)
class ArmScores:
    """A model's verdicts as arrays."""

    tokens_P: Floats
    """Mean answer length per problem."""
    scores: dict[int, Floats]
    """pass@k per problem, (P,), by k."""
    noise: dict[int, Floats] | None
    """Variance that sampling gives them, summed over problems, by k; None where intervals are over
    problems, whose scores hold that noise already."""
    steps: dict[int, float]
    """The most that one more correct sample raises a problem's score, by k."""

    @classmethod
    def of(cls, verdicts: Sequence[Verdict], k: Sequence[int], resample: Resample) -> "ArmScores":
        """The arrays behind one model's scores. Intervals over problems and their samples, `both`,
        are those over problems.

        Raises:
            ConfigError: the noise of samples is asked for, and there is one per problem.
        """
        passed_P_G = passed_matrix(verdicts)
        num_samples, correct_P = passed_P_G.shape[1], passed_P_G.sum(axis=1)
        if resample is not Resample.problems and num_samples == 1:
            raise ConfigError(
                f"eval.resample={resample.value} needs the noise of a problem's samples and there "
                "is one per problem: raise eval.num_samples, or use eval.resample=problems"
            )
        noise = None
        if resample is Resample.samples:
            noise = {order: sampling_noise(num_samples, correct_P, order) for order in k}
        return cls(
            tokens_P=mean_tokens(verdicts),
            scores={order: pass_at_k(num_samples, correct_P, order) for order in k},
            noise=noise,
            steps={order: largest_step(num_samples, order) for order in k},
        )

    @classmethod
    def of_uneven(cls, verdicts: Sequence[Verdict], k: Sequence[int]) -> "ArmScores":
        """The same of problems with different numbers of samples, of which each needs `max(k)`:
        pass@k is unbiased for each of them. Intervals are over problems."""
        passed: dict[str, list[bool]] = defaultdict(list)
        for verdict in verdicts:
            passed[verdict.problem_id].append(verdict.passed)
        num_samples_P = np.array([len(passed[problem]) for problem in sorted(passed)])
        correct_P = np.array([sum(passed[problem]) for problem in sorted(passed)])
        return cls(
            tokens_P=mean_tokens(verdicts),
            scores={order: pass_at_k(num_samples_P, correct_P, order) for order in k},
            noise=None,
            steps={order: largest_step(int(num_samples_P.min()), order) for order in k},
        )

    def intervals(self) -> dict[str, dict[str, float]]:
        """pass@k with intervals, such as `{"pass@1": {"value", "low", "high"}}`."""
        return {
            f"pass@{k}": estimate(
                score_P.mean(),
                score_ends(score_P, None if self.noise is None else self.noise[k], self.steps[k]),
            )
            for k, score_P in self.scores.items()
        }

    def minus(
        self, other: "ArmScores", num_resamples: int, rng: np.random.Generator
    ) -> dict[str, dict[str, float]]:
        """Difference in pass@k per problem, with interval and p-value, and in mean answer length
        in tokens, whose interval is over problems."""
        changes = {}
        for k, score_P in self.scores.items():
            theirs_P, noise = other.scores[k], None
            if self.noise is not None and other.noise is not None:
                noise = self.noise[k] + other.noise[k]
            change_P = score_P - theirs_P
            changes[f"pass@{k}"] = {
                **estimate(
                    change_P.mean(), difference_ends(score_P, theirs_P, noise, self.steps[k])
                ),
                "p_value": sign_flip_p_value(change_P, num_resamples, rng),
            }
        longer_P = self.tokens_P - other.tokens_P
        return {**changes, "mean_tokens": estimate(longer_P.mean(), mean_ends(longer_P))}


def mean_tokens(verdicts: Sequence[Verdict]) -> Floats:
    """Mean answer length per problem in tokens, in the order of the problems' names."""
    lengths: dict[str, list[int]] = defaultdict(list)
    for verdict in verdicts:
        lengths[verdict.problem_id].append(verdict.num_tokens)
    return np.array([np.mean(lengths[problem]) for problem in sorted(lengths)])


def form(verdicts: Sequence[Verdict]) -> dict[str, Any]:
    """What stands beside a score: mean answer length in tokens, shares of answers with a fence and
    cut by the cap, distinct programs per problem, and how many programs ended how."""
    total = len(verdicts)
    programs: dict[str, set[str]] = {verdict.problem_id: set() for verdict in verdicts}
    for verdict in verdicts:
        programs[verdict.problem_id] |= {verdict.program} - {""}
    return {
        "mean_tokens": sum(verdict.num_tokens for verdict in verdicts) / total,
        "fence_share": sum(verdict.has_fence for verdict in verdicts) / total,
        "cut_share": sum(verdict.finish_reason == "length" for verdict in verdicts) / total,
        "distinct_programs": sum(map(len, programs.values())) / len(programs),
        "lost_to_form": lost_to_form(verdicts),
        "statuses": dict(Counter(verdict.status for verdict in verdicts).most_common()),
    }


def lost_to_form(verdicts: Sequence[Verdict]) -> dict[str, float] | None:
    """By form, the share of answers that fail for it alone; None where that was not looked at."""
    forms = Counter(verdict.lost_to for verdict in verdicts)
    if None in forms:
        return None
    return {form: forms[form] / len(verdicts) for form in LOSING_FORMS}


def sweep_score(
    verdicts: Sequence[Verdict], resample: Resample = Resample.problems
) -> dict[str, Any]:
    """One candidate decoding's score on the problems that choose: `num_problems`, and `pass@1`
    with its interval."""
    scores = ArmScores.of(verdicts, [1], resample)
    return {"num_problems": len(scores.tokens_P), **scores.intervals()}


def benchmark_scores(
    verdicts: Mapping[str, Sequence[Verdict]],
    k: Sequence[int],
    *,
    groups: Mapping[str, Collection[str]] | None = None,
    reference: str = REFERENCE,
    resample: Resample = Resample.problems,
    num_resamples: int,
    rng: np.random.Generator,
) -> dict[str, Any]:
    """Scores of one benchmark from the verdicts by arm (`base`, `tuned`, and controls).

    Args:
        groups: problem ids by the group's name, such as `hard` or `without errata`. A group's
            intervals are of itself; one without graded problems is left out.
        reference: the arm that every other one is compared with, reference minus other; without
            its verdicts there are no comparisons.

    Raises:
        DataError: verdicts are missing, or the arms answered different problems.
        ConfigError: the noise of samples is asked for, and there is one per problem.
    """
    num_problems, num_samples = _shape(verdicts)
    draws = (k, reference, resample, num_resamples, rng)
    models, comparisons = _scores(verdicts, *draws)
    for arm, rows in verdicts.items():
        models[arm] |= {**form(rows), "curve": pass_curve(passed_matrix(rows))}
    for name, problems in (groups or {}).items():
        members = set(problems)
        within = {
            arm: [verdict for verdict in rows if verdict.problem_id in members]
            for arm, rows in verdicts.items()
        }
        if not any(within.values()):
            continue
        size, _ = _shape(within)
        scores, changes = _scores(within, *draws)
        for arm, score in scores.items():
            models[arm].setdefault("groups", {})[name] = {"num_problems": size, **score}
        for arm, change in changes.items():
            comparisons[arm].setdefault("groups", {})[name] = change
    return {
        "num_problems": num_problems,
        "num_samples": num_samples,
        "models": models,
        "comparisons": comparisons,
    }


def _shape(verdicts: Mapping[str, Sequence[Verdict]]) -> tuple[int, int]:
    """Problems, and samples per problem, of all arms."""
    answered = [
        {(verdict.problem_id, verdict.sample_index) for verdict in rows}
        for rows in verdicts.values()
    ]
    if any(one != answered[0] for one in answered):
        raise DataError(
            f"{' and '.join(verdicts)} were graded on different problems or samples: "
            "delete their verdicts and run again"
        )
    num_problems, num_samples = passed_matrix(next(iter(verdicts.values()))).shape
    return num_problems, num_samples


def _scores(
    verdicts: Mapping[str, Sequence[Verdict]],
    k: Sequence[int],
    reference: str,
    resample: Resample,
    num_resamples: int,
    rng: np.random.Generator,
) -> tuple[dict[str, dict[str, Any]], dict[str, dict[str, Any]]]:
    """pass@k by arm, and the reference minus each other arm, paired by problem."""
    arms = {arm: ArmScores.of(rows, k, resample) for arm, rows in verdicts.items()}
    compared = arms.get(reference)
    comparisons: dict[str, dict[str, Any]] = {
        name: dict(compared.minus(arm, num_resamples, rng))
        for name, arm in arms.items()
        if compared is not None and name != reference
    }
    return {name: dict(arm.intervals()) for name, arm in arms.items()}, comparisons
