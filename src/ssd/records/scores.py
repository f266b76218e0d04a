"""`scores.json` of a run: every arm per benchmark, and the choices before, all with intervals."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ssd.arms import BASE, rules
from ssd.artifacts.files import read_json
from ssd.artifacts.names import SCORES
from ssd.config.choices import Grading
from ssd.errors import ArtifactError
from ssd.method.significance import LEVEL

VERSION = 2
PASS_AT = "pass@"


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """An estimate and its 95% interval: a score is a share in [0, 1], a difference lies in
    [-1, 1], a length is in tokens."""

    value: float
    low: float
    high: float
    p_value: float | None = None

    @property
    def excludes_zero(self) -> bool:
        """Whether 0 lies outside the interval of a difference."""
        return not self.low <= 0 <= self.high

    @property
    def decided(self) -> bool:
        """Whether interval and test agree on a difference: five of 164 problems that turn from
        failed to passed give an interval above 0, but p = 0.06."""
        return self.excludes_zero and (self.p_value is None or self.p_value < LEVEL)


Scored = dict[int, Interval]
"""pass@k by k, in ascending order."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelScores:
    """One arm on one benchmark, and the settings it was decoded with."""

    model: str
    """`base`, `tuned` or `t1`: several arms can share one."""
    pass_at: Scored
    groups: dict[str, Scored]
    """By difficulty, and without errata."""
    mean_tokens: float
    fence_share: float
    """Share of answers with a code fence, in [0, 1]."""
    cut_share: float
    """Share of answers that ended at the length cap, in [0, 1]."""
    distinct_programs: float
    """Different programs per problem."""
    lost_to_form: dict[str, float] | None
    """By form, the share of answers that fail for it alone, in [0, 1]; None in scores of earlier
    versions of this project and under the lenient rule."""
    statuses: dict[str, int]
    """How many programs passed, failed, timed out and so on."""
    temp: float
    top_k: int | None
    top_p: float
    checkpoint_step: int | None
    generations: str
    """Fingerprint of the graded answers."""
    verdicts: str
    curve: tuple[float, ...]
    """pass@1, pass@2, ... up to the samples per problem; empty in scores of earlier versions of
    this project."""

    @property
    def lost_share(self) -> float | None:
        """Share of answers that fail for their form alone, in [0, 1]."""
        return None if self.lost_to_form is None else sum(self.lost_to_form.values())

    @property
    def decoding(self) -> tuple[float, int | None, float]:
        return (self.temp, self.top_k, self.top_p)


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """The tuned model minus one other arm, paired by problem."""

    pass_at: Scored
    groups: dict[str, Scored]
    mean_tokens: Interval


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchmarkScores:
    """All arms on the same problems of one benchmark."""

    name: str
    release: str | None
    window: str | None
    grading: str
    extraction: str
    num_problems: int
    num_total: int
    """Problems before those that chose were set aside."""
    num_samples: int
    split: str
    regression: bool
    """Whether it only watches for losses out of domain."""
    models: dict[str, ModelScores]
    comparisons: dict[str, Comparison]
    """By the arm that the tuned model is compared with; empty without a tuned model."""
    group_sizes: dict[str, int]
    """Problems by group."""

    @property
    def title(self) -> str:
        """The name, and the rules where they are not the benchmark's own."""
        official = rules(self.grading, self.extraction) == rules(Grading.official.value, "")
        return self.name if official else f"{self.name} ({rules(self.grading, self.extraction)})"

    @property
    def k(self) -> int:
        """The smallest k, which verdicts go by."""
        return min(next(iter(self.models.values())).pass_at)

    @property
    def difference(self) -> Scored:
        """Tuned minus base per k; empty without a tuned model."""
        return self.comparisons[BASE].pass_at if BASE in self.comparisons else {}

    @property
    def values(self) -> dict[str, float]:
        """pass@k at the smallest k by arm, each a share."""
        return {arm: model.pass_at[self.k].value for arm, model in self.models.items()}

    @property
    def rival(self) -> str:
        """The arm that a verdict weighs: the best-scoring one, of those that the tuned model has
        not been shown to beat where there are any."""
        changes = {arm: one.pass_at[self.k] for arm, one in self.comparisons.items()}
        unbeaten = [arm for arm, one in changes.items() if not (one.decided and one.low > 0)]
        return max(unbeaten or changes, key=lambda arm: self.values[arm])


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """One setting of a sweep, scored on the problems that choose."""

    temp: float
    top_k: int | None
    top_p: float
    checkpoint_step: int | None
    score: Interval
    num_problems: int
    chosen: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """How decoding and checkpoint were chosen."""

    mode: str
    """`heldout` or `test`."""
    validation: str
    problems: dict[str, list[str]]
    """The ids of the problems that chose, by benchmark."""
    sweeps: dict[str, tuple[Candidate, ...]]
    """By model."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scores:
    """All of `scores.json`."""

    inputs: dict[str, Any]
    """What the scores depend on, as `Run.score_inputs` gives it."""
    sandbox: str
    """What isolated the graded programs."""
    resample: str
    """What the intervals are over."""
    intervals: str | None
    """The method behind them; None in scores of earlier versions of this project."""
    selection: Selection | None
    """None where nothing was chosen."""
    benchmarks: tuple[BenchmarkScores, ...]

    @property
    def main(self) -> tuple[BenchmarkScores, ...]:
        """The benchmarks that the verdict goes by."""
        return tuple(one for one in self.benchmarks if not one.regression)

    @property
    def regression(self) -> tuple[BenchmarkScores, ...]:
        """The benchmarks out of domain."""
        return tuple(one for one in self.benchmarks if one.regression)


def read_scores(run_dir: Path) -> Scores | None:
    """The scores of a run, or None where it has none yet.

    Raises:
        ArtifactError: the file is damaged or of another version.
    """
    path = run_dir / SCORES
    if not path.is_file():
        return None
    stored = read_json(path)
    try:
        if stored["version"] != VERSION:
            raise ArtifactError(
                f"{path} has version {stored['version']}, not {VERSION}: evaluate this run again"
            )
        return Scores(
            inputs=stored["inputs"],
            sandbox=stored["sandbox"],
            resample=stored["resample"],
            intervals=stored.get("intervals"),
            selection=_selection(stored["selection"]),
            benchmarks=tuple(_benchmark(name, one) for name, one in stored["benchmarks"].items()),
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ArtifactError(
            f"{path} is damaged ({error!r}): delete it and evaluate this run again"
        ) from error


def _benchmark(name: str, stored: dict[str, Any]) -> BenchmarkScores:
    models, comparisons = stored["models"], stored["comparisons"]
    facts = ("release", "window", "grading", "extraction", "num_problems", "num_total")
    first = next(iter(models.values()))
    return BenchmarkScores(
        name=name,
        **{fact: stored[fact] for fact in (*facts, "num_samples", "split", "regression")},
        models={arm: _model(item) for arm, item in models.items()},
        comparisons={arm: _comparison(item) for arm, item in comparisons.items()},
        group_sizes={
            group: item["num_problems"] for group, item in first.get("groups", {}).items()
        },
    )


def _model(stored: dict[str, Any]) -> ModelScores:
    form = ("mean_tokens", "fence_share", "cut_share", "distinct_programs", "statuses")
    decoding = ("model", "temp", "top_k", "top_p", "checkpoint_step")
    names = (*form, *decoding, "generations", "verdicts")
    return ModelScores(
        pass_at=_pass_at(stored),
        groups=_groups(stored),
        curve=tuple(stored.get("curve", ())),
        lost_to_form=stored.get("lost_to_form"),
        **{name: stored[name] for name in names},
    )


def _comparison(stored: dict[str, Any]) -> Comparison:
    return Comparison(
        pass_at=_pass_at(stored),
        groups=_groups(stored),
        mean_tokens=Interval(**stored["mean_tokens"]),
    )


def _selection(stored: dict[str, Any] | None) -> Selection | None:
    if stored is None:
        return None
    names = ("temp", "top_k", "top_p", "checkpoint_step", "num_problems", "chosen")
    return Selection(
        **{name: stored[name] for name in ("mode", "validation", "problems")},
        sweeps={
            model: tuple(
                Candidate(
                    score=Interval(**row[f"{PASS_AT}1"]), **{name: row[name] for name in names}
                )
                for row in rows
            )
            for model, rows in stored["sweeps"].items()
        },
    )


def _groups(stored: dict[str, Any]) -> dict[str, Scored]:
    return {group: _pass_at(item) for group, item in stored.get("groups", {}).items()}


def _pass_at(stored: dict[str, Any]) -> Scored:
    found = {
        int(key.removeprefix(PASS_AT)): Interval(**item)
        for key, item in stored.items()
        if key.startswith(PASS_AT)
    }
    return dict(sorted(found.items()))
