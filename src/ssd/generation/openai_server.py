"""What a server of the OpenAI protocol must be able to do, asked before anything is drawn.

Imports no torch: the driver asks before the first stage, the engine again when it starts.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import urljoin

from ssd.config.settings import SamplerConfig
from ssd.errors import ConfigError, HardwareError, one_line
from ssd.generation.openai_connection import Connection, Refusal

PROMPT = list(range(10, 42))
"""Ids that every vocabulary has. They make no sense, so no model is sure of what follows."""
DECODING: dict[str, Any] = {
    "n": 1,
    "temperature": 1.0,
    "top_k": 0,
    "top_p": 1.0,
    "min_p": 0.0,
    "presence_penalty": 0.0,
    "frequency_penalty": 0.0,
    "repetition_penalty": 1.0,
    "stop": [],
    "stop_token_ids": [],
    "ignore_eos": False,
    "min_tokens": 0,
    "skip_special_tokens": True,
    "echo": False,
    "stream": False,
    "return_token_ids": True,
}
"""Every parameter of a request that shapes its answer: one that is left out would follow the
model's generation_config.json, which the server may have read."""
SEEDS = (1, 2, 3)
WARM, NUM_TOKENS = 2.0, 4
"""Temperature and length of the answers that show whether seeds count: no two seeds of a model
that is unsure give the same answers, and one seed does though rounding differs with the company."""
ROUNDING = 0.1
"""Nats by which two log-probabilities of one token may differ on one server."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """A model on a server, as the server describes itself."""

    name: str
    root: str | None
    """Hub id or folder that it says it loaded."""
    max_model_len: int | None
    version: str | None
    """Of vLLM; None where the server names none."""


def open_connection(sampler: SamplerConfig, *, is_patient: bool) -> Connection:
    """A connection to the server of these settings, which does or does not wait for one that is
    away."""
    return Connection(
        sampler.url,
        max_concurrency=sampler.max_concurrency,
        retry_seconds=sampler.retry_seconds if is_patient else 0.0,
    )


def find_server(connection: Connection, served_name: str | None) -> Server:
    """The model that the server lists by a name, or its only one.

    Raises:
        ConfigError: it lists none of that name, or several and `served_name` is None.
        HardwareError: it does not answer.
    """
    try:
        cards = {card["id"]: card for card in connection.get(f"{connection.url}/models")["data"]}
    except (Refusal, KeyError) as error:
        raise ConfigError(
            f"sampler.url={connection.url} lists no models ({one_line(error)}): name the address "
            "of an OpenAI server, /v1 included"
        ) from error
    if (served_name is None and len(cards) != 1) or served_name not in (None, *cards):
        raise ConfigError(
            f"sampler.served_name={served_name or 'null'}: the server at {connection.url} has "
            f"{', '.join(cards) or 'no model'}: set sampler.served_name to the base model's name"
        )
    card = cards[served_name or next(iter(cards))]
    try:
        version = str(connection.get(urljoin(f"{connection.url}/", "../version"))["version"])
    except (Refusal, KeyError):  # vLLM's own address
        version = None
    length = card.get("max_model_len")
    return Server(name=card["id"], root=card.get("root"), max_model_len=length, version=version)


def require_length(server: Server, num_tokens: int | None) -> None:
    """Raise `ConfigError` where the server takes less than `num_tokens` of prompt and answer."""
    longest = server.max_model_len
    if longest is not None and num_tokens is not None and longest < num_tokens:
        raise ConfigError(
            f"the server of sampler.url takes {longest} tokens of prompt and answer, and the run "
            f"{num_tokens}: start it with --max-model-len {num_tokens}, or lower "
            "sampler.max_model_len and eval.max_model_len"
        )


def require_abilities(
    connection: Connection, server: Server, logprobs: int | None, **more: Any
) -> list[dict[str, Any]]:
    """Refuse a server that returns no token ids, passes over seeds, or, where `logprobs` are asked
    for, returns others than the model's own. `more` goes with every request.

    Returns:
        Answers of a few tokens each, by chance.

    Raises:
        HardwareError: says what it lacks and what to do.
    """

    def ask(count: int = 1, **changed: Any) -> list[dict[str, Any]]:
        body = {**DECODING, "model": server.name, "prompt": PROMPT, **more, **changed}
        sent = [connection.complete(body) for _ in range(count)]
        return [answer.result() for answer in sent]

    if ask(max_tokens=1)[0].get("token_ids") is None:
        raise HardwareError(
            f"sampler.url={connection.url} returns no token ids, and training needs those that "
            "were drawn: use a server that knows return_token_ids, as vLLM's does, or sampler=vllm"
        )
    answers = _require_seeds(connection, ask)
    if logprobs is not None:
        _require_logprobs(connection, ask, logprobs)
    return answers


def _require_seeds(
    connection: Connection, ask: Callable[..., list[dict[str, Any]]]
) -> list[dict[str, Any]]:
    warm = {"temperature": WARM, "max_tokens": NUM_TOKENS}
    pairs = [ask(2, seed=seed, **warm) for seed in SEEDS]
    same = [first["token_ids"] == second["token_ids"] for first, second in pairs]
    different = {tuple(answer["token_ids"]) for answer, _ in pairs}
    if not any(same) or len(different) == 1:
        what = "draws differently with the same seed" if not any(same) else "draws as with one seed"
        raise HardwareError(
            f"sampler.url={connection.url} {what}: use a server that takes a seed per request, as "
            "vLLM's does"
        )
    return [answer for pair in pairs for answer in pair]


def _require_logprobs(
    connection: Connection, ask: Callable[..., list[dict[str, Any]]], number: int
) -> None:
    """The most likely token's, asked for under two decodings: the model's own are the same."""
    wanted = {"logprobs": number, "return_tokens_as_token_ids": True, "max_tokens": 1}
    remedy = (
        "start vLLM with --logprobs-mode raw_logprobs and --max-logprobs "
        f"{max(number, 1)} or more, or leave sampler.logprobs at null"
    )
    try:
        (greedy,) = ask(temperature=0.0, **wanted)
        (cold,) = ask(temperature=0.25, top_k=1, **wanted)
    except Refusal as error:
        raise HardwareError(f"sampler.logprobs={number}: {error}; {remedy}") from error
    own, other = (
        (answer.get("logprobs") or {"token_logprobs": [math.nan]}) for answer in (greedy, cold)
    )
    likeliest = [*(own.get("top_logprobs") or [{}])[0].values()]
    differ = abs(own["token_logprobs"][0] - other["token_logprobs"][0])
    # Not `>`: NaN stands for log-probabilities that are not there.
    is_raw = differ <= ROUNDING and sum(map(math.exp, likeliest)) <= 1 + ROUNDING
    by_id = all(token.startswith("token_id:") for token in own.get("tokens", ()))
    if not is_raw or not by_id:
        raise HardwareError(
            f"sampler.logprobs={number}: sampler.url={connection.url} does not return the model's "
            f"own log-probabilities by token id: {remedy}"
        )
