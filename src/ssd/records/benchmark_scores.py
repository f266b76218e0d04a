"""All arms on the problems of one benchmark, and their form in `scores.json`."""

import dataclasses
from dataclasses import dataclass
from typing import Any

from ssd.arms import (
    BASE,
    BOX_OR_LINE,
    BOX_OR_NUMBER,
    SAME,
    TUNED,
    FormWords,
    counted,
    form_words,
    gain_sentence,
    rules,
    rungs,
)
from ssd.artifacts.fingerprints import plain
from ssd.config.choices import Grading
from ssd.method.decoding import Setting
from ssd.method.intervals import Interval
from ssd.records.pass_at import PassAt, interval_json, pass_at_json, read_pass_at
from ssd.records.selection import read_setting

EDITION = ("release", "window", "grading", "extraction", "num_total", "split", "regression")
COUNTS = ("num_problems", "num_samples")
FORM = (
    "mean_tokens", "fence_share", "cut_share", "distinct_programs", "lost_to_form", "statuses",
    "curve",
)  # fmt: skip
SOURCE = ("generations", "verdicts")


@dataclass(frozen=True, slots=True, kw_only=True)
class GradedAnswers:
    """The answers behind an arm."""

    model: str
    """`base`, `tuned` or `t1`: several arms can share one."""
    setting: Setting
    """How the model was made to answer."""
    generations: str
    """Fingerprint of the answers."""
    verdicts: str
    """Fingerprint of their verdicts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reasoning:
    """How the reasoning of an arm's answers went."""

    closed_share: float
    """Share of answers that closed it, in [0, 1]."""
    cut_share: float
    """Share of answers that the length cap cut off within it, in [0, 1]."""
    mean_tokens: float
    """Mean length of an answer's reasoning; 0 for one without."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelScores(GradedAnswers):
    """One arm on one benchmark."""

    pass_at: PassAt
    groups: dict[str, PassAt]
    """By difficulty, and without errata."""
    mean_tokens: float
    fence_share: float
    """Share of answers with a code fence, or with a box where they are values, in [0, 1]."""
    cut_share: float
    """Share of answers that ended at the length cap, in [0, 1]."""
    distinct_programs: float
    """Different programs or values per problem."""
    lost_to_form: dict[str, float] | None
    """By form, the share of answers that fail for it alone, in [0, 1]; None in scores of earlier
    versions of this project and under the lenient rule."""
    statuses: dict[str, int]
    """How many programs passed, failed, timed out and so on."""
    curve: tuple[float, ...]
    """pass@1, pass@2, ... up to the samples per problem; empty in scores of earlier versions of
    this project."""
    reasoning: Reasoning | None = None
    """None where no answer reasons, or that was not looked at."""

    @property
    def lost_share(self) -> float | None:
        """Share of answers that fail for their form alone, in [0, 1]."""
        return None if self.lost_to_form is None else sum(self.lost_to_form.values())


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """The tuned model minus one other arm, paired by problem."""

    pass_at: PassAt
    mean_tokens: Interval


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison(Difference):
    """A difference on all problems, and on each group of them."""

    groups: dict[str, Difference]


@dataclass(frozen=True, slots=True, kw_only=True)
class Edition:
    """The facts about a benchmark that are stored beside every score on it."""

    name: str
    release: str | None
    window: str | None
    grading: str
    extraction: str
    num_total: int
    """Problems before those that chose were set aside."""
    split: str
    regression: bool
    """Whether it only watches for losses out of domain."""

    @property
    def words(self) -> FormWords:
        """The words for its answers."""
        return form_words([self.extraction])

    @property
    def title(self) -> str:
        """The name, and the rules if they are not the benchmark's own."""
        official = self.extraction in (BOX_OR_NUMBER, BOX_OR_LINE) or (
            rules(self.grading, self.extraction) == rules(Grading.official.value, "")
        )
        return self.name if official else f"{self.name} ({rules(self.grading, self.extraction)})"


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchmarkScores(Edition):
    """All arms on the same problems of one benchmark."""

    num_problems: int
    num_samples: int
    models: dict[str, ModelScores]
    """By arm."""
    comparisons: dict[str, Comparison]
    """By the arm that the tuned model is compared with; empty without a tuned model."""
    group_sizes: dict[str, int]
    """Problems by group."""
    steps: dict[str, PassAt] = dataclasses.field(default_factory=dict)
    """Of the arms that part a gain, each control minus the one below it, by the upper arm; empty
    without them, and in scores of earlier versions of this project."""

    @property
    def problems(self) -> str:
        """`48 of 164 problems`, or `164 problems`."""
        if self.num_problems == self.num_total:
            return counted(self.num_problems, "problem")
        return f"{self.num_problems} of {self.num_total} problems"

    @property
    def k(self) -> int:
        """The smallest k, which verdicts go by."""
        return min(next(iter(self.models.values())).pass_at)

    @property
    def difference(self) -> PassAt:
        """Tuned minus base per k; empty without a tuned model."""
        return self.comparisons[BASE].pass_at if BASE in self.comparisons else {}

    @property
    def decodings(self) -> str:
        """How base and tuned model are decoded, with the settings behind it, where that differs and
        no control has the base model under the tuned one's; empty otherwise."""
        if TUNED not in self.models or SAME in self.models:
            return ""
        base, tuned = (self.models[arm].setting for arm in (BASE, TUNED))
        if base.decoding == tuned.decoding:
            return ""
        cuts = [(how.top_k, how.top_p) for how in (base, tuned)]
        differs = {"temp": base.temp != tuned.temp, "truncation": cuts[0] != cuts[1]}
        names = [name for name, differ in differs.items() if differ]
        theirs, ours = (
            " and ".join(f"eval.{prefix}{name}" for name in names) for prefix in ("base_", "")
        )
        behind = f"{theirs} for the base model, {ours} for the tuned one"
        return f"base and tuned model are decoded differently ({behind})"

    def score(self, arm: str, group: str | None = None) -> Interval | None:
        """pass@k of an arm at the smallest k, on all problems or a group; None without the arm."""
        model = self.models.get(arm)
        if model is None:
            return None
        return (model.pass_at if group is None else model.groups[group])[self.k]

    def change(self, arm: str, group: str | None = None) -> Interval | None:
        """The same of the tuned model minus an arm."""
        change = self.comparisons.get(arm)
        if change is None:
            return None
        return (change if group is None else change.groups[group]).pass_at[self.k]

    @property
    def values(self) -> dict[str, float]:
        """pass@k at the smallest k by arm, each a share."""
        return {arm: model.pass_at[self.k].value for arm, model in self.models.items()}

    @property
    def gain(self) -> str:
        """The parts of the gain over the base model, in words; empty without controls."""
        change = self.change(BASE)
        ends = {arm: (interval.low, interval.high) for arm, interval in self.part_intervals.items()}
        return gain_sentence(self.values, ends, certain=change is not None and change.is_gain)

    @property
    def part_intervals(self) -> dict[str, Interval]:
        """The intervals of the parts of the gain, by their upper arms, as far as they are known."""
        known = {arm: pass_at[self.k] for arm, pass_at in self.steps.items()}
        *_, below, _ = rungs(self.models) or (BASE, BASE)
        last = self.change(below)
        return known if last is None else known | {TUNED: last}

    @property
    def rival(self) -> str:
        """The arm that the verdict compares with: the best-scoring one among those that the tuned
        model is not shown to beat, or among all arms if it beats them all."""
        changes = {arm: change.pass_at[self.k] for arm, change in self.comparisons.items()}
        unbeaten = [arm for arm, change in changes.items() if not change.is_gain]
        return max(unbeaten or changes, key=lambda arm: self.values[arm])


