"""Every real engine on the tiny model."""

import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from reasoning_checkpoints import CHAT, reasoning_checkpoint
from runs import compose_config
from transformers import AutoModelForCausalLM

from ssd.config.choices import AdapterType, EngineName
from ssd.config.settings import AdapterConfig
from ssd.errors import HardwareError
from ssd.generation import Completion, Request, generate_shards
from ssd.generation.engine import Engine
from ssd.generation.engines import LazyEngine, load_engine
from ssd.generation.requests import build_requests, request_seed
from ssd.generation.vllm_memory import cache_blocks
from ssd.generation.vllm_settings import lora_rank
from ssd.method.decoding import Decoding
from ssd.method.truncation import tempered_probabilities
from ssd.models import Weights
from ssd.models.chat import load_tokenizer
from ssd.models.fetch import fetch
from ssd.models.reasoning import pin_reasoning
from ssd.problems.problem import Problem
from ssd.records.samples import read_samples
from ssd.run import Run
from ssd.runtime.hardware import resolve
from ssd.train.network import adapt

GREEDY = Decoding(temp=0.0)
SAMPLED = Decoding(temp=1.2, top_k=20, top_p=0.8)


def drawn(engine: Engine, asked: list[Request], decoding: Decoding) -> list[Completion]:
    """Completions in the order of their requests."""
    ticks: list[int] = []
    asked = [dataclasses.replace(request, decoding=decoding) for request in asked]
    answers = engine.generate(asked, logprobs=3, tick=ticks.append)
    by_seed = {request.seed: completion for request, completion in answers}
    assert sum(ticks) == sum(len(completion.token_ids) for completion in by_seed.values())
    return [by_seed[request.seed] for request in asked]


def requests(count: int, decoding: Decoding = GREEDY) -> list[Request]:
    return [
        Request(
            prompt_id=f"p{i}",
            sample_index=0,
            prompt_token_ids=[(i * 31 + j) % 256 for j in range(5 + i)],
            seed=request_seed(0, f"p{i}", 0),
            max_new_tokens=12,
            decoding=decoding,
        )
        for i in range(count)
    ]


LOCAL = [name for name in EngineName if name is not EngineName.openai]
"""Engines that load what they are told to; a server has loaded it."""


@pytest.fixture(
    scope="module", params=[*LOCAL, pytest.param(EngineName.openai, marks=pytest.mark.slow)]
)
def engine(request: pytest.FixtureRequest, tiny_weights: Weights) -> Iterator[Engine]:
    serves = request.param is EngineName.openai
    where = [f"sampler.url={request.getfixturevalue('vllm_url')}"] if serves else []
    config = compose_config("model=tiny", "model.dtype=float32", *where)
    with load_engine(
        request.param,
        Path(tiny_weights.path),
        config.model,
        resolve(config.hardware),
        max_model_len=512,
        sampler=config.sampler,
    ) as engine:
        yield engine


def test_greedy_decoding_follows_the_models_own_argmax(
    engine: Engine, tiny_weights: Weights
) -> None:
    model: Any = AutoModelForCausalLM.from_pretrained(tiny_weights.path, dtype=torch.float32)
    for request, completion in zip(requests(3), drawn(engine, requests(3), GREEDY), strict=True):
        ids = torch.tensor([request.prompt_token_ids + completion.token_ids])
        logits = model(input_ids=ids).logits[0, len(request.prompt_token_ids) - 1 : -1]
        assert logits.argmax(-1).tolist() == completion.token_ids
        scores = logits.log_softmax(-1)
        drawn_scores = scores.gather(-1, torch.tensor(completion.token_ids)[:, None])[:, 0]
        kept = completion.logprobs
        assert kept is not None
        assert kept.logprobs == pytest.approx(drawn_scores.tolist(), abs=1e-3)
        assert kept.topk_token_ids == scores.topk(3).indices.tolist()
        torch.testing.assert_close(
            torch.tensor(kept.topk_logprobs), scores.topk(3).values, atol=1e-3, rtol=0
        )


