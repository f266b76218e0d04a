"""What a replica is told, and what it answers; all of it is plain and can be pickled."""

from dataclasses import dataclass
from pathlib import Path

from ssd.config.choices import EngineName
from ssd.config.settings import HardwareConfig, ModelConfig, SamplerConfig
from ssd.generation.engine import Completion, Request

Key = tuple[int, str, int]
"""What a request is called: its part of the queue, its prompt and the number of its sample."""


def key(request: Request) -> Key:
    """The name of a request."""
    return request.part, request.prompt_id, request.sample_index


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """The engine to start: the arguments of `load_engine`."""

    name: EngineName
    folder: Path
    model: ModelConfig
    hardware: HardwareConfig
    max_model_len: int | None
    adapter: Path | None
    sampler: SamplerConfig | None = None


@dataclass(frozen=True, slots=True)
class Draw:
    """Requests follow."""

    job: int
    logprobs: int | None


@dataclass(frozen=True, slots=True)
class Placed:
    """A cluster has found a machine for a replica, and the model is there."""

    where: str
    """In messages."""
    folder: Path
    """Of the model, there."""
    adapter: Path | None


@dataclass(frozen=True, slots=True)
class Ready:
    """The engine is loaded."""

    num_sequences: int
    """Most requests that it draws at once."""


@dataclass(frozen=True, slots=True)
class Ticked:
    """Tokens were drawn."""

    job: int
    num_tokens: int


@dataclass(frozen=True, slots=True)
class Answered:
    """A request is answered."""

    job: int
    request: Key
    completion: Completion
