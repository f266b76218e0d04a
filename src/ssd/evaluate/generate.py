"""One model's answers: `python -m ssd.evaluate.generate RUN_DIR base|t1|tuned`.

A process of its own per model and training step, because vLLM gives GPU memory back only when its
process ends.
"""

import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import replace
from typing import Any

from ssd.arms import BASE
from ssd.artifacts.fingerprints import plain
from ssd.artifacts.names import SHARDS
from ssd.errors import ArtifactError, DataError, HeldError
from ssd.evaluate.selection import Job, best_setting, choice_jobs, list_jobs, load_part
from ssd.generation import Part, Request, generate_queue
from ssd.generation.engines import LazyEngine, run_engine
from ssd.generation.requests import build_requests
from ssd.method.decoding import Decoding
from ssd.models.chat import load_tokenizer
from ssd.models.weights import model_length
from ssd.problems.benchmarks.registry import asked_by
from ssd.records.tables import read_outline, sample_counts, shard_files
from ssd.run import Run, lineage, load_run, protocol, stage_parser
from ssd.run.protocol import MODELS
from ssd.runtime.children import run_child
from ssd.runtime.precision import compute_dtype
from ssd.runtime.reporting import reporting_errors


def generate(run: Run, model: str, step: int | None = None) -> None:
    """Draw and store all answers of one step of a model; resumes, and skips finished answers.

    Raises:
        ArtifactError: there is no finished checkpoint of the model.
        DataError: a prompt leaves no room for an answer.
    """
    require_checkpoint(run, model)
    with run_engine(run, model, step, max_model_len=run.config.eval.max_model_len) as engine:
        answer_all(run, model, engine, step)


def answer_all(run: Run, model: str, engine: LazyEngine, step: int | None = None) -> None:
    """Answer the problems that choose the model's setting and, once these are graded, the reported
    ones. One engine serves both, because a start on a GPU takes one to two minutes. If several
    steps are candidates, the process of the last one grades.

    Raises:
        DataError: a prompt leaves no room for an answer.
        StageError: the answers could not be graded.
    """
    tokenizer = load_tokenizer(run.weights.path)
    # All prompts before the engine starts, so that a prompt that is too long stops the run at once.
    chosen_on = protocol.chosen_on(run) if protocol.selects(run) else []
    parts = [*chosen_on, *protocol.reported_on(run)]
    requests = {where: benchmark_requests(run, *where, tokenizer) for where in parts}
    answer(run, of_step(step, choice_jobs(run, model)), requests, engine)
    if awaits_grading(run, model):
        # In a process of its own, so that a program that harms its sandbox cannot reach the engine.
        command = [sys.executable, "-m", "ssd.evaluate.grade", str(run.folder), model]
        run_child(command, f"grading answers of the {model} model")
    answer(run, of_step(step, list_jobs(run, model)), requests, engine)


def is_answered(run: Run, jobs: Sequence[Job]) -> bool:
    """Whether all answers of the jobs are stored."""
    return all(job.generations(run).done for job in jobs)


def awaits_grading(run: Run, model: str) -> bool:
    """Whether answers have to be graded before the model's remaining jobs are known."""
    return is_answered(run, choice_jobs(run, model)) and best_setting(run, model) is None


def is_whole(run: Run, model: str, step: int | None = None) -> bool:
    """Whether a step of a model has nothing left to answer or to get graded."""
    return not awaits_grading(run, model) and is_answered(run, of_step(step, list_jobs(run, model)))


def of_step(step: int | None, jobs: Sequence[Job]) -> list[Job]:
    """The jobs of one step of a model's training."""
    return [job for job in jobs if job.how.checkpoint_step == step]


def answer(
    run: Run,
    jobs: Sequence[Job],
    requests: Mapping[tuple[str, str], list[Request]],
    engine: LazyEngine,
) -> None:
    """Draw and store the answers of some jobs, all of one model and step, as one queue: the engine
    is not idle while the longest answer of a job ends. A job that another process is writing waits
    until the others are answered.

    Args:
        requests: by benchmark and part, for every part that a job names.
    """
    waiting = list(jobs)
    while waiting:
        with ExitStack() as stack:
            locks = _hold(run, waiting, stack)
            waiting = [job for job in waiting if job not in locks]
            _answer_held(run, locks, requests, engine)


