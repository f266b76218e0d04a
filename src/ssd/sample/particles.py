"""Candidates that are drawn a block of tokens at a time, weighed, and resampled where their weights
differ too much: sequential Monte Carlo towards the power distribution over whole answers.

M candidates of a prompt, T tokens of a block, K most likely tokens.

A block is an ordinary queue of requests, whose prompts are the prompt and what a candidate has so
far. Its answers are shards, so a killed process goes on inside its block; all that lies between
blocks follows from what is on disk and from the seeds of the requests.
"""

import shutil
from array import array
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ssd.artifacts.names import BLOCKS, CHOICES, SHARDS
from ssd.config.settings import SamplerConfig
from ssd.generation import Request, generate_shards
from ssd.generation.engines import LazyEngine
from ssd.generation.requests import request_seed
from ssd.method.sequence_power import Floats, effective_size, log_normalisers, resampled, shares
from ssd.records.resampling import Choice, summarise, write_choices
from ssd.records.samples import Sample, write_samples
from ssd.records.tables import iterate_samples, shard_files


@dataclass(slots=True)
class Candidate:
    """An answer that is being drawn."""

    # Four bytes an id, where a list has 36: there may be millions.
    token_ids: "array[int]"
    log_weight: float = 0.0
    """Since the last resampling."""
    error: float = 0.0
    """The most that `log_weight` can be off."""
    logprob: float = 0.0
    """Of the answer so far, at temperature 1."""
    end: str | None = None
    """Why it ended; None while it goes on."""


class Prompt:
    """A prompt's candidates."""

    def __init__(self, request: Request, num_candidates: int) -> None:
        self.request = request
        self.candidates = [Candidate(array("i")) for _ in range(num_candidates)]
        self.effective_sizes: list[float] = []
        self.num_resampled = 0
        self.error = 0.0

    @property
    def is_whole(self) -> bool:
        """Whether all candidates have ended."""
        return all(candidate.end is not None for candidate in self.candidates)

    @property
    def shares(self) -> Floats:
        """(M,) the weights of its candidates, normalised."""
        return shares([candidate.log_weight for candidate in self.candidates])

    def requests(self, block: int, num_tokens: int) -> Iterator[Request]:
        """What a block draws."""
        cap = self.request.max_new_tokens
        for index, candidate in enumerate(self.candidates):
            if candidate.end is None:
                yield replace(
                    self.request,
                    sample_index=index,
                    prompt_token_ids=array("i", self.request.prompt_token_ids)
                    + candidate.token_ids,
                    seed=request_seed(self.request.seed, f"block {block}", index),
                    max_new_tokens=min(num_tokens, cap - len(candidate.token_ids)),
                )

    def weigh(self, block: int) -> None:
        """Note how much the weights differ, and resample the candidates if they are worth less than
        half of their number; not at the end, where some are chosen by their weights."""
        own = self.shares
        self.effective_sizes.append(effective_size(own))
        self.error = max(self.error, *(candidate.error for candidate in self.candidates))
        number = len(self.candidates)
        if self.is_whole or self.effective_sizes[-1] >= number / 2:
            return
        self.num_resampled += 1
        uniform = self._uniform(f"resampling {block}")
        chosen = [self.candidates[index] for index in resampled(own, number, uniform)]
        self.candidates = [  # copies: one may be there twice
            replace(candidate, token_ids=candidate.token_ids[:], log_weight=0.0, error=0.0)
            for candidate in chosen
        ]

    def choose(self, num_samples: int) -> Choice:
        """The candidates that the corpus gets, by their weights."""
        own = self.shares
        chosen = resampled(own, num_samples, self._uniform("choice"))
        return Choice(
            prompt_id=self.request.prompt_id,
            num_candidates=len(self.candidates),
            effective_sizes=self.effective_sizes,
            largest_share=float(own.max()),
            num_resampled=self.num_resampled,
            num_cut=sum(candidate.end == "length" for candidate in self.candidates),
            error=self.error,
            chosen=chosen.tolist(),
            chosen_logprob=float(np.mean([self.candidates[index].logprob for index in chosen])),
        )

    def _uniform(self, purpose: str) -> float:
        return request_seed(self.request.seed, purpose, 0) / 2**63


