"""Which of a benchmark's problems choose, and what they choose: each model's decoding and training
step.

The paper chose temperatures and checkpoints on the problems it reports, and its 4B-Thinking
headline is the largest cell of a 13 x 12 grid. Choosing on other problems costs a quarter of them
and keeps the reported scores unbiased.
"""

import dataclasses
import functools
import hashlib
import itertools
from collections.abc import Mapping
from dataclasses import dataclass

from ssd.arms import BASE, SAME, SWEPT, TUNED, UNIT
from ssd.artifacts.names import VERDICTS
from ssd.artifacts.store import Artifact
from ssd.config.choices import Grading
from ssd.config.settings import BenchmarkFiles, EvalConfig
from ssd.errors import DataError
from ssd.evaluate.scores import score_candidate
from ssd.method.decoding import Setting
from ssd.problems.benchmarks.registry import load_benchmark
from ssd.problems.benchmarks.tasks import Benchmark
from ssd.records.selection import Candidate, Choice, Selection
from ssd.records.verdicts import Verdict, read_verdicts
from ssd.run import Run, evidence, protocol
from ssd.run.protocol import ALL, VALIDATION


def is_held_out(problem_id: str, share: float) -> bool:
    """Whether a problem belongs to the part that chooses.

    Decided by the hash of its id alone: the same in every run, window and subset.
    """
    digest = hashlib.sha256(f"validation\0{problem_id}".encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64 < share


def load_part(settings: EvalConfig, name: str, part: str) -> Benchmark:
    """A benchmark with the tasks of one part; the benchmark is read once per process.

    Raises:
        DataError: the part has no problem, or the benchmark's file cannot be used.
    """
    files = tuple(dataclasses.asdict(settings.files).items())
    benchmark = _load(name, files, settings.grading, settings.limit)
    return take_part(settings, benchmark, part)


def take_part(settings: EvalConfig, benchmark: Benchmark, part: str) -> Benchmark:
    """A whole benchmark reduced to one part.

    Raises:
        DataError: the part has no problem.
    """
    if part == ALL:
        return benchmark
    share = settings.validation_share
    tasks = [
        task
        for task in benchmark.tasks
        if is_held_out(task.problem.problem_id, share) == (part == VALIDATION)
    ]
    if not tasks:
        what = "holds out none" if part == VALIDATION else "leaves none to report"
        raise DataError(
            f"eval.validation_share={share:g} of {benchmark.name}'s {len(benchmark.tasks)} "
            f"problems {what}: raise eval.limit, change the share, "
            "or name another benchmark in eval.validation"
        )
    return dataclasses.replace(benchmark, tasks=tasks)


@functools.lru_cache(maxsize=8)
def _load(
    name: str, files: tuple[tuple[str, str | None], ...], grading: Grading, limit: int | None
) -> Benchmark:
    # LiveCodeBench's hidden tests are gigabytes, and every job asks for its benchmark.
    return load_benchmark(name, BenchmarkFiles(**dict(files)), grading, limit)


@dataclass(frozen=True, slots=True)
class Arm:
    """A model under one setting, as a row of the score table."""

    name: str
    """`base`, `base_swept`, `base_same_decoding`, `t1` or `tuned`."""
    model: str
    how: Setting


@dataclass(frozen=True, slots=True)
class Job:
    """A model's answers to one part of one benchmark, under one setting."""

    model: str
    benchmark: str
    part: str
    how: Setting

    def generations(self, run: Run) -> Artifact:
        """Where the answers are stored."""
        return evidence.generations(run, self.model, self.benchmark, self.how, self.part)

    def verdicts(self, run: Run) -> Artifact:
        """Where their verdicts are stored."""
        return evidence.verdicts(run, self.model, self.benchmark, self.how, self.part)

    @property
    def label(self) -> str:
        """The name that progress bars show."""
        part = "" if self.part == ALL else f" {self.part}"
        step = "" if self.how.checkpoint_step is None else f" step {self.how.checkpoint_step}"
        return f"{self.benchmark}{part} {self.model}{step} T={self.how.temp:g}"


def list_arms(run: Run, chosen: Mapping[str, Setting]) -> list[Arm]:
    """The rows of the score table whose models' settings have been chosen."""
    controls = run.config.eval.controls
    arms = [Arm(BASE, BASE, protocol.candidates(run, BASE)[0])]
    if SWEPT in controls and BASE in chosen:
        arms.append(Arm(SWEPT, BASE, chosen[BASE]))
    if SAME in controls and TUNED in chosen:
        arms.append(Arm(SAME, BASE, dataclasses.replace(chosen[TUNED], checkpoint_step=None)))
    return arms + [Arm(name, name, chosen[name]) for name in (UNIT, TUNED) if name in chosen]


def choice_jobs(run: Run, model: str) -> list[Job]:
    """The jobs whose answers choose a model's setting; none if it has one candidate."""
    candidates = protocol.candidates(run, model)
    return [
        Job(model, name, part, how)
        for how in candidates
        for name, part in protocol.chosen_on(run)
        if len(candidates) > 1
    ]


def list_jobs(run: Run, model: str) -> list[Job]:
    """All known jobs of a model, each once: those that choose its setting, and the reported ones,
    which are known once the choices they depend on are made."""
    reported = [
        Job(model, name, part, arm.how)
        for arm in list_arms(run, chosen_so_far(run))
        for name, part in protocol.reported_on(run)
        if arm.model == model
    ]
    return list(dict.fromkeys([*choice_jobs(run, model), *reported]))


def chosen_so_far(run: Run) -> dict[str, Setting]:
    """The setting of every model whose answers to the problems that choose are graded."""
    chosen = {model: best_setting(run, model) for model in protocol.models(run)}
    return {model: how for model, how in chosen.items() if how is not None}


def best_setting(run: Run, model: str) -> Setting | None:
    """The candidate with the highest pass@1 over the problems that choose, each problem weighing
    the same; ties go to the earlier one. None while verdicts are missing."""
    candidates = protocol.candidates(run, model)
    jobs = choice_jobs(run, model)
    if not all(job.verdicts(run).done for job in jobs):
        return None
    # All candidates answer the same problems equally often, so the most passed is the highest.
    passed = dict.fromkeys(candidates, 0)
    for job in jobs:
        passed[job.how] += job.verdicts(run).manifest()["counts"]["num_passed"]
    return max(candidates, key=passed.__getitem__)


def choose(run: Run) -> Choice:
    """The choice of every model's setting; needs the verdicts on the problems that choose."""
    chosen = chosen_so_far(run)
    settings = run.config.eval
    sweeps: dict[str, tuple[Candidate, ...]] = {}
    problems: dict[str, set[str]] = {}
    for model, best in chosen.items():
        candidates = protocol.candidates(run, model)
        if len(candidates) == 1:
            continue
        verdicts = {how: _pooled(run, model, how) for how in candidates}
        sweeps[model] = tuple(
            score_candidate(how, rows, settings.resample, chosen=how == best)
            for how, rows in verdicts.items()
        )
        for verdict in itertools.chain(*verdicts.values()):
            name, problem_id = verdict.problem_id.split(":", 1)
            problems.setdefault(name, set()).add(problem_id)
    return Choice(
        inputs=evidence.score_inputs(run),
        chosen=chosen,
        selection=Selection(
            mode=settings.selection.value,
            validation=settings.validation,
            problems={name: sorted(ids) for name, ids in problems.items()},
            sweeps=sweeps,
        ),
    )


def _pooled(run: Run, model: str, how: Setting) -> list[Verdict]:
    """Verdicts on every problem that chooses, the benchmark's name before each problem's."""
    return [
        dataclasses.replace(verdict, problem_id=f"{name}:{verdict.problem_id}")
        for name, part in protocol.chosen_on(run)
        for verdict in read_verdicts(
            evidence.verdicts(run, model, name, how, part).intact(VERDICTS) / VERDICTS
        )
    ]
