"""The corpus: what the frozen model answered, with the token ids that training will use."""

import dataclasses
import time
from typing import Any

from ssd.artifacts.fingerprints import plain
from ssd.artifacts.names import CORPUS, SHARDS
from ssd.config.choices import LongPrompts
from ssd.errors import ConfigError, DataError
from ssd.generation import Request, generate_shards
from ssd.generation.engines import LazyEngine
from ssd.generation.requests import build_requests
from ssd.method.decoding import Decoding
from ssd.models.chat import encode_chat, load_tokenizer, stop_token_ids, stripped
from ssd.models.templates import end_token
from ssd.models.weights import model_length, vocabulary_size
from ssd.problems.problem import Problem
from ssd.problems.prompts import load_prompts
from ssd.records.samples import Sample, read_samples, sample_counts, write_samples
from ssd.run import Run, lineage
from ssd.run.tracking import Tracker
from ssd.runtime.precision import compute_dtype
from ssd.sample.filters import apply_filters


def sample(run: Run, engine: LazyEngine) -> None:
    """Draw with the base model's engine, filter and store the run's corpus; returns at once where
    it is finished.

    Raises:
        ConfigError: `sampler.logprobs` asks for more tokens than the model knows.
        DataError: no prompt or no sample is left, or a prompt leaves no room for an answer.
    """
    corpus = lineage.corpus(run)
    with corpus.writing() as folder:
        if corpus.done:
            print(f"up to date: {folder}", flush=True)
            return
        started = time.time()
        config = run.config
        problems, prompt_counts = load_prompts(config.data)
        tokenizer = load_tokenizer(run.weights.path)
        requests, skipped = corpus_requests(run, problems, tokenizer)
        check_logprobs(config.sampler.logprobs, vocabulary_size(lineage.model_folder(run, "base")))
        decoding = Decoding.of(config.sampler.temp, config.truncation)
        speed = generate_shards(
            folder,
            requests,
            decoding,
            engine=engine,
            shard_size=config.sampler.shard_size,
            label="sampling",
            logprobs=config.sampler.logprobs,
        )
        drawn = read_samples(folder / SHARDS)
        kept, dropped = apply_filters(drawn, config.sampler.filters)
        if not kept:
            raise DataError(
                f"no sample is left after sampler.filters ({dropped} of {len(drawn)} dropped): "
                "loosen the filters, or raise sampler.max_new_tokens"
            )
        if config.prompt_format.train_as_chat:
            kept = _as_chat(run, kept, problems, tokenizer)
        write_samples(folder / CORPUS, kept)
        counts: dict[str, Any] = {
            "num_prompts": len(problems),
            **prompt_counts,
            "skipped_long_prompts": skipped,
        }
        counts |= {"num_drawn": len(drawn), "dropped": dropped, **corpus_counts(kept)}
        _track(run, counts, speed["tokens_per_second"], kept)
        corpus.finish(
            started=started,
            counts=counts,
            decoding={**plain(decoding), "max_new_tokens": config.sampler.max_new_tokens},
            computed_in=compute_dtype(config.model.dtype, config.hardware).value,
            **speed,
        )


def corpus_requests(run: Run, problems: list[Problem], tokenizer: Any) -> tuple[list[Request], int]:
    """The corpus's requests, and how many problems were skipped as too long.

    Raises:
        DataError: a prompt leaves no room for a token and `data.long_prompts` is `error`,
            or every prompt is too long.
    """
    config = run.config
    limit = config.sampler.max_model_len or model_length(lineage.model_folder(run, "base"))
    requests, too_long = build_requests(
        problems,
        config.prompt_format,
        config.model,
        tokenizer,
        num_samples=config.sampler.num_samples,
        seed=config.seed,
        max_new_tokens=config.sampler.max_new_tokens,
        max_model_len=limit,
    )
    for problem_id, length in too_long.items():
        if config.data.long_prompts is LongPrompts.error or not requests:
            raise DataError(
                f"prompt {problem_id} has {length} tokens, sampler.max_model_len is {limit}: "
                "raise it, or set data.long_prompts=skip (where shorter prompts are left)"
            )
    return requests, len(too_long)


def check_logprobs(logprobs: int | None, vocabulary: int) -> None:
    """Refuse more most likely tokens than there are, before an engine starts.

    Raises:
        ConfigError: names the setting and the most it takes.
    """
    if logprobs is not None and logprobs > vocabulary:
        raise ConfigError(
            f"sampler.logprobs={logprobs} exceeds the model's vocabulary: "
            f"set it to {vocabulary} at most, or to null for none"
        )


def corpus_counts(samples: list[Sample]) -> dict[str, Any]:
    """Size and shape of a corpus: that of its samples, and their share with a code fence."""
    fenced = sum("```" in sample.text for sample in samples)
    return {**sample_counts(samples), "fence_share": round(fenced / len(samples), 4)}


def _as_chat(
    run: Run, samples: list[Sample], problems: list[Problem], tokenizer: Any
) -> list[Sample]:
    """The samples with what training uses instead of them: the prompt as chat, the answer without
    white space at its ends, and the chat's end of an answer where the model ended its own."""
    config = run.config
    stops = stop_token_ids(run.weights.path, tokenizer)
    end = end_token(config.model, tokenizer, stops)
    by_id = {problem.problem_id: problem for problem in problems}
    changed = []
    for sample in samples:
        problem = by_id[sample.prompt_id]
        ended = sample.completion_token_ids[-1] in stops
        answer = sample.completion_token_ids[:-1] if ended else sample.completion_token_ids
        changed.append(
            dataclasses.replace(
                sample,
                train_prompt_token_ids=encode_chat(
                    problem, config.prompt_format, config.model, tokenizer
                ),
                # An answer of white space alone stays as it is: training needs a token.
                train_completion_token_ids=(stripped(answer, tokenizer) or answer)
                + ([end] if ended and end is not None else []),
            )
        )
    return changed


def _track(run: Run, counts: dict[str, Any], rate: float | None, samples: list[Sample]) -> None:
    numbers = {
        f"sample/{name}": value for name, value in counts.items() if isinstance(value, (int, float))
    }
    with Tracker(
        run, "sample", lineage.corpus(run).fingerprint, lineage.corpus(run).folder
    ) as tracker:
        tracker.log(numbers | ({"sample/tokens_per_second": rate} if rate else {}))
        rows = [
            (sample.prompt_id, sample.text, len(sample.completion_token_ids), sample.finish_reason)
            for sample in samples[: run.config.logger.num_sample_rows]
        ]
        tracker.table("samples", ("prompt_id", "text", "tokens", "finish_reason"), rows)
