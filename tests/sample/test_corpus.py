"""The corpus that a sampling stage leaves, drawn by a real engine."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest
import templates

from ssd.arms import BASE
from ssd.artifacts.names import CORPUS
from ssd.errors import ConfigError
from ssd.generation.engines import LazyEngine, run_engine
from ssd.models import Weights
from ssd.models.chat import load_tokenizer
from ssd.records.samples import Sample, read_samples
from ssd.run import Run, lineage
from ssd.sample.corpus import sample


def sampled(run: Run) -> list[Sample]:
    with run_engine(run, BASE, max_model_len=None) as engine:
        sample(run, engine)
    return read_samples(lineage.corpus(run).folder / CORPUS)


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


def test_training_as_chat_adds_nothing_to_what_was_drawn_but_the_chats_end(
    make_run: Callable[..., Run], tiny_weights: Weights, tmp_path: Path
) -> None:
    folder = templates.checkpoint_with(templates.HYBRID, tiny_weights, tmp_path / "hybrid")
    run = make_run(
        "experiment=apple_release", "data.limit=16", "sampler=transformers", "truncation=none",
        "sampler.filters=[empty]", "sampler.max_new_tokens=60", f"model.path={folder}",
    )  # fmt: skip
    tokenizer = load_tokenizer(str(folder))
    end = tokenizer.eos_token_id
    samples = sampled(run)
    assert {drawn.finish_reason for drawn in samples} == {"stop", "length"}
    for drawn in samples:
        prompt, completion = drawn.training_ids()
        assert tokenizer.decode(prompt).endswith("<|im_start|>assistant\n")
        ended = drawn.finish_reason == "stop"
        assert (completion[-1] == end) is ended
        answer = completion[:-1] if ended else completion
        assert end not in answer
        whole, part = str(drawn.completion_token_ids)[1:-1], str(answer)[1:-1]
        assert re.search(rf"\b{part}\b", whole)  # its own tokens, in one piece
        assert (
            tokenizer.decode(answer)
            == tokenizer.decode(
                drawn.completion_token_ids[:-1] if ended else drawn.completion_token_ids
            ).strip()
        )
