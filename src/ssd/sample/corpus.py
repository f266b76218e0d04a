"""The corpus: what the frozen model answered, with the token ids that training will use."""

import shutil
import time
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ssd.artifacts.fingerprints import plain
from ssd.artifacts.names import BLOCKS, CORPUS, SHARDS
from ssd.config.choices import LongPrompts
from ssd.errors import ConfigError, DataError
from ssd.generation import Request, generate_shards
from ssd.generation.engines import LazyEngine
from ssd.generation.requests import build_requests
from ssd.method.decoding import Decoding
from ssd.models.chat import encode_chat, load_tokenizer, stop_token_ids, stripped
from ssd.models.reasoning import answer_text, dropped_tokens
from ssd.models.templates import end_token
from ssd.models.vocabulary import unnamed_ids
from ssd.models.weights import model_length, vocabulary_size
from ssd.problems.problem import Problem
from ssd.problems.prompts import load_prompts
from ssd.records.stored import in_groups, with_train_ids, writing_samples
from ssd.records.tables import (
    PART_BYTES,
    Table,
    common_schema,
    iterate_samples,
    joined,
    ordered_tables,
    outline,
    read_texts,
    sample_counts,
    shard_files,
)
from ssd.run import Run, lineage
from ssd.run.tracking import Tracker
from ssd.runtime.precision import compute_dtype
from ssd.sample.filters import apply_filters, measure
from ssd.sample.particles import draw_by_power, write_chosen


def sample(run: Run, engine: LazyEngine) -> None:
    """Draw with the engine of the model that the round samples from, filter and store the run's
    corpus; returns at once where it is finished.

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
        decoding = Decoding.of(config.sampler.temp, config.truncation)
        requests, skipped = corpus_requests(run, problems, tokenizer, decoding)
        check_logprobs(config.sampler.logprobs, vocabulary_size(lineage.model_folder(run, "base")))
        if config.sampler.power.is_on:
            speed, choice = _draw_by_power(run, folder, requests, engine, tokenizer)
        else:
            choice = {}
            speed = generate_shards(
                folder,
                requests,
                engine=engine,
                shard_size=config.sampler.shard_size,
                label="sampling",
                logprobs=config.sampler.logprobs,
            )
        kept, dropped = apply_filters(measure(read_texts(folder / SHARDS)), config.sampler.filters)
        if not kept.any():
            raise DataError(
                f"no sample is left after sampler.filters ({dropped} of {len(kept)} dropped): "
                "loosen the filters, or raise sampler.max_new_tokens"
            )
        as_chat = _as_chat(run, problems, tokenizer) if config.prompt_format.train_as_chat else None
        sizes = write_corpus(folder, kept, as_chat)
        counts: dict[str, Any] = {
            "num_prompts": len(problems),
            **prompt_counts,
            "skipped_long_prompts": skipped,
        }
        counts |= {"num_drawn": len(kept), "dropped": dropped, **sizes, **choice}
        _track(run, counts, speed["tokens_per_second"], folder / CORPUS)
        corpus.finish(
            [folder / BLOCKS],
            started=started,
            counts=counts,
            decoding={**plain(decoding), "max_new_tokens": config.sampler.max_new_tokens},
            computed_in=compute_dtype(config.model.dtype, config.hardware).value,
            **speed,
        )
        shutil.rmtree(folder / BLOCKS, ignore_errors=True)


def corpus_requests(
    run: Run, problems: list[Problem], tokenizer: Any, decoding: Decoding
) -> tuple[list[Request], int]:
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
        num_samples=1 if config.sampler.power.is_on else config.sampler.num_samples,
        seed=config.seed,
        max_new_tokens=config.sampler.max_new_tokens,
        max_model_len=limit,
        decoding=decoding,
        # Every round draws anew: the same seeds would give the same answers where little changed.
        first_index=(config.rounds.number - 1) * config.sampler.num_samples,
    )
    for problem_id, length in too_long.items():
        if config.data.long_prompts is LongPrompts.error or not requests:
            raise DataError(
                f"prompt {problem_id} has {length} tokens, sampler.max_model_len is {limit}: "
                "raise it, or set data.long_prompts=skip (where shorter prompts are left)"
            )
    return requests, len(too_long)


def _draw_by_power(
    run: Run, folder: Path, requests: list[Request], engine: LazyEngine, tokenizer: Any
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Write shards of samples that are chosen from candidates; facts and counts of a manifest."""
    config, base = run.config, lineage.model_folder(run, "base")
    sampler = config.sampler
    prompts, facts = draw_by_power(
        folder,
        requests,
        engine=engine,
        sampler=sampler,
        unnamed=unnamed_ids(base),
        vocabulary=vocabulary_size(base),
    )
    dropped = dropped_tokens(tokenizer, config.model.reasoning)
    summary = write_chosen(
        folder,
        prompts,
        num_samples=sampler.num_samples,
        shard_size=sampler.shard_size,
        text=lambda ids: answer_text(ids, tokenizer, dropped),
    )
    return facts, {"power": summary}


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


