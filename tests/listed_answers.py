"""A machine of three tokens whose answers can all be listed, and an engine that draws from it."""

import itertools
import math
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from typing import Self

import numpy as np

from ssd.generation.engine import Completion, Logprobs, Request

LENGTH, END = 4, 2
PROMPT = (9,)


@cache
def next_token(prefix: tuple[int, ...]) -> np.ndarray:
    """(V,) probabilities of a machine whose likeliest first token leads to unlikely answers."""
    rng = np.random.default_rng([7, *prefix])
    sharpness = 6.0 if prefix[:1] == (1,) else 1.0
    weights = np.exp(sharpness * rng.normal(size=3)) if prefix else np.array([0.55, 0.4, 0.05])
    return weights / weights.sum()


def answers() -> list[tuple[int, ...]]:
    """Every answer: up to the end token, or cut off after `LENGTH` tokens."""
    cut = [word for word in itertools.product(range(3), repeat=LENGTH) if END not in word[:-1]]
    ended = [
        (*word, END)
        for length in range(LENGTH - 1)
        for word in itertools.product((0, 1), repeat=length)
    ]
    return [*ended, *cut]


def tempered(p: np.ndarray, alpha: float) -> np.ndarray:
    """Probabilities at temperature 1/alpha."""
    return p**alpha / (p**alpha).sum()


def laws(alpha: float) -> tuple[np.ndarray, np.ndarray]:
    """(A,) the probability of every answer in the power distribution, and by tempered tokens."""
    steps = [
        [(next_token(answer[:t]), token) for t, token in enumerate(answer)] for answer in answers()
    ]
    power = np.array([math.prod(p[token] for p, token in walk) ** alpha for walk in steps])
    local = [math.prod(tempered(p, alpha)[token] for p, token in walk) for walk in steps]
    return power / power.sum(), np.array(local)


def distance(one: np.ndarray, other: np.ndarray) -> float:
    """Total variation."""
    return float(np.abs(one - other).sum() / 2)


class MachineEngine:
    """Draws from the machine as an engine does from a model."""

    num_sequences = 1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        pass

    def generate(
        self,
        requests: Iterable[Request | None],
        *,
        logprobs: int | None,
        tick: Callable[[int], None],
    ) -> Iterator[tuple[Request, Completion]]:
        for request in requests:
            assert request is not None and logprobs is not None
            rng = np.random.default_rng(request.seed)
            ids, stored = [], Logprobs(logprobs=[], topk_token_ids=[], topk_logprobs=[])
            while len(ids) < request.max_new_tokens and END not in ids:
                p = next_token((*request.prompt_token_ids[len(PROMPT) :], *ids))
                ids.append(int(rng.choice(3, p=tempered(p, 1 / request.decoding.temp))))
                top = np.argsort(-p)[:logprobs]
                stored.logprobs.append(math.log(p[ids[-1]]))
                stored.topk_token_ids.append(top.tolist())
                stored.topk_logprobs.append(np.log(p[top]).tolist())
            yield request, Completion(ids, "", "stop" if ids[-1] == END else "length", stored)