class Weigher:
    """Adds what a block drew to its candidates."""

    def __init__(self, sampler: SamplerConfig, unnamed: Sequence[int]) -> None:
        assert sampler.power.alpha is not None
        self.alpha, self.temp, self.unnamed = sampler.power.alpha, sampler.temp, unnamed

    def add(self, candidate: Candidate, drawn: Sample, cap: int) -> None:
        """Extend a candidate by the tokens of a block.

        Args:
            cap: the most tokens that an answer gets.
        """
        assert drawn.logprobs is not None and drawn.topk_token_ids is not None
        logprob_T = np.array(drawn.logprobs)
        top_T_K = np.array(drawn.topk_logprobs)
        is_named = ~np.isin(drawn.topk_token_ids, self.unnamed) if self.unnamed else None
        # q is p^(1/T) over its sum: 1/T is alpha but for rounding, and then the log-weight is that
        # sum's logarithm.
        sums_T, errors_T = log_normalisers(top_T_K, 1 / self.temp, is_named)
        candidate.token_ids.extend(drawn.completion_token_ids)
        candidate.log_weight += float(((self.alpha - 1 / self.temp) * logprob_T + sums_T).sum())
        candidate.error += float(errors_T.sum())
        candidate.logprob += float(logprob_T.sum())
        if drawn.finish_reason == "stop" or len(candidate.token_ids) == cap:
            candidate.end = drawn.finish_reason


def draw_by_power(
    folder: Path,
    requests: Sequence[Request],
    *,
    engine: LazyEngine,
    sampler: SamplerConfig,
    unnamed: Sequence[int],
    vocabulary: int,
) -> tuple[list[Prompt], dict[str, Any]]:
    """Draw the candidates of all requests, one request for each prompt, below a corpus folder.

    Returns:
        The prompts with their candidates, all ended, and the facts of a manifest, as
        `generate_shards` has them.
    """
    power = sampler.power
    # As many tokens to a shard as one of whole answers has.
    shard_size = sampler.shard_size * max(1, sampler.max_new_tokens // power.block)
    weigher = Weigher(sampler, unnamed)
    prompts = {request.prompt_id: Prompt(request, power.candidates) for request in requests}
    facts: list[tuple[int, dict[str, Any]]] = []
    block = 0
    while alive := [prompt for prompt in prompts.values() if not prompt.is_whole]:
        place = folder / BLOCKS / f"{block:05d}"
        drawn = generate_shards(
            place,
            [part for prompt in alive for part in prompt.requests(block, power.block)],
            engine=engine,
            shard_size=shard_size,
            label=f"sampling, block {block + 1}",
            logprobs=min(power.top_tokens, vocabulary),
        )
        num_tokens = 0
        for sample in iterate_samples(shard_files(place / SHARDS)):
            prompt = prompts[sample.prompt_id]
            candidate = prompt.candidates[sample.sample_index]
            weigher.add(candidate, sample, prompt.request.max_new_tokens)
            num_tokens += len(sample.completion_token_ids)
        for prompt in alive:
            prompt.weigh(block)
        facts.append((num_tokens, drawn))
        block += 1
    return list(prompts.values()), _together(facts)


def write_chosen(
    folder: Path,
    prompts: Sequence[Prompt],
    *,
    num_samples: int,
    shard_size: int,
    text: Callable[[list[int]], str],
) -> dict[str, Any]:
    """Choose each prompt's samples and write them as a corpus folder's shards.

    Args:
        text: of token ids.

    Returns:
        What the manifest says of the choice.
    """
    shutil.rmtree(folder / SHARDS, ignore_errors=True)  # of a killed process
    choices = [prompt.choose(num_samples) for prompt in prompts]
    write_choices(folder / CHOICES, choices)
    samples = [
        _sample(prompt, index, number, text)
        for prompt, choice in zip(prompts, choices, strict=True)
        for number, index in enumerate(choice.chosen)
    ]
    for number, start in enumerate(range(0, len(samples), shard_size)):
        part = samples[start : start + shard_size]
        write_samples(folder / SHARDS / f"{number:05d}.parquet", part)
    return summarise(choices)


def _sample(prompt: Prompt, index: int, number: int, text: Callable[[list[int]], str]) -> Sample:
    candidate, request = prompt.candidates[index], prompt.request
    assert candidate.end is not None
    return Sample(
        prompt_id=request.prompt_id,
        sample_index=request.sample_index + number,
        seed=request.seed,
        prompt_token_ids=list(request.prompt_token_ids),
        completion_token_ids=list(candidate.token_ids),
        text=text(list(candidate.token_ids)),
        finish_reason=candidate.end,
    )


def _together(facts: Sequence[tuple[int, dict[str, Any]]]) -> dict[str, Any]:
    """The facts of several blocks, each with its tokens, as of one."""
    timed = [(number, fact["tokens_per_second"]) for number, fact in facts]
    seconds = sum(number / rate for number, rate in timed if rate)
    tokens = sum(number for number, rate in timed if rate)
    merged: dict[str, Any] = {}
    for _, fact in facts:
        merged |= fact
    return merged | {
        "tokens_per_second": round(tokens / seconds, 1) if seconds else None,
        "engine_start_seconds": sum(fact["engine_start_seconds"] for _, fact in facts),
    }
