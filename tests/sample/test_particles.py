"""Corpora of the power distribution: exact on a machine whose answers can be listed, and on a real
model and engine whatever a kill leaves."""

import math
from array import array
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Self

import numpy as np
import pytest
from listed_answers import LENGTH, PROMPT, MachineEngine, answers, distance, laws

from ssd.arms import BASE
from ssd.artifacts.names import BLOCKS, CHOICES, CORPUS, SHARDS
from ssd.config.settings import PowerConfig, SamplerConfig
from ssd.generation import Request
from ssd.generation.engines import LazyEngine, run_engine
from ssd.generation.requests import request_seed
from ssd.method.decoding import Decoding
from ssd.records.resampling import read_choices
from ssd.records.samples import Sample, read_samples
from ssd.run import Run, lineage
from ssd.sample.corpus import sample
from ssd.sample.particles import Candidate, Prompt, Weigher, draw_by_power, write_chosen

ALPHA = 3.0


def by_power(
    folder: Path, num_prompts: int, candidates: int, block: int, num_samples: int = 1
) -> tuple[list[Prompt], list[Sample]]:
    """Prompts that are all the machine's, and what was chosen for each."""
    sampler = SamplerConfig(
        temp=1 / ALPHA, max_new_tokens=LENGTH, shard_size=10_000,
        power=PowerConfig(alpha=ALPHA, candidates=candidates, block=block),
    )  # fmt: skip
    requests = [
        Request(f"p{number:05d}", 0, PROMPT, number, LENGTH, Decoding(1 / ALPHA))
        for number in range(num_prompts)
    ]
    with LazyEngine(MachineEngine) as engine:
        prompts, _ = draw_by_power(
            folder, requests, engine=engine, sampler=sampler, unnamed=(), vocabulary=3
        )
    write_chosen(folder, prompts, num_samples=num_samples, shard_size=10_000, text=str)
    return prompts, read_samples(folder / SHARDS)


def frequencies(samples: list[Sample]) -> np.ndarray:
    counts = Counter(tuple(sample.completion_token_ids) for sample in samples)
    assert set(counts) <= set(answers())
    return np.array([counts[answer] for answer in answers()]) / len(samples)


@pytest.mark.parametrize("block", [1, LENGTH])
def test_chosen_answers_follow_the_power_distribution_closer_with_more_candidates(
    tmp_path: Path, block: int
) -> None:
    power, local = laws(ALPHA)
    found = {
        number: distance(
            frequencies(by_power(tmp_path / str(number), 200, number, block)[1]), power
        )
        for number in (2, 16)
    }
    assert distance(local, power) > 0.5
    assert found[16] < 0.08 < found[2] < distance(local, power) - 0.1


@pytest.mark.parametrize(("temp", "unnamed"), [(0.5, ()), (0.5, (1,)), (0.505, ())])
def test_a_weight_is_the_power_over_what_was_drawn_from(
    temp: float, unnamed: tuple[int, ...]
) -> None:
    steps = [({0: 0.6, 1: 0.3, 2: 0.1}, 0), ({2: 0.5, 0: 0.3, 1: 0.2}, 0)]
    drawn = Sample(
        prompt_id="p", sample_index=0, seed=0, prompt_token_ids=[9],
        completion_token_ids=[token for _, token in steps], text="", finish_reason="length",
        logprobs=[math.log(p[token]) for p, token in steps],
        topk_token_ids=[[*p] for p, _ in steps],
        topk_logprobs=[[math.log(value) for value in p.values()] for p, _ in steps],
    )  # fmt: skip
    by_hand = 0.0
    for p, token in steps:
        tempered = {name: p[name] ** (1 / temp) for name in p if name not in unnamed}
        by_hand += 2 * math.log(p[token]) - math.log(tempered[token] / sum(tempered.values()))
    sampler = SamplerConfig(temp=temp, max_new_tokens=8, power=PowerConfig(alpha=2.0))
    candidate = Candidate(array("i"))
    Weigher(sampler, unnamed).add(candidate, drawn, cap=8)
    assert candidate.log_weight == pytest.approx(by_hand)
    assert candidate.logprob == pytest.approx(math.log(0.6 * 0.3))
    assert candidate.end is None  # the block ended, not the answer
    Weigher(sampler, unnamed).add(candidate, drawn, cap=4)
    assert (candidate.end, list(candidate.token_ids)) == ("length", [0, 0, 0, 0])
    assert candidate.log_weight == pytest.approx(2 * by_hand)


def test_candidates_end_at_their_end_token_or_at_the_cap_and_both_are_weighed(
    tmp_path: Path,
) -> None:
    (prompt, *_), _ = by_power(tmp_path, 20, 6, 2)
    prompts, samples = by_power(tmp_path / "again", 20, 6, 2)
    ends = Counter(candidate.end for own in prompts for candidate in own.candidates)
    assert set(ends) == {"stop", "length"}
    for own in prompts:
        for candidate in own.candidates:
            is_cut = candidate.token_ids[-1] != 2
            assert candidate.end == ("length" if is_cut else "stop")
            assert len(candidate.token_ids) == LENGTH or not is_cut
    choices = read_choices(tmp_path / CHOICES)
    assert sum(choice.num_cut for choice in choices) == ends["length"]
    assert all(1 <= size <= 6 + 1e-9 for choice in choices for size in choice.effective_sizes)
    assert max(choice.num_resampled for choice in choices) > 0
    assert {sample.finish_reason for sample in samples} == {"stop", "length"}
    assert prompt.is_whole


