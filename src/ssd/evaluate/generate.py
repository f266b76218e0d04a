"""One model's answers: `python -m ssd.evaluate.generate RUN_DIR base|t1|tuned`.

A process of its own per model and training step, because vLLM gives GPU memory back only when its
process ends.
"""

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ssd.arms import BASE
from ssd.artifacts import Artifact, plain
from ssd.errors import ArtifactError, DataError
from ssd.evaluate.parts import load_part
from ssd.evaluate.selection import list_arms
from ssd.generation import Decoding, Request, Sample, generate_shards, read_samples
from ssd.generation.engines import LazyEngine, run_engine
from ssd.generation.records import SHARDS
from ssd.generation.requests import build_requests
from ssd.hardware import compute_dtype
from ssd.models.chat import load_tokenizer
from ssd.models.weights import model_length
from ssd.run import ALL, MODELS, Run, Setting, load_run, stage_parser
from ssd.stage import reporting_errors

CHOOSE, REPORT = "choose", "report"
"""What answers are for: to choose each model's setting on, or to report."""


@dataclass(frozen=True, slots=True)
class Job:
    """A model's answers to one part of one benchmark, under one setting."""

    model: str
    benchmark: str
    part: str
    how: Setting

    def generations(self, run: Run) -> Artifact:
        """Where the answers are stored."""
        return run.generations(self.model, self.benchmark, self.how, self.part)

    def verdicts(self, run: Run) -> Artifact:
        """Where their verdicts are stored."""
        return run.verdicts(self.model, self.benchmark, self.how, self.part)

    @property
    def label(self) -> str:
        """How progress bars call it."""
        part = "" if self.part == ALL else f" {self.part}"
        step = "" if self.how.checkpoint_step is None else f" step {self.how.checkpoint_step}"
        return f"{self.benchmark}{part} {self.model}{step} T={self.how.temp:g}"


def list_jobs(run: Run, purpose: str) -> list[Job]:
    """Everything that is answered to choose, or to report; each once.

    Raises:
        ArtifactError: answers to report are asked for before the choice was made.
    """
    if purpose == CHOOSE:
        return [
            Job(model, name, part, how)
            for model in run.models()
            for how in run.candidates(model)
            for name, part in run.chosen_on()
        ]
    jobs = [
        Job(arm.model, name, part, arm.how)
        for arm in list_arms(run, run.chosen_settings())
        for name, part in run.reported_on()
    ]
    return list(dict.fromkeys(jobs))


def early_jobs(run: Run) -> list[Job]:
    """The base model's jobs that are known before anything is trained or chosen."""
    chooses = list_jobs(run, CHOOSE) if run.selects else []
    own = run.candidates(BASE)[0]
    reported = [Job(BASE, name, part, own) for name, part in run.reported_on()]
    return [job for job in chooses if job.model == BASE] + reported


def generate(run: Run, model: str, purpose: str = REPORT, step: int | None = None) -> None:
    """Draw and store a model's answers; resumes, and skips what is finished.

    Raises:
        ArtifactError: there is no finished checkpoint of the model.
        DataError: a prompt leaves no room for an answer.
    """
    require_checkpoint(run, model)
    jobs = [
        job
        for job in list_jobs(run, purpose)
        if job.model == model and job.how.checkpoint_step == step
    ]
    with run_engine(run, model, step, max_model_len=run.config.eval.max_model_len) as engine:
        answer(run, jobs, engine)


def answer(run: Run, jobs: Sequence[Job], engine: LazyEngine) -> None:
    """Draw and store what the jobs, all of one model and step, ask for.

    Raises:
        DataError: a prompt leaves no room for an answer.
    """
    tokenizer = load_tokenizer(run.weights.path)
    # All prompts before the engine starts, so that a prompt that is too long stops the run at once.
    requests = {
        (job.benchmark, job.part): benchmark_requests(run, job.benchmark, tokenizer, job.part)
        for job in jobs
    }
    for job in jobs:
        answers = job.generations(run)
        with answers.writing() as folder:
            if answers.done:
                continue
            started = time.time()
            decoding = job_decoding(run, job)
            speed = generate_shards(
                folder,
                requests[job.benchmark, job.part],
                decoding,
                engine=engine,
                shard_size=run.config.eval.shard_size,
                label=job.label,
            )
            answers.finish(
                started=started,
                counts=answer_counts(read_samples(folder / SHARDS)),
                decoding=plain(decoding),
                computed_in=compute_dtype(run.config.model.dtype, run.config.hardware).value,
                **speed,
            )


def require_checkpoint(run: Run, model: str) -> None:
    """Raise `ArtifactError` where a trained model is not there yet."""
    if model == BASE:
        return
    trained = run.trainings()[model]
    if not trained.checkpoint.done:
        raise ArtifactError(
            f"{trained.checkpoint.folder} holds no finished checkpoint: run python -m ssd.train "
            f"{trained.folder} first, or leave train out of stages to evaluate the base model alone"
        )


def job_decoding(run: Run, job: Job) -> Decoding:
    """The sampling parameters of a job."""
    how = job.how
    return Decoding(how.temp, how.top_k, how.top_p, run.config.eval.max_new_tokens)


def benchmark_requests(run: Run, benchmark: str, tokenizer: Any, part: str = ALL) -> list[Request]:
    """The requests of a benchmark's problems.

    Raises:
        DataError: a prompt leaves no room for a token; benchmarks are never cut to what fits.
    """
    settings = run.config.eval
    limit = settings.max_model_len or model_length(run.model_folder(BASE))
    requests, too_long = build_requests(
        [task.problem for task in load_part(settings, benchmark, part).tasks],
        settings.prompt_format,
        run.config.model,
        tokenizer,
        num_samples=run.num_samples(benchmark, part),
        seed=run.config.seed,
        max_model_len=limit,
    )
    for problem_id, length in too_long.items():
        raise DataError(
            f"the prompt of {problem_id} has {length} tokens and eval.max_model_len is {limit}: "
            f"raise eval.max_model_len above {length}, or use a model that takes longer prompts"
        )
    return requests


def answer_counts(samples: list[Sample]) -> dict[str, Any]:
    """Size of a set of answers: problems, samples, completion tokens, finish reasons."""
    num_tokens = sum(len(sample.completion_token_ids) for sample in samples)
    return {
        "num_problems": len({sample.prompt_id for sample in samples}),
        "num_samples": len(samples),
        "num_tokens": num_tokens,
        "mean_tokens": round(num_tokens / len(samples), 1),
        "finish_reasons": dict(Counter(sample.finish_reason for sample in samples)),
    }


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
    parser.add_argument(
        "--to",
        choices=(CHOOSE, REPORT),
        default=REPORT,
        help="answer the problems that choose each model's setting, or the reported ones",
    )
    parser.add_argument("--step", type=int, help="training step; the final model where left out")
    arguments = parser.parse_args()
    with reporting_errors():
        generate(load_run(arguments.run_dir), arguments.model, arguments.to, arguments.step)


if __name__ == "__main__":
    main()