def benchmark_json(scored: BenchmarkScores) -> dict[str, Any]:
    """A benchmark's scores as they are stored."""
    sizes = scored.group_sizes
    steps = {arm: pass_at_json(pass_at) for arm, pass_at in scored.steps.items()}
    return {
        "benchmark": scored.name,
        **{name: getattr(scored, name) for name in (*EDITION, *COUNTS)},
        "models": {arm: _model_json(model, sizes) for arm, model in scored.models.items()},
        "comparisons": {
            arm: _comparison_json(change) for arm, change in scored.comparisons.items()
        },
        **({"steps": steps} if steps else {}),
    }


def _model_json(model: ModelScores, sizes: dict[str, int]) -> dict[str, Any]:
    groups = {
        group: {"num_problems": sizes[group], **pass_at_json(pass_at)}
        for group, pass_at in model.groups.items()
    }
    return {
        **pass_at_json(model.pass_at),
        **{name: plain(getattr(model, name)) for name in FORM},
        **({} if model.reasoning is None else {"reasoning": plain(model.reasoning)}),
        **({"groups": groups} if groups else {}),
        "model": model.model,
        **plain(model.setting),
        **{name: getattr(model, name) for name in SOURCE},
    }


def _comparison_json(change: Comparison) -> dict[str, Any]:
    groups = {group: _difference_json(within) for group, within in change.groups.items()}
    return {**_difference_json(change), **({"groups": groups} if groups else {})}


def _difference_json(change: Difference) -> dict[str, Any]:
    return {**pass_at_json(change.pass_at), "mean_tokens": interval_json(change.mean_tokens)}


def read_benchmark(name: str, stored: dict[str, Any]) -> BenchmarkScores:
    """A benchmark's scores from their stored fields."""
    models, comparisons = stored["models"], stored["comparisons"]
    groups = next(iter(models.values())).get("groups", {})
    return BenchmarkScores(
        name=name,
        **{field: stored[field] for field in (*EDITION, *COUNTS)},
        models={arm: _model(fields) for arm, fields in models.items()},
        comparisons={arm: _comparison(fields) for arm, fields in comparisons.items()},
        group_sizes={group: fields["num_problems"] for group, fields in groups.items()},
        steps={arm: read_pass_at(fields) for arm, fields in stored.get("steps", {}).items()},
    )


def _model(stored: dict[str, Any]) -> ModelScores:
    # Fields that scores of earlier versions of this project lack.
    stored = {"lost_to_form": None, "curve": (), "groups": {}, **stored}
    return ModelScores(
        model=stored["model"],
        setting=read_setting(stored),
        pass_at=read_pass_at(stored),
        groups={group: read_pass_at(fields) for group, fields in stored["groups"].items()},
        reasoning=Reasoning(**stored["reasoning"]) if "reasoning" in stored else None,
        **{name: stored[name] for name in (*FORM, *SOURCE)} | {"curve": tuple(stored["curve"])},
    )


def _comparison(stored: dict[str, Any]) -> Comparison:
    groups = stored.get("groups", {})
    return Comparison(
        **_difference(stored),
        groups={group: Difference(**_difference(fields)) for group, fields in groups.items()},
    )


def _difference(stored: dict[str, Any]) -> dict[str, Any]:
    return {"pass_at": read_pass_at(stored), "mean_tokens": Interval(**stored["mean_tokens"])}
