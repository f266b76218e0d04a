"""Verdicts -> scores: every arm's pass@k with intervals, and the paired differences between them.

Pure; random numbers are arguments. P problems, G samples per problem.
An arm is a model under one decoding: `base`, `tuned`, or a control.
"""

import dataclasses
from collections import Counter, defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from ssd.arms import TUNED, rungs
from ssd.config.choices import Resample
from ssd.errors import ConfigError, DataError
from ssd.method.decoding import Setting
from ssd.method.estimates import Booleans, Floats, largest_step, pass_at_k, sampling_noise
from ssd.method.interval_ends import difference_ends, estimate, mean_ends, score_ends
from ssd.method.sign_flip import sign_flip_p_value
from ssd.problems.extraction import LOSING_FORMS, NO_BOX
from ssd.records.benchmark_scores import (
    BenchmarkScores,
    Comparison,
    Difference,
    Edition,
    GradedAnswers,
    ModelScores,
    Reasoning,
)
from ssd.records.pass_at import PassAt
from ssd.records.selection import Candidate
from ssd.records.verdicts import CLOSED, NO_REASONING, UNCLOSED, Verdict


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


@dataclass(frozen=True, slots=True)
class ArmArrays:
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
    def of(cls, verdicts: Sequence[Verdict], k: Sequence[int], resample: Resample) -> "ArmArrays":
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
        arrays = cls.of_uneven(verdicts, k)
        if resample is not Resample.samples:
            return arrays
        noise = {order: sampling_noise(num_samples, correct_P, order) for order in k}
        return dataclasses.replace(arrays, noise=noise)

    @classmethod
    def of_uneven(cls, verdicts: Sequence[Verdict], k: Sequence[int]) -> "ArmArrays":
        """The same, problems in the order of their names, each with `max(k)` samples at least;
        pass@k is unbiased for each problem. Intervals are over problems."""
        by_problem: dict[str, list[Verdict]] = defaultdict(list)
        for verdict in verdicts:
            by_problem[verdict.problem_id].append(verdict)
        rows_P = [by_problem[problem] for problem in sorted(by_problem)]
        num_samples_P = np.array([len(rows) for rows in rows_P])
        correct_P = np.array([sum(verdict.passed for verdict in rows) for rows in rows_P])
        return cls(
            tokens_P=np.array([np.mean([row.num_tokens for row in rows]) for rows in rows_P]),
            scores={order: pass_at_k(num_samples_P, correct_P, order) for order in k},
            noise=None,
            steps={order: largest_step(int(num_samples_P.min()), order) for order in k},
        )

    def intervals(self) -> PassAt:
        """pass@k with intervals."""
        return {
            k: estimate(
                score_P.mean(),
                score_ends(score_P, None if self.noise is None else self.noise[k], self.steps[k]),
            )
            for k, score_P in self.scores.items()
        }

    def minus(self, other: "ArmArrays", num_resamples: int, rng: np.random.Generator) -> Difference:
        """Difference in pass@k per problem, with interval and p-value, and in mean answer length
        in tokens, whose interval is over problems."""
        changes = {}
        for k, score_P in self.scores.items():
            theirs_P, noise = other.scores[k], None
            if self.noise is not None and other.noise is not None:
                noise = self.noise[k] + other.noise[k]
            change_P = score_P - theirs_P
            changes[k] = estimate(
                change_P.mean(),
                difference_ends(score_P, theirs_P, noise, self.steps[k]),
                sign_flip_p_value(change_P, num_resamples, rng),
            )
        longer_P = self.tokens_P - other.tokens_P
        return Difference(
            pass_at=changes, mean_tokens=estimate(longer_P.mean(), mean_ends(longer_P))
        )


def form(verdicts: Sequence[Verdict]) -> dict[str, Any]:
    """The fields of `ModelScores` that say what the answers look like."""
    total, passed_P_G = len(verdicts), passed_matrix(verdicts)
    num_samples, correct_P = passed_P_G.shape[1], passed_P_G.sum(axis=1)
    curve = [pass_at_k(num_samples, correct_P, k).mean() for k in range(1, num_samples + 1)]
    return {
        "mean_tokens": sum(verdict.num_tokens for verdict in verdicts) / total,
        "fence_share": sum(verdict.has_fence for verdict in verdicts) / total,
        "cut_share": sum(verdict.finish_reason == "length" for verdict in verdicts) / total,
        "distinct_programs": distinct_programs(verdicts),
        "lost_to_form": lost_to_form(verdicts),
        "reasoning": reasoning(verdicts),
        "statuses": dict(Counter(verdict.status for verdict in verdicts).most_common()),
        "curve": tuple(map(float, curve)),
    }


def distinct_programs(verdicts: Sequence[Verdict]) -> float:
    """Different programs per problem."""
    programs: dict[str, set[str]] = {verdict.problem_id: set() for verdict in verdicts}
    for verdict in verdicts:
        programs[verdict.problem_id] |= {verdict.program} - {""}
    return sum(map(len, programs.values())) / len(programs)


def lost_to_form(verdicts: Sequence[Verdict]) -> dict[str, float] | None:
    """By form, the share of answers that fail for it alone; None if that was not checked."""
    forms = Counter(verdict.lost_to for verdict in verdicts)
    if None in forms:
        return None
    known = (*LOSING_FORMS, *(form for form in (NO_BOX,) if form in forms))
    return {form: forms[form] / len(verdicts) for form in known}


