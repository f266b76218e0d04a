"""An engine of another process or machine: a server of the OpenAI protocol that returns token ids.

It holds one model, the base. Requests are the offline engine's, as prompt token ids with every
parameter spelled out; texts are decoded here, from the ids that come back.
"""

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from contextlib import ExitStack, suppress
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any, Self

from ssd.config.settings import HardwareConfig, ModelConfig, SamplerConfig
from ssd.errors import HardwareError
from ssd.generation.engine import Completion, Logprobs, Request, at_hand
from ssd.generation.openai_connection import Refusal
from ssd.generation.openai_server import (
    DECODING,
    find_server,
    open_connection,
    require_abilities,
    require_length,
)
from ssd.generation.openai_weights import weights_distance
from ssd.models.chat import load_tokenizer, stop_token_ids
from ssd.models.reasoning import answer_text, dropped_tokens
from ssd.models.vocabulary import unnamed_ids
from ssd.runtime.reporting import SIGNAL_SECONDS

NEVER = -100.0
"""Bias on an id that no token has, the lowest of the protocol. It comes before the temperature T,
so such an id is drawn only where its logit leads by about 100, and otherwise with a probability
below exp(-100/T) of the others'; one that comes all the same is refused."""
PLAIN = "start vLLM with --generation-config vllm"


class OpenAIEngine:
    """The base model on a server, whose weights this machine has too."""

    def __init__(
        self,
        folder: Path,
        model: ModelConfig,
        hardware: HardwareConfig,
        *,
        max_model_len: int | None,
        sampler: SamplerConfig,
        adapter: Path | None = None,
    ) -> None:
        assert adapter is None, "trained models answer with an engine of this machine"
        self.num_sequences = sampler.max_concurrency
        self.tokenizer = load_tokenizer(str(folder))
        self.dropped = dropped_tokens(self.tokenizer, model.reasoning)
        self.stop_token_ids = stop_token_ids(str(folder), self.tokenizer)
        self.unnamed = frozenset(unnamed_ids(folder))
        with ExitStack() as unless_started:
            self.connection = unless_started.enter_context(
                open_connection(sampler, is_patient=True)
            )
            self.server = find_server(self.connection, sampler.served_name)
            require_length(self.server, max_model_len)
            answers = require_abilities(
                self.connection, self.server, sampler.logprobs, **self._vocabulary()
            )
            self._require_tokenizer(answers)
            distance = weights_distance(self.connection, self.server, folder, self.tokenizer)
            unless_started.pop_all()
        self.facts = {"server": {**asdict(self.server), "weights_distance": distance}}
        """What a manifest says of the server."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.connection.__exit__(*exception)

    def generate(
        self,
        requests: Iterable[Request | None],
        *,
        logprobs: int | None,
        tick: Callable[[int], None],
    ) -> Iterator[tuple[Request, Completion]]:
        """Each request with its completion, in the order in which they end.

        A request is taken from `requests` when the server has room for it, in this thread.

        Raises:
            HardwareError: the server went away for good, or does not take a request.
        """
        waiting = iter(requests)
        ended: SimpleQueue[Future[dict[str, Any]]] = SimpleQueue()
        under_way: dict[Future[dict[str, Any]], Request] = {}
        try:
            while True:
                for request in islice(at_hand(waiting), self.num_sequences - len(under_way)):
                    answer = self.connection.complete(self._body(request, logprobs))
                    under_way[answer] = request
                    answer.add_done_callback(ended.put)
                if not under_way:
                    return
                answer = _next(ended)
                request = under_way.pop(answer)
                completion = self._completion(request, answer, logprobs)
                tick(len(completion.token_ids))
                yield request, completion
        finally:
            for answer in under_way:
                answer.cancel()

    def _vocabulary(self) -> dict[str, Any]:
        return {
            "stop_token_ids": self.stop_token_ids,
            "logit_bias": {str(token_id): NEVER for token_id in sorted(self.unnamed)},
        }

    def _body(self, request: Request, logprobs: int | None) -> dict[str, Any]:
        decoding = request.decoding
        body = {
            **DECODING,
            **self._vocabulary(),
            "model": self.server.name,
            "prompt": list(request.prompt_token_ids),
            "temperature": 0.0 if decoding.is_greedy else decoding.temp,
            "top_k": decoding.top_k or 0,
            "top_p": decoding.top_p,
            "seed": request.seed,
            "max_tokens": request.max_new_tokens,
        }
        if logprobs is not None:
            body |= {"logprobs": logprobs, "return_tokens_as_token_ids": True}
        return body

    def _completion(
        self, request: Request, answer: "Future[dict[str, Any]]", num_logprobs: int | None
    ) -> Completion:
        name = f"prompt {request.prompt_id}"
        try:
            choice = answer.result()
        except Refusal as error:
            raise HardwareError(f"{name}: {error}") from error
        ids, reason = choice["token_ids"], choice["finish_reason"]
        fault = self._fault(request, choice)
        if fault is not None:
            raise HardwareError(f"{name}: the server of sampler.url {fault}")
        return Completion(
            token_ids=ids,
            text=answer_text(ids, self.tokenizer, self.dropped),
            finish_reason=reason,
            logprobs=None if num_logprobs is None else _logprobs(choice["logprobs"], num_logprobs),
        )

    def _fault(self, request: Request, choice: dict[str, Any]) -> str | None:
        """What an answer shows that the server did otherwise than asked, and the remedy."""
        ids, reason = choice["token_ids"], choice["finish_reason"]
        if choice.get("prompt_token_ids") not in (None, list(request.prompt_token_ids)):
            return "changed the prompt's token ids: use one that takes them as they are"
        if not self.unnamed.isdisjoint(ids):
            return "drew an id that no token has, in spite of its logit_bias: use sampler=vllm"
        if reason == "stop" and ids and ids[-1] in self.stop_token_ids:
            return None
        if reason == "length" and len(ids) == request.max_new_tokens:
            return None
        return (
            f"ended an answer of {len(ids)} tokens by {reason!r} before its end token or "
            f"{request.max_new_tokens} tokens: {PLAIN}"
        )

    def _require_tokenizer(self, answers: list[dict[str, Any]]) -> None:
        """Compare the server's text of a few tokens with the tokenizer's here: another tokenizer
        writes most ids otherwise."""
        for answer in answers:
            ids = answer["token_ids"]
            here, there = (
                "".join(text.split())  # white space between prompt and answer is nobody's
                for text in (self.tokenizer.decode(ids, skip_special_tokens=True), answer["text"])
            )
            # A part of a character is written by some and left out by others.
            if here != there and "\ufffd" not in here + there:
                raise HardwareError(
                    f"the server of sampler.url writes the ids {ids} as {there!r}, and the model's "
                    f"tokenizer here as {here!r}: let it serve the model of this run"
                )


def _next(ended: "SimpleQueue[Future[dict[str, Any]]]") -> "Future[dict[str, Any]]":
    while True:
        with suppress(Empty):
            return ended.get(timeout=SIGNAL_SECONDS)


def _logprobs(kept: dict[str, Any], num_logprobs: int) -> Logprobs:
    """The protocol gives a dictionary per token: the most likely tokens and the drawn one, which
    may be among them."""
    ranked = [
        sorted(position.items(), key=lambda entry: -entry[1])[:num_logprobs]
        for position in kept["top_logprobs"]
    ]
    return Logprobs(
        logprobs=kept["token_logprobs"],
        topk_token_ids=[
            [int(token.removeprefix("token_id:")) for token, _ in top] for top in ranked
        ],
        topk_logprobs=[[value for _, value in top] for top in ranked],
    )