def write_corpus(
    folder: Path,
    keep: NDArray[np.bool_],
    as_chat: Callable[[Table], Table] | None = None,
    part_bytes: int = PART_BYTES,
) -> dict[str, Any]:
    """Write the wanted samples of a folder's shards as its corpus, by prompt id and sample index.

    Args:
        keep: (N,) whether a sample, as the shards hold it, is wanted.
        as_chat: adds what training uses instead, to samples at a time.
        part_bytes: of samples that are sorted at once.

    Returns:
        Size and shape of the corpus: that of its samples, and their share with a code fence.
    """
    schema = common_schema(shard_files(folder / SHARDS))
    if as_chat is not None:
        schema = with_train_ids(schema.empty_table(), [], []).schema
    outlines, num_fenced = [], 0
    with writing_samples(folder / CORPUS, schema) as corpus:
        for table in ordered_tables(folder / SHARDS, keep, folder, part_bytes):
            for group in in_groups(table):
                corpus.write(group if as_chat is None else as_chat(group))
                outlines.append(outline(group))
                num_fenced += sum("```" in text for text in group["text"].to_pylist())
    counts = sample_counts(joined(outlines))
    return {**counts, "fence_share": round(num_fenced / counts["num_samples"], 4)}


def _as_chat(run: Run, problems: list[Problem], tokenizer: Any) -> Callable[[Table], Table]:
    """Adds to samples what training uses instead of them: the prompt as chat, the answer without
    white space at its ends, and the chat's end of an answer where the model ended its own."""
    config = run.config
    stops = stop_token_ids(run.weights.path, tokenizer)
    end = end_token(config.model, tokenizer, stops)
    by_id = {problem.problem_id: problem for problem in problems}

    def prompt_ids(name: str) -> list[int]:
        return encode_chat(by_id[name], config.prompt_format, config.model, tokenizer)

    def answer_ids(completion: list[int]) -> list[int]:
        ended = completion[-1] in stops
        answer = completion[:-1] if ended else completion
        # An answer of white space alone stays as it is: training needs a token.
        kept = stripped(answer, tokenizer) or answer
        return kept + ([end] if ended and end is not None else [])

    def as_chat(table: Table) -> Table:
        prompts = [prompt_ids(name) for name in table["prompt_id"].to_pylist()]
        answers = [answer_ids(ids) for ids in table["completion_token_ids"].to_pylist()]
        return with_train_ids(table, prompts, answers)

    return as_chat


def _track(run: Run, counts: dict[str, Any], rate: float | None, corpus: Path) -> None:
    values = counts | {f"power/{name}": value for name, value in counts.get("power", {}).items()}
    numbers = {
        f"sample/{name}": value for name, value in values.items() if isinstance(value, (int, float))
    }
    with Tracker(
        run, "sample", lineage.corpus(run).fingerprint, lineage.corpus(run).folder
    ) as tracker:
        tracker.log(numbers | ({"sample/tokens_per_second": rate} if rate else {}))
        rows = [
            (sample.prompt_id, sample.text, len(sample.completion_token_ids), sample.finish_reason)
            for sample in islice(iterate_samples([corpus]), run.config.logger.num_sample_rows)
        ]
        tracker.table("samples", ("prompt_id", "text", "tokens", "finish_reason"), rows)