def test_logprobs_are_drawn_only_where_they_are_asked_for(engine: Engine) -> None:
    kept = {}
    for number in (None, 0):
        answers = engine.generate(requests(1), logprobs=number, tick=lambda _: None)
        ((_, completion),) = answers
        kept[number] = completion.logprobs
    assert kept[None] is None
    assert len(kept[0].logprobs) == 12
    assert kept[0].topk_token_ids == kept[0].topk_logprobs == [[]] * 12


def test_vllms_cache_has_the_blocks_that_it_is_given(engine: Any, tiny_weights: Weights) -> None:
    if not hasattr(engine, "llm"):
        pytest.skip("transformers' cache grows with its batch, and a server's is its own")
    hardware = resolve(compose_config("model=tiny").hardware)
    blocks = engine.llm.llm_engine.vllm_config.cache_config.num_gpu_blocks
    assert blocks == cache_blocks(Path(tiny_weights.path), hardware, 512)


def test_an_answer_is_cut_at_its_own_cap(engine: Engine) -> None:
    roomy, tight = requests(2)
    asked = [roomy, dataclasses.replace(tight, max_new_tokens=5)]
    assert [len(completion.token_ids) for completion in drawn(engine, asked, GREEDY)] == [12, 5]


def test_a_seed_gives_the_same_answer_in_any_order_and_company(engine: Engine) -> None:
    together = drawn(engine, requests(6), SAMPLED)
    backwards = drawn(engine, requests(6)[::-1], SAMPLED)[::-1]
    some = drawn(engine, requests(6)[2:4], SAMPLED)
    assert [c.token_ids for c in together] == [c.token_ids for c in backwards]
    assert [c.token_ids for c in together[2:4]] == [c.token_ids for c in some]
    assert len({tuple(c.token_ids) for c in together}) == 6


def test_requests_of_one_batch_are_decoded_each_as_it_asks(engine: Engine) -> None:
    decodings = [
        GREEDY, SAMPLED, Decoding(1.5), Decoding(1.5, top_k=3, top_p=0.7), Decoding(0.7, top_k=5),
        Decoding(1.5, top_p=0.5), Decoding(1.5, top_k=3, top_p=0.95),
    ]  # fmt: skip
    prompt = requests(1)[0].prompt_token_ids
    asked = [
        dataclasses.replace(
            request, decoding=decoding, prompt_token_ids=prompt, max_new_tokens=4 + number % 9
        )  # ending at different times, so that rows of the batch move
        for decoding in decodings
        for number, request in enumerate(requests(6))
    ]
    asked = [dataclasses.replace(request, part=part) for part, request in enumerate(asked)]

    def answers(some: list[Request]) -> dict[int, list[int]]:
        drawn = engine.generate(some, logprobs=None, tick=lambda _: None)
        return {request.part: completion.token_ids for request, completion in drawn}

    apart: dict[int, list[int]] = {}
    for decoding in decodings:
        apart |= answers([request for request in asked if request.decoding == decoding])
    assert answers(asked[::2] + asked[1::2]) == apart
    assert len({tuple(ids) for ids in apart.values()}) > len(decodings)


def test_requests_that_come_while_others_are_drawn_get_the_same_answers(engine: Engine) -> None:
    asked, answered = requests(6, SAMPLED), list[Request]()

    def incoming() -> Iterator[Request | None]:
        yield from asked[:3]
        yield None
        while not answered:  # none at present, while three are drawn
            yield None
        yield from asked[3:]

    pairs = []
    for pair in engine.generate(incoming(), logprobs=None, tick=lambda _: None):
        answered.append(pair[0])
        pairs.append((pair[0].seed, pair[1].token_ids))
    together = drawn(engine, asked, SAMPLED)
    expected = {r.seed: c.token_ids for r, c in zip(asked, together, strict=True)}
    assert (len(pairs), dict(pairs)) == (6, expected)


