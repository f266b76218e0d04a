"""A server of the OpenAI protocol as an engine: what is asked of it, and what becomes of a run
when it is busy, foreign or gone."""

import dataclasses
import signal
from collections.abc import Iterator
from pathlib import Path
from threading import Event, Timer, get_ident
from threading import enumerate as threads
from typing import Any

import pytest
from runs import compose_config
from servers import SmallServer, small_server
from test_engines import requests

from ssd.arms import BASE, TUNED
from ssd.config.choices import EngineName
from ssd.drive.checks import check_server, draws_base
from ssd.errors import ConfigError, HardwareError
from ssd.generation import generate_shards
from ssd.generation.engine import Engine
from ssd.generation.engines import LazyEngine, load_engine
from ssd.models import Weights
from ssd.models.chat import load_tokenizer
from ssd.records.samples import read_samples
from ssd.run import evidence, lineage
from ssd.runtime.hardware import resolve


@pytest.fixture
def server(tiny_weights: Weights) -> Iterator[SmallServer]:
    with small_server(load_tokenizer(tiny_weights.path)) as server:
        yield server


def start(server: SmallServer, weights: Weights, *overrides: str, length: int = 512) -> Engine:
    config = compose_config(
        "model=tiny", "sampler=openai", f"sampler.url={server.url}", "sampler.retry_seconds=1",
        *overrides,
    )  # fmt: skip
    return load_engine(
        config.sampler.engine, Path(weights.path), config.model, resolve(config.hardware),
        max_model_len=length, sampler=config.sampler,
    )  # fmt: skip


def draw(engine: Engine, asked: Any, logprobs: int | None = None) -> dict[str, Any]:
    answers = engine.generate(asked, logprobs=logprobs, tick=lambda _: None)
    return {request.prompt_id: completion for request, completion in answers}


def test_answers_come_back_with_their_ids_texts_and_requests(
    server: SmallServer, tiny_weights: Weights
) -> None:
    tokenizer = load_tokenizer(tiny_weights.path)
    with start(server, tiny_weights, "sampler.max_concurrency=4") as engine:
        answers = draw(engine, iter(requests(30)))  # an iterator, which has no length
    assert sorted(answers) == sorted(request.prompt_id for request in requests(30))
    for completion in answers.values():
        assert len(completion.token_ids) == 12
        assert completion.text == tokenizer.decode(completion.token_ids)
    assert server.most_at_once <= 4


def test_requests_are_taken_as_the_server_has_room(
    server: SmallServer, tiny_weights: Weights
) -> None:
    taken = []

    def feed() -> Iterator[Any]:
        for request in requests(20):
            taken.append(request)
            yield request

    with start(server, tiny_weights, "sampler.max_concurrency=4") as engine:
        answers = engine.generate(feed(), logprobs=None, tick=lambda _: None)
        next(answers)
        assert len(taken) == 4
        assert len(list(answers)) == 19


def test_a_busy_server_is_asked_again(server: SmallServer, tiny_weights: Weights) -> None:
    with start(server, tiny_weights) as engine:
        server.codes = [503, 429]
        assert len(draw(engine, requests(3))) == 3
        server.change = {"finish_reason": "abort"}  # as vLLM says when it shuts down
        with pytest.raises(HardwareError, match=r"abort.*the same command goes on"):
            draw(engine, requests(1))


def test_what_a_vanished_server_had_answered_is_on_disk_and_the_rest_is_drawn_later(
    server: SmallServer, tiny_weights: Weights, tmp_path: Path
) -> None:
    def sample(server: SmallServer) -> dict[str, Any]:
        with LazyEngine(lambda: start(server, tiny_weights)) as engine:
            return generate_shards(
                tmp_path, requests(20), engine=engine, shard_size=64, label="drawing"
            )

    with start(server, tiny_weights):
        num_asked_at_start = server.num_answered
    server.vanish_after = server.num_answered + num_asked_at_start + 7
    with pytest.raises(HardwareError, match=r"sampler.url=http.* the same command goes on"):
        sample(server)
    assert len(read_samples(tmp_path / "shards")) == 7
    server.vanish_after = None
    facts = sample(server)
    samples = read_samples(tmp_path / "shards")
    assert sorted(sample.prompt_id for sample in samples) == sorted(
        r.prompt_id for r in requests(20)
    )
    assert (facts["server"]["name"], facts["server"]["root"]) == ("small", "some/model")


