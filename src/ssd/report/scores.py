"""`scores.json` of a run: base and tuned model per benchmark, every number with its interval."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ssd.artifacts import read_json
from ssd.errors import ArtifactError
from ssd.run import SCORES

VERSION = 1
PASS_AT = "pass@"
ALPHA = 0.05
"""Significance level of the paired test, the counterpart of 95% intervals."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """An estimate and its 95% interval: a score is a share in [0, 1],
    a difference lies in [-1, 1]."""

    value: float
    low: float
    high: float
    p_value: float | None = None

    @property
    def degenerate(self) -> bool:
        """All resamples gave the same number: few problems, or none that changed.
        It measures no uncertainty."""
        return self.low == self.high

    @property
    def excludes_zero(self) -> bool:
        """Whether the interval of a difference has a width and 0 lies outside it."""
        return not self.degenerate and not self.low <= 0 <= self.high

    @property
    def decided(self) -> bool:
        """Whether interval and test agree on a difference. A percentile bootstrap alone is too
        easily sure: four of 24 problems that turn from failed to passed give an interval above
        0, but p = 0.125."""
        return self.excludes_zero and (self.p_value is None or self.p_value < ALPHA)


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelScores:
    """One model on one benchmark, and the settings it was decoded with."""

    pass_at: dict[int, Interval]
    mean_tokens: float
    fence_share: float
    """Share of answers with a code fence, in [0, 1]."""
    cut_share: float
    """Share of answers that ended at the length cap, in [0, 1]."""
    statuses: dict[str, int]
    """How many programs passed, failed, timed out and so on."""
    temp: float
    top_k: int | None
    top_p: float
    generations: str
    """Fingerprint of the graded answers."""
    verdicts: str

    @property
    def decoding(self) -> tuple[float, int | None, float]:
        return (self.temp, self.top_k, self.top_p)


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchmarkScores:
    """Base and, where it was evaluated, tuned model on the same problems."""

    name: str
    num_problems: int
    num_samples: int
    split: str
    models: dict[str, ModelScores]
    difference: dict[int, Interval]
    """Tuned minus base per k, paired by problem; empty without a tuned model."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scores:
    """All of `scores.json`."""

    sandbox: str
    """What isolated the graded programs."""
    benchmarks: tuple[BenchmarkScores, ...]


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
        benchmarks = tuple(_benchmark(name, item) for name, item in stored["benchmarks"].items())
        return Scores(sandbox=stored["sandbox"], benchmarks=benchmarks)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ArtifactError(
            f"{path} is damaged ({error!r}): delete it and evaluate this run again"
        ) from error


def _benchmark(name: str, stored: dict[str, Any]) -> BenchmarkScores:
    return BenchmarkScores(
        name=name,
        num_problems=stored["num_problems"],
        num_samples=stored["num_samples"],
        split=stored["split"],
        models={role: _model(item) for role, item in stored["models"].items()},
        difference=_pass_at(stored.get("difference", {})),
    )


def _model(stored: dict[str, Any]) -> ModelScores:
    return ModelScores(
        pass_at=_pass_at(stored),
        mean_tokens=stored["mean_tokens"],
        fence_share=stored["fence_share"],
        cut_share=stored["cut_share"],
        statuses=stored["statuses"],
        temp=stored["temp"],
        top_k=stored["top_k"],
        top_p=stored["top_p"],
        generations=stored["generations"],
        verdicts=stored["verdicts"],
    )


def _pass_at(stored: dict[str, Any]) -> dict[int, Interval]:
    found = {
        int(key.removeprefix(PASS_AT)): Interval(**item)
        for key, item in stored.items()
        if key.startswith(PASS_AT)
    }
    return dict(sorted(found.items()))