def test_the_length_cap_is_reported_as_length(engine: Engine) -> None:
    (completion,) = drawn(engine, requests(1), GREEDY)
    assert completion.finish_reason == "length"
    assert len(completion.token_ids) == 12


def test_a_stop_token_ends_the_answer_and_is_kept(engine: Any, tiny_weights: Weights) -> None:
    first = drawn(engine, requests(1), GREEDY)[0].token_ids
    stop = first[3]
    attribute = "stop_token_ids" if hasattr(engine, "stop_token_ids") else "stops"
    usual = getattr(engine, attribute)
    setattr(engine, attribute, [stop] if attribute == "stop_token_ids" else {stop})
    (completion,) = drawn(engine, requests(1), GREEDY)
    setattr(engine, attribute, usual)
    assert completion.token_ids == first[: first.index(stop) + 1]
    assert completion.finish_reason == "stop"


def test_sampled_tokens_lie_in_the_truncated_support(engine: Engine, tiny_weights: Weights) -> None:
    model: Any = AutoModelForCausalLM.from_pretrained(tiny_weights.path, dtype=torch.float32)
    for request, completion in zip(requests(4), drawn(engine, requests(4), SAMPLED), strict=True):
        ids = torch.tensor([request.prompt_token_ids + completion.token_ids])
        logits = model(input_ids=ids).logits[0, len(request.prompt_token_ids) - 1 : -1]
        probabilities = tempered_probabilities(logits, SAMPLED.temp, SAMPLED.top_k, SAMPLED.top_p)
        assert (probabilities.gather(-1, torch.tensor(completion.token_ids)[:, None]) > 0).all()


PEAKED = Decoding(temp=0.25, top_k=20, top_p=0.8)
"""The tiny model's own distribution is nearly flat: here the order of the operators matters."""
NUM_DRAWS = 4000


def misfit(counts: torch.Tensor, probabilities: torch.Tensor) -> float:
    """p-value of Pearson's chi-square test; tokens that 5 draws are not expected of share a bin.

    counts, probabilities: (V,).
    """
    expected = probabilities * counts.sum()
    rare = expected < 5
    seen = torch.cat([counts[~rare], counts[rare].sum()[None]])
    hoped = torch.cat([expected[~rare], expected[rare].sum()[None]])
    seen, hoped = seen[hoped > 0], hoped[hoped > 0]
    statistic = ((seen - hoped) ** 2 / hoped).sum()
    return float(torch.special.gammaincc(torch.tensor((len(seen) - 1) / 2), statistic / 2))