def test_nothing_is_left_of_an_engine_that_is_closed_while_answers_are_under_way(
    server: SmallServer, tiny_weights: Weights
) -> None:
    before = set(threads())
    engine = start(server, tiny_weights)
    server.hold = Event()
    with engine:
        answer = engine.connection.complete({"prompt": [1]})  # type: ignore[attr-defined]
    # That this returns shows that nothing waits for the answer.
    assert answer.cancelled()
    assert not [thread for thread in set(threads()) - before if thread.name == "server requests"]
    server.hold.set()


@pytest.mark.usefixtures("interruptible")
def test_a_signal_that_comes_just_before_the_wait_for_an_answer_is_seen(
    server: SmallServer, tiny_weights: Weights
) -> None:
    def interrupt() -> None:  # as no signal to another thread does, it does not wake the main one
        signal.pthread_kill(get_ident(), signal.SIGINT)

    with start(server, tiny_weights) as engine:
        server.hold = Event()
        timers = Timer(0.5, interrupt), Timer(20, server.hold.set)
        for timer in timers:
            timer.start()
        with pytest.raises(KeyboardInterrupt):
            draw(engine, requests(1))
        assert not server.hold.is_set()
        timers[1].cancel()
        server.hold.set()


def test_the_prompt_that_a_server_refuses_is_named(
    server: SmallServer, tiny_weights: Weights
) -> None:
    with start(server, tiny_weights) as engine:
        server.refused_prompt = requests(5)[3].prompt_token_ids
        with pytest.raises(HardwareError, match=r"prompt p3: .*HTTP 400: not like this"):
            draw(engine, requests(5))


@pytest.mark.parametrize(
    "change, message",
    [({"token_ids": None}, "return_token_ids"), ({"text": "something else"}, "tokenizer here")],
)
def test_a_server_without_token_ids_or_with_another_tokenizer_is_refused(
    server: SmallServer, tiny_weights: Weights, change: dict[str, Any], message: str
) -> None:
    server.change = change
    with pytest.raises(HardwareError, match=message):
        start(server, tiny_weights)


def test_a_server_with_other_weights_is_refused(server: SmallServer, tiny_weights: Weights) -> None:
    server.prompt_logprob = -9.0
    with pytest.raises(HardwareError, match=r"another model \(some/model\)"):
        start(server, tiny_weights)


def test_a_server_that_passes_over_seeds_is_refused(
    server: SmallServer, tiny_weights: Weights
) -> None:
    server.has_seeds = False
    with pytest.raises(HardwareError, match="seed"):
        start(server, tiny_weights)
    server.change = {"token_ids": [65, 66, 67, 68], "text": "ABCD"}
    with pytest.raises(HardwareError, match="seed"):
        start(server, tiny_weights)


def test_log_probabilities_of_the_truncated_distribution_are_refused(
    server: SmallServer, tiny_weights: Weights
) -> None:
    server.logprob = 0.0
    with pytest.raises(HardwareError, match="--logprobs-mode raw_logprobs"):
        start(server, tiny_weights, "sampler.logprobs=2")
    server.logprob = -1.0
    with start(server, tiny_weights, "sampler.logprobs=1") as engine:
        completion = draw(engine, requests(1), logprobs=1)["p0"]
    assert completion.logprobs.logprobs == [-1.0] * 12
    assert completion.logprobs.topk_token_ids == [[token] for token in completion.token_ids]


