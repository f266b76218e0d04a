"""Score records as an evaluation would make them."""

from typing import Any

from ssd.arms import INTERVALS
from ssd.method.decoding import Setting
from ssd.method.intervals import Interval
from ssd.records.benchmark_scores import (
    BenchmarkScores,
    Comparison,
    Difference,
    Edition,
    GradedAnswers,
    ModelScores,
)
from ssd.records.scores import Scores
from ssd.records.selection import Candidate, Selection

EDITION = Edition(
    name="humaneval",
    release=None,
    window=None,
    grading="official",
    extraction="last_fenced_block_after_reasoning",
    num_total=24,
    split="all",
    regression=False,
)


def answers(arm: str) -> GradedAnswers:
    """What an arm stands for."""
    model = "base" if arm.startswith("base") else arm
    return GradedAnswers(
        model=model,
        setting=Setting(0.7, 20, 0.8),
        generations=f"answers-{arm}",
        verdicts=f"verdicts-{arm}",
    )


def model(value: float, half: float = 0.1, **changed: Any) -> ModelScores:
    """One arm that passes a share at k 1."""
    fields: dict[str, Any] = {
        "model": "base",
        "setting": Setting(0.7, 20, 0.8),
        "generations": "answers",
        "verdicts": "verdicts",
        "pass_at": {1: Interval(value=value, low=value - half, high=value + half)},
        "groups": {},
        "mean_tokens": 310.2,
        "fence_share": 0.98,
        "cut_share": 0.0208,
        "distinct_programs": 1.75,
        "lost_to_form": None,
        "statuses": {"passed": 6, "failed": 18},
        "curve": (value,),
    }
    return ModelScores(**fields | changed)


def difference(value: float, p_value: float = 0.01, half: float = 0.02) -> Difference:
    """A change at k 1, of answers that grow by 12 tokens."""
    change = Interval(value=value, low=value - half, high=value + half, p_value=p_value)
    return Difference(pass_at={1: change}, mean_tokens=Interval(value=12.0, low=-3.0, high=27.0))


def change(
    value: float,
    p_value: float = 0.01,
    half: float = 0.02,
    groups: dict[str, Difference] | None = None,
) -> Comparison:
    """The same of an arm, with its groups."""
    whole = difference(value, p_value, half)
    return Comparison(pass_at=whole.pass_at, mean_tokens=whole.mean_tokens, groups=groups or {})


def benchmark(
    models: dict[str, ModelScores], comparisons: dict[str, Comparison], **changed: Any
) -> BenchmarkScores:
    """24 problems with two answers each."""
    fields: dict[str, Any] = {
        **{name: getattr(EDITION, name) for name in EDITION.__slots__},
        "num_problems": 24,
        "num_samples": 2,
        "group_sizes": {},
    }
    return BenchmarkScores(**fields | {"models": models, "comparisons": comparisons} | changed)


def scores(*benchmarks: BenchmarkScores, **changed: Any) -> Scores:
    """A whole scores.json."""
    fields: dict[str, Any] = {
        "inputs": {"verdicts": {"base/humaneval": "verdicts"}},
        "sandbox": "namespaces",
        "resample": "problems",
        "intervals": INTERVALS,
        "selection": None,
    }
    return Scores(**fields | changed, benchmarks=benchmarks)


def selection(mode: str = "heldout", tuned: dict[float, float] | None = None) -> Selection:
    """The best of the tuned model's temperatures, which pass these shares, is chosen; the base
    model chose among three."""
    shares = {"base": {0.5: 0.2, 0.7: 0.5, 1.0: 0.4}, "tuned": tuned or {0.7: 0.25, 0.9: 0.5}}
    return Selection(
        mode=mode,
        validation="hash",
        problems={"mbpp": ["mbpp/1", "mbpp/2"]},
        sweeps={
            name: tuple(
                Candidate(
                    setting=Setting(temp, 20, 0.8),
                    score=Interval(value=share, low=share - 0.2, high=share + 0.2),
                    num_problems=2,
                    chosen=share == max(swept.values()),
                )
                for temp, share in swept.items()
            )
            for name, swept in shares.items()
        },
    )