def reasoning(verdicts: Sequence[Verdict]) -> Reasoning | None:
    """How the reasoning went; None where no answer reasons, or that was not looked at."""
    ends = Counter(verdict.reasoning for verdict in verdicts)
    if None in ends or ends[NO_REASONING] == len(verdicts):
        return None
    cut = [row.finish_reason == "length" for row in verdicts if row.reasoning == UNCLOSED]
    return Reasoning(
        closed_share=ends[CLOSED] / len(verdicts),
        cut_share=sum(cut) / len(verdicts),
        mean_tokens=sum(row.num_reasoning_tokens or 0 for row in verdicts) / len(verdicts),
    )


def score_candidate(
    setting: Setting, verdicts: Sequence[Verdict], resample: Resample, *, chosen: bool
) -> Candidate:
    """One candidate setting, scored on the problems that choose."""
    arrays = ArmArrays.of(verdicts, [1], resample)
    return Candidate(
        setting=setting,
        score=arrays.intervals()[1],
        num_problems=len(arrays.tokens_P),
        chosen=chosen,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimator:
    """How scores are estimated from verdicts."""

    k: Sequence[int]
    resample: Resample = Resample.problems
    """What the intervals are over."""
    num_resamples: int
    """Choices of signs behind a p-value."""
    seed: int
    """Of the signs, which every comparison draws anew: arms with the same answers have the same
    p-value."""
    reference: str = TUNED
    """The arm that every other one is compared with, reference minus other; without its verdicts
    there are no comparisons."""

    def scores(
        self, verdicts: Mapping[str, Sequence[Verdict]]
    ) -> tuple[dict[str, PassAt], dict[str, Difference]]:
        """pass@k by arm, and the reference minus each other arm, paired by problem."""
        arms = {arm: ArmArrays.of(rows, self.k, self.resample) for arm, rows in verdicts.items()}
        compared = arms.get(self.reference)
        differences = {
            name: self._minus(compared, arm)
            for name, arm in arms.items()
            if compared is not None and name != self.reference
        }
        return {name: arm.intervals() for name, arm in arms.items()}, differences

    def steps(
        self,
        verdicts: Mapping[str, Sequence[Verdict]],
        answers: Mapping[str, GradedAnswers],
    ) -> dict[str, PassAt]:
        """Of the arms that part a gain, each control minus the one below it; where both are the
        same answers, the difference is 0 for certain and has no interval."""
        controls = [arm for arm in rungs(verdicts) if arm != TUNED]
        arms = {arm: ArmArrays.of(verdicts[arm], self.k, self.resample) for arm in controls}
        return {
            upper: self._minus(arms[upper], arms[lower]).pass_at
            for lower, upper in pairwise(controls)
            if answers[lower].generations != answers[upper].generations
        }

    def _minus(self, one: ArmArrays, other: ArmArrays) -> Difference:
        return one.minus(other, self.num_resamples, np.random.default_rng(self.seed))


def benchmark_scores(
    edition: Edition,
    answers: Mapping[str, GradedAnswers],
    verdicts: Mapping[str, Sequence[Verdict]],
    estimator: Estimator,
    groups: Mapping[str, Collection[str]] | None = None,
) -> BenchmarkScores:
    """Scores of one benchmark.

    Args:
        answers: what each arm (`base`, `tuned`, and controls) stands for.
        verdicts: on these answers, by arm.
        groups: problem ids by the group's name, such as `hard` or `without errata`. A group's
            intervals come from its own problems; a group without graded problems is left out.

    Raises:
        DataError: verdicts are missing, or the arms answered different problems.
        ConfigError: the noise of samples is asked for, and there is one per problem.
    """
    num_problems, num_samples = _shape(verdicts)
    pass_at, differences = estimator.scores(verdicts)
    sizes: dict[str, int] = {}
    grouped = {}
    for name, problems in (groups or {}).items():
        members = set(problems)
        within = {
            arm: [verdict for verdict in rows if verdict.problem_id in members]
            for arm, rows in verdicts.items()
        }
        if any(within.values()):
            sizes[name], _ = _shape(within)
            grouped[name] = estimator.scores(within)
    return BenchmarkScores(
        **_fields(edition, Edition),
        num_problems=num_problems,
        num_samples=num_samples,
        models={
            arm: ModelScores(
                **_fields(answers[arm], GradedAnswers),
                **form(rows),
                pass_at=pass_at[arm],
                groups={name: scores[arm] for name, (scores, _) in grouped.items()},
            )
            for arm, rows in verdicts.items()
        },
        comparisons={
            arm: Comparison(
                **_fields(difference, Difference),
                groups={name: changes[arm] for name, (_, changes) in grouped.items()},
            )
            for arm, difference in differences.items()
        },
        group_sizes=sizes,
        steps=estimator.steps(verdicts, answers),
    )


def _fields(record: Any, kind: type) -> dict[str, Any]:
    """The fields of a record that `kind` declares."""
    return {field.name: getattr(record, field.name) for field in dataclasses.fields(kind)}


def _shape(verdicts: Mapping[str, Sequence[Verdict]]) -> tuple[int, int]:
    """Problems, and samples per problem, of all arms."""
    answered = [{(row.problem_id, row.sample_index) for row in rows} for rows in verdicts.values()]
    if any(places != answered[0] for places in answered):
        raise DataError(
            f"{' and '.join(verdicts)} were graded on different problems or samples: "
            "delete their verdicts and run again"
        )
    first_P_G = passed_matrix(next(iter(verdicts.values())))
    return len(first_P_G), first_P_G.shape[1]