def _hold(run: Run, jobs: Sequence[Job], stack: ExitStack) -> dict[Job, ExitStack]:
    """Take the locks of all jobs that no other process holds, or, without any, wait for the first.

    Waiting with nothing held: two processes that wait for each other's jobs would do so for ever.
    """
    locks: dict[Job, ExitStack] = {}
    for job in jobs:
        lock = stack.enter_context(ExitStack())
        with suppress(HeldError):
            lock.enter_context(job.generations(run).writing(wait=False))
            locks[job] = lock
    if not locks:
        locks[jobs[0]] = stack.enter_context(ExitStack())
        locks[jobs[0]].enter_context(jobs[0].generations(run).writing())
    return locks


def _answer_held(
    run: Run,
    locks: Mapping[Job, ExitStack],
    requests: Mapping[tuple[str, str], list[Request]],
    engine: LazyEngine,
) -> None:
    """Answer the jobs that are not done, and release the lock of each as it is."""
    queue = [job for job in locks if not job.generations(run).done]
    for job in locks.keys() - queue:
        locks[job].close()
    if not queue:
        return
    started = time.time()
    drawing = generate_queue(
        [Part(job.generations(run).folder, _asked(job, requests)) for job in queue],
        engine=engine,
        shard_size=run.config.eval.shard_size,
        label=queue[0].label + (f" and {len(queue) - 1} more" if len(queue) > 1 else ""),
    )
    for number, speed in drawing:
        _finish(run, queue[number], started, speed)
        locks[queue[number]].close()
        started = time.time()


def _asked(job: Job, requests: Mapping[tuple[str, str], list[Request]]) -> list[Request]:
    decoding = job.how.decoding
    return [replace(request, decoding=decoding) for request in requests[job.benchmark, job.part]]


def _finish(run: Run, job: Job, started: float, speed: dict[str, Any]) -> None:
    """Write the manifest of answers, whose time is that since `started`, when the job before them
    in the queue ended."""
    answers = job.generations(run)
    drawn = read_outline(shard_files(answers.folder / SHARDS))
    num_problems = len(drawn["prompt_id"].unique())
    answers.finish(
        started=started,
        counts={"num_problems": num_problems, **sample_counts(drawn)},
        decoding={
            **plain(job.how.decoding),
            "max_new_tokens": run.config.eval.max_new_tokens,
        },
        computed_in=compute_dtype(run.config.model.dtype, run.config.hardware).value,
        **speed,
    )


def require_checkpoint(run: Run, model: str) -> None:
    """Raise `ArtifactError` where a trained model is not there yet."""
    if model == BASE:
        return
    trained = lineage.trainings(run)[model]
    checkpoint = lineage.checkpoint(trained)
    if not checkpoint.done:
        raise ArtifactError(
            f"{checkpoint.folder} holds no finished checkpoint: run ssd train "
            f"{trained.folder} first, or leave train out of stages to evaluate the base model alone"
        )


def benchmark_requests(run: Run, benchmark: str, part: str, tokenizer: Any) -> list[Request]:
    """The requests of a benchmark's problems.

    Raises:
        DataError: a prompt leaves no room for a token; benchmarks are never cut to what fits.
    """
    settings = run.config.eval
    limit = settings.max_model_len or model_length(lineage.model_folder(run, BASE))
    requests, too_long = build_requests(
        [task.problem for task in load_part(settings, benchmark, part).tasks],
        asked_by(settings, benchmark)[1],
        run.config.eval_model,
        tokenizer,
        num_samples=protocol.num_samples(run, benchmark, part),
        seed=run.config.seed,
        max_new_tokens=settings.max_new_tokens,
        max_model_len=limit,
        decoding=Decoding.of(settings.temp, settings.truncation),  # each job sets its own
    )
    for problem_id, length in too_long.items():
        raise DataError(
            f"the prompt of {problem_id} has {length} tokens and eval.max_model_len is {limit}: "
            f"raise eval.max_model_len above {length}, or use a model that takes longer prompts"
        )
    return requests


def main() -> None:
    """Command line of this module."""
    parser = stage_parser(
        "ssd.evaluate.generate", "Let one model of a run answer the run's benchmarks."
    )
    parser.add_argument(
        "model",
        choices=MODELS,
        help="the frozen base model, the control trained on samples of temperature 1, "
        "or the tuned model",
    )
    parser.add_argument("--step", type=int, help="training step; the final model where left out")
    arguments = parser.parse_args()
    with reporting_errors():
        generate(load_run(arguments.run_dir), arguments.model, arguments.step)


if __name__ == "__main__":
    main()
