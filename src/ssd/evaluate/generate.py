"""One model's answers to every benchmark: `python -m ssd.evaluate.generate RUN_DIR base|tuned`.

A process of its own per model, because vLLM gives GPU memory back only when its process ends.
"""

import functools
import time
from collections import Counter
from typing import Any

from ssd.artifacts import plain
from ssd.errors import ArtifactError, DataError
from ssd.evaluate.benchmarks import load_benchmark
from ssd.generation import Decoding, Request, Sample, generate_shards, read_samples
from ssd.generation.engines import load_engine
from ssd.generation.records import SHARDS, Engine, decoding
from ssd.generation.requests import build_requests
from ssd.models.chat import load_tokenizer
from ssd.models.weights import model_length
from ssd.run import ROLES, Run, load_run, stage_parser
from ssd.stage import reporting_errors


def generate(run: Run, role: str) -> None:
    """Draw and store what `role` answers to each benchmark; resumes, and skips what is finished.

    Raises:
        ArtifactError: there is no finished checkpoint of the tuned model.
        DataError: a prompt leaves no room for an answer.
    """
    if role == "tuned" and not run.checkpoint.done:
        raise ArtifactError(
            f"{run.checkpoint.folder} holds no finished checkpoint: "
            f"run python -m ssd.train {run.folder}"
        )
    settings = run.config.eval
    tokenizer = load_tokenizer(run.weights.path)
    # All prompts before the engine starts, so that a prompt that is too long stops the run at once.
    requests = {
        benchmark: benchmark_requests(run, benchmark, tokenizer)
        for benchmark in settings.benchmarks
    }

    @functools.cache
    def engine() -> Engine:
        config = run.config
        return load_engine(
            config.sampler.engine,
            run.model_folder(role),
            config.model,
            config.hardware,
            max_model_len=settings.max_model_len,
            adapter=run.adapter_folder(role),
        )

    for benchmark in settings.benchmarks:
        answers = run.generations(role, benchmark)
        with answers.writing() as folder:
            if answers.done:
                continue
            started = time.time()
            speed = generate_shards(
                folder,
                requests[benchmark],
                role_decoding(run, role),
                load_engine=engine,
                shard_size=settings.shard_size * settings.num_samples,
                label=f"{benchmark} {role}",
            )
            rate = (
                round(speed["num_new_tokens"] / speed["seconds"], 1) if speed["seconds"] else None
            )
            answers.finish(
                started=started,
                counts=answer_counts(read_samples(folder / SHARDS)),
                tokens_per_second=rate,
                decoding=plain(role_decoding(run, role)),
            )


def role_decoding(run: Run, role: str) -> Decoding:
    """How `role` is decoded."""
    settings = run.config.eval
    if role == "tuned":
        return decoding(settings.temp, settings.truncation, settings.max_new_tokens)
    return decoding(settings.base_temp, settings.base_truncation, settings.max_new_tokens)


def benchmark_requests(run: Run, benchmark: str, tokenizer: Any) -> list[Request]:
    """The requests of a benchmark's problems.

    Raises:
        DataError: a prompt leaves no room for a token; benchmarks are never cut to what fits.
    """
    settings = run.config.eval
    limit = settings.max_model_len or model_length(run.model_folder("base"))
    requests, too_long = build_requests(
        [task.problem for task in load_benchmark(benchmark, settings.limit)],
        settings.prompt_format,
        run.config.model,
        tokenizer,
        num_samples=settings.num_samples,
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
    parser.add_argument("role", choices=ROLES, help="the frozen base model, or the tuned one")
    arguments = parser.parse_args()
    with reporting_errors():
        generate(load_run(arguments.run_dir), arguments.role)


if __name__ == "__main__":
    main()
