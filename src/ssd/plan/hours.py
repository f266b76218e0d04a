"""The time of a whole run: corpora, trainings, and answers that choose and that are reported.

Grading runs on the CPU, the analysis reads a few samples: neither is counted.
"""

import dataclasses
from dataclasses import dataclass
from pathlib import Path

from ssd.arms import BASE, SWEPT, TUNED, UNIT
from ssd.config.choices import STAGES, ModelKind
from ssd.config.settings import EvalConfig, RunConfig, SamplerConfig
from ssd.evaluate.selection import list_arms
from ssd.plan.architecture import Architecture
from ssd.plan.engine import engine_speed
from ssd.plan.work import Work, estimate
from ssd.plan.workload import Workload
from ssd.problems.benchmarks.registry import find_entry
from ssd.report.render.formats import duration
from ssd.run import Run, lineage, protocol
from ssd.run.folder import NOWHERE

SHORT_ANSWER = 1000
"""Most tokens that an instruct model's answer to HumanEval, MBPP and their like, a short function,
is assumed to take."""


@dataclass(frozen=True, slots=True)
class Part:
    """One part of a run."""

    name: str
    work: str
    """In words."""
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


@dataclass(frozen=True, slots=True)
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


def time_text(of: Part | Hours) -> str:
    """`3 min 05 s`, `at most 3 min 05 s` where that is an upper bound, or `unknown`."""
    if of.seconds is None:
        return "unknown"
    return f"{'at most ' * of.is_upper_bound}{duration(of.seconds)}"


def planned_run(config: RunConfig, folder: Path) -> Run:
    """The run that a plan is for; with every stage if only the plan stage is named. Its weights do
    not matter, because a plan fetches none."""
    stages = [name for name in config.stages if name != "plan"] or list(STAGES[1:])
    config = protocol.without_training(dataclasses.replace(config, stages=stages))
    return Run(folder, config, NOWHERE)


def num_trainings(run: Run) -> int:
    """Number of models that are trained: the tuned one, and the control `t1` if it is evaluated, in
    every round."""
    return run.config.rounds.count * num_models(run)


def num_models(run: Run) -> int:
    """The same of one round."""
    return len(lineage.trainings(run)) if "evaluate" in run.config.stages else 1


def run_hours(
    model: Architecture, run: Run, workload: Workload, work: Work, capacity: float
) -> Hours:
    """What each stage of `run` takes.

    Args:
        capacity: bytes of one GPU.
    """
    config, stages = run.config, run.config.stages
    models = ["", f" of the control {UNIT}"][: num_models(run)]
    rounds = config.rounds.count
    times = f"{rounds} rounds of " if rounds > 1 else ""
    speed, source = engine_speed(model, config, capacity, workload.context_tokens / 2)
    samples, bound = workload.num_samples, workload.is_upper_bound
    drawn, num_tokens = "? samples (plan.num_samples)", None
    if samples is not None:
        drawn, num_tokens = f"{times}{samples:,} samples", rounds * samples * workload.mean_tokens
    parts = [
        Part(f"sampling{name}", drawn, num_tokens, speed, bound)
        for name in models
        if "sample" in stages and (config.train.corpus is None or name)
    ]
    if config.sampler.power.is_on and "sample" in stages:
        parts[0] = _of_candidates(config.sampler, parts[0])
    if "train" in stages:
        words, num_tokens = f"{times}{work.num_steps:,} steps", rounds * work.num_tokens
        for name, training in zip(models, lineage.trainings(run).values(), strict=False):
            # The control has the plain objective.
            each = estimate(model, training.config, workload).tokens_per_second
            rate = each * config.hardware.num_processes
            parts.append(Part(f"training{name}", words, num_tokens, rate, bound))
    alone = TUNED not in config.eval.arms
    if "evaluate" in stages and ("train" in stages or alone):
        # As long as a sample where nothing else is said.
        length = float(config.plan.tokens_per_answer or workload.mean_tokens)
        length = min(length, float(config.eval.max_new_tokens))
        bound = bound and config.plan.tokens_per_answer is None
        speed, source = engine_speed(model, config, capacity, length / 2)
        parts += [
            Part(f"answers that {purpose}", words, num_tokens, speed, bound)
            for purpose, words, num_tokens in _answers(run, length)
        ]
    return Hours(tuple(parts), source)


def _of_candidates(sampler: SamplerConfig, samples: Part) -> Part:
    """Drawing all candidates, in the place of the samples that are chosen from them."""
    times = sampler.power.candidates / sampler.num_samples
    words = f"{samples.work} x {times:g} candidates each"
    num_tokens = None if samples.num_tokens is None else times * samples.num_tokens
    return dataclasses.replace(samples, work=words, num_tokens=num_tokens)


def _answers(run: Run, length: float) -> list[tuple[str, str, float | None]]:
    """The purpose of the answers, their number in words, and their tokens. Every candidate setting
    answers the problems that choose, every arm the reported ones; later rounds have no new answers
    of the base model under its own settings."""
    models, rounds = protocol.models(run), run.config.rounds.count
    arms = list_arms(run, {model: protocol.candidates(run, model)[0] for model in models})
    num_arms = sum(1 if arm.name in (BASE, SWEPT) else rounds for arm in arms)
    choices = {model: len(protocol.candidates(run, model)) for model in models}
    num_choices = sum(
        number * (1 if model == BASE else rounds) for model, number in choices.items() if number > 1
    )
    planned = [("are reported", num_arms, "arms", protocol.reported_on(run))]
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
