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
from ssd.generation import Decoding, Request, Sample, generate_shards, read_samples, request_seed
from ssd.generation.engines import load_engine
from ssd.generation.records import SHARDS, Engine, decoding
from ssd.models.chat import encode_prompt, load_tokenizer
from ssd.models.weights import model_length
from ssd.problems import Problem
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
            f"{run.checkpoint.folder} holds no finished checkpoint: run python -m ssd.train {run.folder}"
        )
    settings = run.config.eval
    tokenizer = load_tokenizer(run.weights.path)
    # All prompts before the engine starts, so that a prompt that is too long stops the run at once.
    requests = {
        benchmark: build_requests(run, [task.problem for task in load_benchmark(benchmark, settings.limit)], tokenizer)
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
            rate = round(speed["num_new_tokens"] / speed["seconds"], 1) if speed["seconds"] else None
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


def build_requests(run: Run, problems: list[Problem], tokenizer: Any) -> list[Request]:
    """One request per problem and sample index.

    Raises:
        DataError: a prompt leaves no room for a token; benchmarks are never cut to what fits.
    """
    config = run.config
    settings = config.eval
    limit = settings.max_model_len or model_length(run.model_folder("base"))
    requests = []
    for problem in problems:
        ids = encode_prompt(problem, settings.prompt_format, config.model, tokenizer)
        if limit is not None and len(ids) > limit - 1:
            raise DataError(
                f"the prompt of {problem.problem_id} has {len(ids)} tokens and eval.max_model_len is {limit}: "
                f"raise eval.max_model_len above {len(ids)}, or use a model that takes longer prompts"
            )
        requests += [
            Request(problem.problem_id, index, ids, request_seed(config.seed, problem.problem_id, index))
            for index in range(settings.num_samples)
        ]
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
    parser = stage_parser("ssd.evaluate.generate", "Let one model of a run answer the run's benchmarks.")
    parser.add_argument("role", choices=ROLES, help="the frozen base model, or the tuned one")
    arguments = parser.parse_args()
    with reporting_errors():
        generate(load_run(arguments.run_dir), arguments.role)


if __name__ == "__main__":
    main()