@pytest.mark.parametrize("truncated_by", ["the engine's choice", "vLLM"])
def test_every_engine_draws_from_the_tempered_and_truncated_distribution(
    engine: Any, tiny_weights: Weights, truncated_by: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if truncated_by == "vLLM":
        if not hasattr(engine, "on_cpu"):
            pytest.skip("the others know one truncation each")
        monkeypatch.setattr(engine, "on_cpu", False)  # vLLM's own, as on a GPU
    (asked,) = requests(1, PEAKED)
    repeated = [
        dataclasses.replace(asked, seed=request_seed(0, "p0", i), max_new_tokens=1)
        for i in range(NUM_DRAWS)
    ]
    answers = engine.generate(repeated, logprobs=None, tick=lambda _: None)
    ids = torch.tensor([completion.token_ids[0] for _, completion in answers])
    model: Any = AutoModelForCausalLM.from_pretrained(tiny_weights.path, dtype=torch.float32)
    logits = model(input_ids=torch.tensor([asked.prompt_token_ids])).logits[0, -1:].detach()
    counts = ids.bincount(minlength=logits.shape[-1]).float()

    exact = tempered_probabilities(logits, PEAKED.temp, PEAKED.top_k, PEAKED.top_p)[0]
    assert counts[exact == 0].sum() == 0
    assert misfit(counts, exact) > 1e-3
    # The test would notice the operators in another order, or another temperature.
    untempered = tempered_probabilities(logits, 1.0, PEAKED.top_k, PEAKED.top_p)[0]
    truncated_first = (untempered.log() / PEAKED.temp).softmax(-1)
    warmer = tempered_probabilities(logits, PEAKED.temp * 1.2, PEAKED.top_k, PEAKED.top_p)[0]
    for other in (truncated_first, warmer):
        assert misfit(counts, other) < 1e-6


def test_request_seeds_differ_by_prompt_sample_and_run() -> None:
    seeds = {request_seed(run, f"p{p}", k) for run in range(3) for p in range(3) for k in range(3)}
    assert len(seeds) == 27
    assert all(0 <= seed < 2**63 for seed in seeds)


def test_a_resumed_corpus_keeps_what_was_drawn(make_run: Callable[..., Run]) -> None:
    class Engines:
        """Counts what it is asked; draws are plain echoes."""

        asked: list[str]

        def __init__(self) -> None:
            self.asked = []
            self.is_open = False

        def __enter__(self) -> "Engines":
            self.is_open = True
            return self

        def __exit__(self, *exception: object) -> None:
            self.is_open = False

        def generate(self, requests: Any, **options: Any) -> Iterator[tuple[Request, Completion]]:
            for request in requests:
                if len(self.asked) == 5:
                    raise RuntimeError("the engine died")
                self.asked.append(request.prompt_id)
                yield request, Completion([1, 2], "x", "stop")

    def draw(engine: Any, shard_size: int) -> dict[str, float | None]:
        with LazyEngine(engine) as lazy:
            return generate_shards(
                folder, requests(7), engine=lazy, shard_size=shard_size, label="drawing"
            )

    folder = make_run().folder
    first, second = Engines(), Engines()
    with pytest.raises(RuntimeError):
        draw(lambda: first, 2)
    assert not first.is_open
    assert len(read_samples(folder / "shards")) == 4
    assert draw(lambda: second, 5)["tokens_per_second"] is not None
    assert second.asked == ["p4", "p5", "p6"]
    assert [sample.prompt_id for sample in read_samples(folder / "shards")] == [
        f"p{i}" for i in range(7)
    ]
    assert draw(lambda: pytest.fail("started"), 5)["tokens_per_second"] is None


def test_requests_get_the_same_seeds_in_any_order(tiny_weights: Weights) -> None:
    config = compose_config("model=tiny")
    tokenizer = load_tokenizer(tiny_weights.path)
    problems = [Problem(str(i), "word " * (i + 1)) for i in range(4)]

    def build(
        problems: list[Problem], max_model_len: int | None = None
    ) -> tuple[list[Request], dict[str, int]]:
        settings = {
            "num_samples": 2, "seed": 7, "max_new_tokens": 12, "max_model_len": max_model_len,
            "decoding": GREEDY,
        }  # fmt: skip
        return build_requests(problems, config.prompt_format, config.model, tokenizer, **settings)  # type: ignore[arg-type]

    forwards, backwards = build(problems)[0], build(problems[::-1])[0]
    assert len({request.seed for request in forwards}) == len(forwards) == 8
    assert sorted(forwards, key=lambda r: r.seed) == sorted(backwards, key=lambda r: r.seed)
    longest = len(forwards[-1].prompt_token_ids)
    fitting, too_long = build(problems, max_model_len=longest)
    assert (len(fitting), too_long) == (6, {"3": longest})
    assert [min(12, longest - len(request.prompt_token_ids)) for request in fitting] == [
        request.max_new_tokens for request in fitting
    ]


@dataclasses.dataclass
class Adapted:
    """An adapter that changes what the tiny model says, and the same merged."""

    folder: Path
    merged: Any


@pytest.fixture(scope="module")
def adapted(tmp_path_factory: pytest.TempPathFactory, tiny_weights: Weights) -> Adapted:
    torch.manual_seed(0)
    base: Any = AutoModelForCausalLM.from_pretrained(tiny_weights.path, dtype=torch.float32)
    network = adapt(base, AdapterConfig(type=AdapterType.lora, rank=6, alpha=12), empty=False)
    for name, parameter in network.named_parameters():
        if "lora_B" in name:  # zero before training
            torch.nn.init.normal_(parameter, std=0.1)
    folder = tmp_path_factory.mktemp("adapter")
    network.save_pretrained(folder, save_embedding_layers=False)
    return Adapted(folder, network.merge_and_unload())


@pytest.mark.parametrize("name", LOCAL)
def test_an_adapter_on_its_base_answers_as_the_merged_model(
    name: EngineName, adapted: Adapted, tiny_weights: Weights
) -> None:
    config = compose_config("model=tiny", "model.dtype=float32")
    with load_engine(
        name,
        Path(tiny_weights.path),
        config.model,
        resolve(config.hardware),
        max_model_len=512,
        adapter=adapted.folder,
    ) as engine:
        answers = drawn(engine, requests(4), GREEDY)
    base: Any = AutoModelForCausalLM.from_pretrained(tiny_weights.path, dtype=torch.float32)
    changed = 0
    for request, completion in zip(requests(4), answers, strict=True):
        ids = torch.tensor([request.prompt_token_ids + completion.token_ids])
        answer = slice(len(request.prompt_token_ids) - 1, -1)
        logits = adapted.merged(input_ids=ids).logits[0, answer]
        assert logits.argmax(-1).tolist() == completion.token_ids
        scores = logits.log_softmax(-1).gather(-1, torch.tensor(completion.token_ids)[:, None])
        assert completion.logprobs.logprobs == pytest.approx(scores[:, 0].tolist(), abs=1e-3)
        changed += base(input_ids=ids).logits[0, answer].argmax(-1).tolist() != completion.token_ids
    assert changed


def test_vllm_makes_room_for_the_rank_above_the_adapters(adapted: Adapted, tmp_path: Path) -> None:
    assert lora_rank(adapted.folder) == 8
    (tmp_path / "adapter_config.json").write_text('{"r": 600}')
    with pytest.raises(HardwareError, match=r"rank 600 and vLLM takes up to 512.*adapter.merge=tr"):
        lora_rank(tmp_path)


def test_vllm_on_cpu_refuses_the_adapter_of_a_mixture_of_experts(adapted: Adapted) -> None:
    config = compose_config("model=tiny_moe", "hardware=cpu")
    with pytest.raises(HardwareError, match=r"a GPU alone: set adapter.merge=true"):
        load_engine(
            EngineName.vllm,
            Path(fetch(config.model).path),
            config.model,
            resolve(config.hardware),
            max_model_len=512,
            adapter=adapted.folder,
        )


@pytest.mark.parametrize(
    "name", [EngineName.transformers, pytest.param(EngineName.vllm, marks=pytest.mark.slow)]
)
def test_texts_keep_marks_of_reasoning_that_are_special_tokens(
    tiny_weights: Weights, tmp_path: Path, name: EngineName
) -> None:
    folder = reasoning_checkpoint(tiny_weights, tmp_path / "m", CHAT, ("[THINK]", "[/THINK]"))
    config = compose_config("model=tiny", f"model.path={folder}", "model.dtype=float32")
    model = pin_reasoning(config.model, folder)
    tokenizer = load_tokenizer(str(folder))
    asked = [dataclasses.replace(request, max_new_tokens=48) for request in requests(16)]
    with load_engine(name, folder, model, resolve(config.hardware), max_model_len=512) as engine:
        answers = drawn(engine, asked, Decoding(temp=2.0))
    others = set(tokenizer.convert_tokens_to_ids(["<|im_start|>", "<|im_end|>", "<|endoftext|>"]))
    ids = [completion.token_ids for completion in answers]
    expected = [tokenizer.decode([id for id in row if id not in others]) for row in ids]
    assert [completion.text for completion in answers] == expected
    assert any("[THINK]" in text for text in expected) and any(others & {*row} for row in ids)