def test_several_samples_of_a_prompt_have_keys_of_their_own(tmp_path: Path) -> None:
    _, samples = by_power(tmp_path, 5, 6, 2, num_samples=4)
    keys = [(sample.prompt_id, sample.sample_index) for sample in samples]
    assert keys == [(f"p{prompt:05d}", index) for prompt in range(5) for index in range(4)]


POWER = (
    "sampler=transformers", "truncation=none", "sampler.power.alpha=2", "sampler.temp=0.5",
    "sampler.power.candidates=3", "sampler.power.block=5", "sampler.max_new_tokens=12",
    "sampler.filters=[]", "data.limit=3", "model.dtype=float32",
)  # fmt: skip


def sampled(run: Run) -> Path:
    with run_engine(run, BASE, max_model_len=None) as engine:
        sample(run, engine)
    return lineage.corpus(run).folder


def test_a_models_candidates_are_weighed_by_its_own_probabilities(
    make_run: Callable[..., Run],
) -> None:
    import torch
    from transformers import AutoModelForCausalLM

    run = make_run(*POWER, "sampler.power.top_tokens=500")
    folder = sampled(run)
    network = AutoModelForCausalLM.from_pretrained(run.weights.path, dtype=torch.float32)
    choices = {choice.prompt_id: choice for choice in read_choices(folder / CHOICES)}
    samples = read_samples(folder / CORPUS)
    assert len(samples) == len(choices) == 3
    for drawn in samples:
        ids = torch.tensor([[*drawn.prompt_token_ids, *drawn.completion_token_ids]])
        with torch.inference_mode():
            logprobs = network(ids).logits[0, len(drawn.prompt_token_ids) - 1 : -1].log_softmax(-1)
        own = logprobs.gather(1, ids[0, len(drawn.prompt_token_ids) :, None]).sum()
        choice = choices[drawn.prompt_id]
        assert choice.chosen_logprob == pytest.approx(float(own), abs=1e-3)
        assert choice.error < 1e-3  # the whole vocabulary was asked for
    counts = lineage.corpus(run).manifest()["counts"]
    assert (counts["num_drawn"], counts["power"]["num_candidates"]) == (3, 9)
    assert counts["power"]["candidates_per_prompt"] == 3
    assert not (folder / BLOCKS).exists()
    assert lineage.corpus(run).intact() == folder


class MortalEngine:
    """The engine of a run, interrupted after some answers."""

    def __init__(self, run: Run, num_answers: int) -> None:
        self.lazy, self.num_answers = run_engine(run, BASE, max_model_len=None), num_answers
        self.num_sequences = 1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.lazy.__exit__()

    def generate(self, requests: Any, **settings: Any) -> Iterator[Any]:
        for answer in self.lazy.get().generate(requests, **settings):
            if not self.num_answers:
                raise KeyboardInterrupt
            self.num_answers -= 1
            yield answer


def test_a_corpus_is_the_same_whatever_its_shards_and_a_kill_left(
    make_run: Callable[..., Run], tmp_path: Path
) -> None:
    whole = sampled(make_run(*POWER, f"output_dir={tmp_path}/whole", "sampler.shard_size=64"))

    run = make_run(*POWER, f"output_dir={tmp_path}/killed", "sampler.shard_size=2")
    dying = MortalEngine(run, num_answers=14)  # nine of them are the first block's
    with pytest.raises(KeyboardInterrupt), LazyEngine(lambda: dying) as engine:
        sample(run, engine)
    corpus = lineage.corpus(run)
    assert len(list((corpus.folder / BLOCKS).iterdir())) == 2
    assert not corpus.done
    resumed = sampled(run)
    assert read_samples(resumed / CORPUS) == read_samples(whole / CORPUS)
    # What is computed together differs, and with it the last digits of the weights.
    for one, other in zip(*(read_choices(at / CHOICES) for at in (resumed, whole)), strict=True):
        assert (one.prompt_id, one.chosen) == (other.prompt_id, other.chosen)
        assert one.effective_sizes == pytest.approx(other.effective_sizes, rel=1e-4)


def test_a_corpus_without_a_power_has_the_fingerprint_it_had(make_run: Callable[..., Run]) -> None:
    plain, power = make_run(), make_run(*POWER)
    assert "power" not in lineage.corpus(plain).inputs
    assert lineage.corpus(power).inputs["power"]["alpha"] == 2
    more = make_run(*POWER, "sampler.power.candidates=4")
    assert lineage.corpus(more).fingerprint != lineage.corpus(power).fingerprint
    assert "power" not in lineage.corpus(lineage.control(power)).inputs


def test_a_later_rounds_samples_have_seeds_and_numbers_of_their_own(tmp_path: Path) -> None:
    first, later = (
        Prompt(Request("p", index, PROMPT, request_seed(3, "p", index), 4, Decoding(1.0)), 2)
        for index in (0, 1)
    )
    seeds = [request.seed for prompt in (first, later) for request in prompt.requests(0, 4)]
    assert len(set(seeds)) == 4
    for candidate in later.candidates:
        candidate.end = "stop"
    later.weigh(0)
    write_chosen(tmp_path, [later], num_samples=2, shard_size=9, text=str)
    assert [sample.sample_index for sample in read_samples(tmp_path / SHARDS)] == [1, 2]
