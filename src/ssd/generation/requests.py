"""From problems to requests: the prompt's token ids, a seed, and whether an answer has room."""

import hashlib
from array import array
from collections.abc import Sequence
from typing import Any

from ssd.config.settings import ModelConfig, PromptFormatConfig
from ssd.generation.engine import Request
from ssd.method.decoding import Decoding
from ssd.models.chat import encode_prompt
from ssd.problems.problem import Problem


def build_requests(
    problems: Sequence[Problem],
    prompt_format: PromptFormatConfig,
    model: ModelConfig,
    tokenizer: Any,
    *,
    num_samples: int,
    seed: int,
    max_new_tokens: int,
    max_model_len: int | None,
    decoding: Decoding,
    first_index: int = 0,
) -> tuple[list[Request], dict[str, int]]:
    """Requests of the problems whose prompt leaves room for a token, and the problems left out.

    Args:
        first_index: of a problem's samples, whose seeds follow from their indices.

    Returns:
        `num_samples` requests per fitting problem, in order, and the prompt length of every problem
        that does not fit.
    """
    requests: list[Request] = []
    too_long: dict[str, int] = {}
    for problem in problems:
        # Four bytes an id, where a list has 36: there may be millions of prompts.
        ids = array("i", encode_prompt(problem, prompt_format, model, tokenizer))
        if max_model_len is not None and len(ids) >= max_model_len:
            too_long[problem.problem_id] = len(ids)
            continue
        # The engine may have been started for longer prompts and answers than these.
        room = max_new_tokens if max_model_len is None else max_model_len - len(ids)
        requests += [
            Request(
                prompt_id=problem.problem_id,
                sample_index=index,
                prompt_token_ids=ids,
                seed=request_seed(seed, problem.problem_id, index),
                max_new_tokens=min(max_new_tokens, room),
                decoding=decoding,
            )
            for index in range(first_index, first_index + num_samples)
        ]
    return requests, too_long


def request_seed(run_seed: int, prompt_id: str, sample_index: int) -> int:
    """Seed of one request, 63 bits: independent of order, sharding and resumption."""
    digest = hashlib.sha256(f"{run_seed}\0{prompt_id}\0{sample_index}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1
