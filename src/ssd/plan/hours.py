"""The time of a whole run: corpora, trainings, and answers that choose and that are reported.

Grading runs on the CPU, the analysis reads a few samples: neither is counted.
"""

import dataclasses
from dataclasses import dataclass
from pathlib import Path

from ssd.arms import UNIT
from ssd.config.choices import STAGES, ModelKind
from ssd.config.settings import EvalConfig, RunConfig
from ssd.evaluate.selection import list_arms
from ssd.models import Weights
from ssd.plan.architecture import Architecture
from ssd.plan.engine import engine_speed
from ssd.plan.work import Work
from ssd.plan.workload import Workload
from ssd.problems.benchmarks.registry import find_entry
from ssd.run import Run, lineage, protocol

SHORT_ANSWER = 1000
"""Most tokens that an instruct model's answer to HumanEval, MBPP and their like, a short function,
is assumed to take."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One part of a run."""

    name: str
    work: str
    """What is generated, in words; empty for training."""
    num_tokens: float | None
    """Generated, or trained on; None where it is not known."""
    tokens_per_second: float | None
    """Of all devices together."""
    is_upper_bound: bool

    @property
    def seconds(self) -> float | None:
        """None where the number of tokens or the speed is not known."""
        if self.num_tokens is None or self.tokens_per_second is None:
            return None
        return self.num_tokens / self.tokens_per_second


@dataclass(frozen=True, slots=True, kw_only=True)
class Hours:
    """All parts of a run, in order."""

    parts: tuple[Part, ...]
    speed_source: str
    """Where the speed of generation comes from."""

    @property
    def seconds(self) -> float | None:
        """Of all parts together; None where one is not known."""
        seconds = [part.seconds for part in self.parts if part.seconds is not None]
        return sum(seconds) if seconds and len(seconds) == len(self.parts) else None

    @property
    def is_upper_bound(self) -> bool:
        """Whether the sum is only known to be no more than this."""
        return any(part.is_upper_bound for part in self.parts)


def planned_run(config: RunConfig, folder: Path) -> Run:
    """The run that a plan is for; with every stage if only the plan stage is named. Its weights do
    not matter, because a plan fetches none."""
    stages = [name for name in config.stages if name != "plan"] or list(STAGES[1:])
    nowhere = Weights(path="", identity="", tokenizer="", source="not fetched")
    config = dataclasses.replace(config, stages=stages)
    return Run(folder=folder, config=config, weights=nowhere)


def num_trainings(run: Run) -> int:
    """Number of models that are trained: the tuned one, and the control `t1` if it is evaluated."""
    return len(lineage.trainings(run)) if "evaluate" in run.config.stages else 1


def run_hours(
    model: Architecture, run: Run, workload: Workload, work: Work, capacity: float
) -> Hours:
    """What each stage of `run` takes.

    Args:
        capacity: bytes of one GPU.
    """
    config, stages = run.config, run.config.stages
    models = ["", f" of the control {UNIT}"][: num_trainings(run)]
    speed, source = engine_speed(model, config, capacity, workload.context_tokens / 2)
    parts = []
    for name in models if "sample" in stages else []:
        if config.train.corpus is None or name:
            parts.append(_corpus(f"sampling{name}", workload, speed))
    for name in models if "train" in stages else []:
        parts.append(_training(f"training{name}", config, workload, work))
    if {"train", "evaluate"} <= set(stages):
        length, bound = answer_length(config, workload)
        speed, source = engine_speed(model, config, capacity, length / 2)
        parts += [
            Part(
                name=f"answers that {purpose}",
                work=words,
                num_tokens=num_tokens,
                tokens_per_second=speed,
                is_upper_bound=bound,
            )
            for purpose, words, num_tokens in _answers(run, length)
        ]
    return Hours(parts=tuple(parts), speed_source=source)


def _corpus(name: str, workload: Workload, speed: float | None) -> Part:
    samples = workload.num_samples
    return Part(
        name=name,
        work="? samples (plan.num_samples)" if samples is None else f"{samples:,} samples",
        num_tokens=None if samples is None else samples * workload.mean_tokens,
        tokens_per_second=speed,
        is_upper_bound=workload.is_upper_bound,
    )


def _training(name: str, config: RunConfig, workload: Workload, work: Work) -> Part:
    speed = work.tokens_per_second
    return Part(
        name=name,
        work=f"{work.num_steps:,} steps",
        num_tokens=work.num_tokens,
        tokens_per_second=None if speed is None else speed * config.hardware.num_processes,
        is_upper_bound=workload.is_upper_bound,
    )


def answer_length(config: RunConfig, workload: Workload) -> tuple[float, bool]:
    """Mean tokens of an answer to a benchmark, and whether they are only an upper bound: as long as
    a sample where nothing else is said."""
    answer_tokens = config.plan.tokens_per_answer
    length = float(answer_tokens or workload.mean_tokens)
    bound = answer_tokens is None and workload.is_upper_bound
    return min(length, float(config.eval.max_new_tokens)), bound


def _answers(run: Run, length: float) -> list[tuple[str, str, float | None]]:
    """The purpose of the answers, their number in words, and their tokens. Every candidate setting
    answers the problems that choose, every arm the reported ones."""
    models = protocol.models(run)
    arms = list_arms(run, {model: protocol.candidates(run, model)[0] for model in models})
    choices = [len(protocol.candidates(run, model)) for model in models]
    num_choices = sum(number for number in choices if number > 1)
    planned = [("are reported", len(arms), "arms", protocol.reported_on(run))]
    if protocol.selects(run):
        planned.insert(0, ("choose", num_choices, "settings", protocol.chosen_on(run)))
    answers = []
    for purpose, times, what, where in planned:
        sizes = [count_problems(run.config.eval, name, part) for name, part in where]
        num_samples = protocol.num_samples(run, *where[0])
        lengths = [_length(run.config, name, length) for name, _ in where]
        known_sizes = [size for size in sizes if size is not None]
        words, tokens = "?", None
        if len(known_sizes) == len(sizes):
            words = f"{sum(known_sizes):,}"
            each = sum(size * long for size, long in zip(known_sizes, lengths, strict=True))
            tokens = times * num_samples * each
        answers.append((purpose, f"{times} {what} x {words} problems x {num_samples}", tokens))
    return answers


def count_problems(settings: EvalConfig, benchmark: str, part: str) -> int | None:
    """Problems in a part of a benchmark, without reading it, because its file may be a download of
    gigabytes; None if only the file says."""
    size = find_entry(benchmark).size
    if size is None:
        return None
    size = min(size, settings.limit or size)
    if part == protocol.ALL:
        return size
    held_out = round(settings.validation_share * size)
    return held_out if part == protocol.VALIDATION else size - held_out


def _length(config: RunConfig, benchmark: str, length: float) -> float:
    short = config.model.kind is ModelKind.instruct and find_entry(benchmark).short_answers
    return min(length, SHORT_ANSWER) if short else length
