"""What an engine receives and returns."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol, Self

from ssd.method.decoding import Decoding


@dataclass(frozen=True, slots=True)
class Request:
    """One completion to draw."""

    prompt_id: str
    sample_index: int
    prompt_token_ids: Sequence[int]
    seed: int
    max_new_tokens: int
    """Where the answer is cut off."""
    decoding: Decoding
    part: int = 0
    """Of those that a queue consists of, such as the settings that a model answers under."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Logprobs:
    """Natural-log probabilities under the model at temperature 1, before truncation; T tokens."""

    logprobs: list[float]
    """(T,) of the tokens that were drawn."""
    topk_token_ids: list[list[int]]
    """(T, k) most likely tokens, the likeliest first; k = 0 keeps none."""
    topk_logprobs: list[list[float]]
    """(T, k) of these."""


@dataclass(frozen=True, slots=True)
class Completion:
    """What the engine drew."""

    token_ids: list[int]
    """Ends with the stop token where the model emitted one."""
    text: str
    """Decoded without special tokens, but for marks of the model's reasoning."""
    finish_reason: str
    """`stop`, or `length` where the cap cut it off."""
    logprobs: Logprobs | None = None
    """None where they were not asked for."""


class Engine(Protocol):
    """A loaded model that draws completions. Whoever starts one closes it, by `with`: processes and
    device memory are then released in a known order, unlike by exit handlers."""

    @property
    def num_sequences(self) -> int:
        """Most requests that it draws at once."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(self, *exception: object) -> None: ...

    def generate(
        self,
        requests: Iterable[Request | None],
        *,
        logprobs: int | None,
        tick: Callable[[int], None],
    ) -> Iterator[tuple[Request, Completion]]:
        """Each request with its completion, in the order in which they end.

        Args:
            requests: a list, or an iterator that gets them meanwhile. Such a one yields None where
                it has none at present, and waits for the next only once all that it has yielded
                are answered.
            logprobs: None for none; otherwise completions carry those of the drawn tokens and of
                this many most likely ones.
            tick: called now and then with the number of tokens drawn since the last call.
        """
        ...


def at_hand(incoming: Iterator[Request | None]) -> Iterator[Request]:
    """The requests of an iterator as `generate` takes it, up to where it has none at present."""
    while (request := next(incoming, None)) is not None:
        yield request
