from collections.abc import Callable

import pytest

from ssd.errors import ConfigError
from ssd.generation.engines import LazyEngine
from ssd.run import Run
from ssd.sample.corpus import sample


def test_more_logprobs_than_tokens_are_refused_before_an_engine_starts(
    make_run: Callable[..., Run],
) -> None:
    def start() -> None:
        pytest.fail("an engine was started")

    run = make_run("data.limit=2", "sampler.logprobs=100000")
    with (
        LazyEngine(start) as engine,  # type: ignore[arg-type]
        pytest.raises(ConfigError, match="logprobs=100000"),
    ):
        sample(run, engine)