@pytest.mark.parametrize(
    "change, message",
    [
        ({"finish_reason": "stop"}, "--generation-config vllm"),
        ({"token_ids": [65] * 5}, "--generation-config vllm"),
        ({"prompt_token_ids": [0]}, "prompt's token ids"),
    ],
)
def test_an_answer_that_the_server_ended_or_began_by_itself_is_refused(
    server: SmallServer, tiny_weights: Weights, change: dict[str, Any], message: str
) -> None:
    with start(server, tiny_weights) as engine:
        server.change = change
        with pytest.raises(HardwareError, match=f"prompt p0: .*{message}"):
            draw(engine, requests(1))


def test_the_model_is_the_only_one_or_named_and_takes_long_enough_requests(
    server: SmallServer, tiny_weights: Weights
) -> None:
    with pytest.raises(ConfigError, match="--max-model-len 4096"):
        start(server, tiny_weights, length=4096)
    server.models.append({"id": "other"})
    with pytest.raises(ConfigError, match=r"served_name=null.* small, other"):
        start(server, tiny_weights)
    with start(server, tiny_weights, "sampler.served_name=other") as engine:
        assert engine.server.name == "other"  # type: ignore[attr-defined]


def test_a_server_that_is_not_there_ends_the_start_in_one_line(
    server: SmallServer, tiny_weights: Weights
) -> None:
    with pytest.raises(HardwareError, match=r"sampler.url=http://127.0.0.1:9/v1 has not answered"):
        start(server, tiny_weights, "sampler.url=http://127.0.0.1:9/v1", "sampler.retry_seconds=0")
    with pytest.raises(ConfigError, match="/v1 included"):
        start(server, tiny_weights, f"sampler.url={server.url.removesuffix('/v1')}")


def test_the_key_is_sent_from_the_environment_alone(
    server: SmallServer, tiny_weights: Weights, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret")
    with start(server, tiny_weights) as engine:
        assert server.keys == {"Bearer sk-secret"}
        server.codes = [401]
        with pytest.raises(HardwareError, match="OPENAI_API_KEY") as refusal:
            draw(engine, requests(1))
    assert "sk-secret" not in str(refusal.value)
    with pytest.raises(ConfigError, match="OPENAI_API_KEY") as refused:
        compose_config("model=tiny", "sampler.url='http://user:sk-secret@host/v1'")
    assert "sk-secret" not in str(refused.value)


def test_the_driver_asks_the_server_while_the_base_model_has_anything_to_draw(
    server: SmallServer, make_run: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    few = ("stages=[sample,train,evaluate]", "sampler=openai", "sampler.max_model_len=512",
           "sampler.max_new_tokens=9", "eval.max_model_len=512", "eval.max_new_tokens=9",
           f"sampler.url={server.url}")  # fmt: skip
    run = make_run(*few)
    assert draws_base(run)
    check_server(run)
    printed = capsys.readouterr().out
    assert "some/model" in printed and "vllm here draws for tuned" in printed
    assert not draws_base(make_run(*few, "stages=[train]"))
    server.change = {"token_ids": None}
    with pytest.raises(HardwareError, match="return_token_ids"):
        check_server(run)
    with pytest.raises(ConfigError, match="--max-model-len 4096"):
        check_server(make_run(*few, "eval.max_model_len=4096"))


def test_only_the_base_model_is_drawn_by_the_server(make_run: Any) -> None:
    there, here = (make_run(f"sampler={name}", name=name) for name in ("openai", "vllm"))
    assert lineage.engine(there, BASE) is EngineName.openai
    assert lineage.engine(there, TUNED) is EngineName.vllm
    assert evidence.generations(there, BASE, "mbpp").inputs["engine"] == "openai"
    assert evidence.generations(there, TUNED, "mbpp").inputs["engine"] == "vllm"
    moved = dataclasses.replace(there.config.sampler, url="http://elsewhere/v1", served_name="m")
    elsewhere = dataclasses.replace(there, config=dataclasses.replace(there.config, sampler=moved))
    assert lineage.corpus(elsewhere).fingerprint == lineage.corpus(there).fingerprint
    assert lineage.corpus(here).fingerprint != lineage.corpus(there).fingerprint
