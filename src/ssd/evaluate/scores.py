"""Verdicts -> scores: unbiased pass@k, intervals over problems, paired differences.

Pure; random numbers are arguments. P problems, G samples per problem, B resamples.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from ssd.errors import DataError
from ssd.evaluate.grading import Verdict

Floats = npt.NDArray[np.float64]
LEVEL = 0.95
"""Coverage of every interval."""


def pass_at_k(num_samples: int, num_correct_P: npt.NDArray[np.int64], k: int) -> Floats:
    """Unbiased pass@k per problem, 1 - C(n-c, k) / C(n, k)
    (Chen et al. 2021, arXiv 2107.03374, eq. 1).

    The ratio of binomials is the product of (n-c-j) / (n-j) over j < k: factors in [0, 1],
    so large n is safe.
    """
    drawn_k = np.arange(k)
    wrong_P_k = np.maximum(num_samples - num_correct_P[:, None] - drawn_k, 0)
    score_P: Floats = 1.0 - np.prod(wrong_P_k / (num_samples - drawn_k), axis=1)
    return score_P


def passed_matrix(verdicts: Sequence[Verdict]) -> npt.NDArray[np.bool_]:
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


def resample_counts(
    num_problems: int, num_resamples: int, rng: np.random.Generator
) -> npt.NDArray[np.int64]:
    """How often each problem is drawn in each bootstrap resample, (B, P);
    shared by all that is compared."""
    counts_B_P: npt.NDArray[np.int64] = rng.multinomial(
        num_problems, np.full(num_problems, 1 / num_problems), size=num_resamples
    )
    return counts_B_P


def interval(values_P: Floats, counts_B_P: npt.NDArray[np.int64]) -> dict[str, float]:
    """Mean over problems with its percentile-bootstrap interval;
    problems are the unit that is resampled."""
    means_B = counts_B_P @ values_P / len(values_P)
    low, high = np.quantile(means_B, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return {"value": float(values_P.mean()), "low": float(low), "high": float(high)}


def sign_flip_p_value(differences_P: Floats, num_resamples: int, rng: np.random.Generator) -> float:
    """Two-sided p-value of a paired sign-flip test.

    Where the models do not differ, each problem's difference is as likely to have the other sign.
    The p-value is the share of random sign choices with a mean at least as far from 0 as the
    observed one, which itself counts as one of them, so it is never 0 (Phipson and Smyth 2010,
    arXiv 1603.05766).
    """
    changed_P = differences_P[differences_P != 0]
    signs_B_P = rng.integers(0, 2, size=(num_resamples, len(changed_P)), dtype=np.int8) * 2 - 1
    # Sums that are equal on paper may differ in the last digits.
    extreme_B = np.abs(signs_B_P @ changed_P) >= abs(changed_P.sum()) - 1e-9
    return float((1 + extreme_B.sum()) / (1 + num_resamples))


def model_scores(
    verdicts: Sequence[Verdict], k: Sequence[int], counts_B_P: npt.NDArray[np.int64]
) -> dict[str, Any]:
    """pass@k with intervals, mean answer length in tokens,
    shares with a fence and cut by the cap, and statuses."""
    total = len(verdicts)
    return {
        **{
            f"pass@{one}": interval(values_P, counts_B_P)
            for one, values_P in _pass_at_k(verdicts, k).items()
        },
        "mean_tokens": sum(verdict.num_tokens for verdict in verdicts) / total,
        "fence_share": sum(verdict.has_fence for verdict in verdicts) / total,
        "cut_share": sum(verdict.finish_reason == "length" for verdict in verdicts) / total,
        "statuses": dict(Counter(verdict.status for verdict in verdicts).most_common()),
    }


def difference_scores(
    base: Sequence[Verdict],
    tuned: Sequence[Verdict],
    k: Sequence[int],
    counts_B_P: npt.NDArray[np.int64],
    rng: np.random.Generator,
) -> dict[str, dict[str, float]]:
    """Tuned minus base per problem: mean, interval over the same resamples, and p-value."""
    base_scores, tuned_scores = _pass_at_k(base, k), _pass_at_k(tuned, k)
    scores = {}
    for one in k:
        differences_P = tuned_scores[one] - base_scores[one]
        p_value = sign_flip_p_value(differences_P, len(counts_B_P), rng)
        scores[f"pass@{one}"] = {**interval(differences_P, counts_B_P), "p_value": p_value}
    return scores


def benchmark_scores(
    verdicts: Mapping[str, Sequence[Verdict]],
    k: Sequence[int],
    *,
    num_resamples: int,
    rng: np.random.Generator,
) -> dict[str, Any]:
    """Scores of one benchmark from the verdicts by role (`base`, and `tuned` where there is one).

    Raises:
        DataError: verdicts are missing, or the roles answered different problems.
    """
    num_problems, num_samples = passed_matrix(verdicts["base"]).shape
    problems = {role: {verdict.problem_id for verdict in rows} for role, rows in verdicts.items()}
    if any(names != problems["base"] for names in problems.values()):
        raise DataError(
            "base and tuned model were graded on different problems: "
            "delete their verdicts and run again"
        )
    counts_B_P = resample_counts(num_problems, num_resamples, rng)
    scores: dict[str, Any] = {
        "num_problems": num_problems,
        "num_samples": num_samples,
        "models": {role: model_scores(rows, k, counts_B_P) for role, rows in verdicts.items()},
    }
    if "tuned" in verdicts:
        scores["difference"] = difference_scores(
            verdicts["base"], verdicts["tuned"], k, counts_B_P, rng
        )
    return scores


def _pass_at_k(verdicts: Sequence[Verdict], k: Sequence[int]) -> dict[int, Floats]:
    passed_P_G = passed_matrix(verdicts)
    return {one: pass_at_k(passed_P_G.shape[1], passed_P_G.sum(axis=1), one) for one in k}
