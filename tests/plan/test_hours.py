"""The time of a whole run: what is generated how often, and how fast, against numbers by hand."""

import dataclasses
import functools
from pathlib import Path

import pytest
from runs import compose_config

from ssd.artifacts.files import read_json
from ssd.config.choices import Attention
from ssd.config.settings import AdapterConfig, RunConfig
from ssd.plan.architecture import KNOWN, Architecture, measure
from ssd.plan.engine import (
    REACHED,
    SEQUENCE_SECONDS,
    engine_speed,
    sequence_bytes,
    sequences_in_flight,
)
from ssd.plan.hours import Hours, count_problems
from ssd.plan.plan import make_plan

H100 = 80 * 2**30
QWEN_4B = "Qwen/Qwen3-4B-Instruct-2507"
QWEN_8B = "Qwen/Qwen3-8B"
WIDER = {"hidden_size": 4096, "intermediate_size": 12288, "tie_word_embeddings": False}
"""In what the 8B model differs from the 4B one."""
GIVEN = ("plan.num_samples=100", "plan.tokens_per_sample=1000", "plan.tokens_per_answer=500")


@functools.cache
def sized(name: str) -> Architecture:
    train, known = compose_config("model=tiny").train, read_json(KNOWN)
    fields = {**known[QWEN_4B], **WIDER} if name == QWEN_8B else known[name]
    return measure(fields, "the table", train, Attention.auto, AdapterConfig())


def engine(gpus: int, sequences: int, *more: str) -> RunConfig:
    return compose_config(
        "model=qwen3_4b", "hardware=gpu_8", f"hardware.tensor_parallel_size={gpus}",
        f"hardware.max_num_seqs={sequences}", *more,
    )  # fmt: skip


def hours(folder: Path, *overrides: str) -> Hours:
    return make_plan(compose_config(f"output_dir={folder}", *overrides), folder).hours


def test_keys_and_values_of_a_token_are_shared_by_as_many_gpus_as_there_are_heads() -> None:
    dense, routed = sized(QWEN_4B), sized("Qwen/Qwen3-30B-A3B-Instruct-2507")
    assert sequence_bytes(dense, 1, 1) == 36 * 2 * 8 * 128 * 2 == 144 * 1024
    assert sequence_bytes(dense, 8, 1) == 18 * 1024
    assert sequence_bytes(routed, 8, 1) == sequence_bytes(routed, 4, 1) == 24 * 1024  # 4 key heads


def test_memory_beside_the_weights_bounds_the_sequences_in_flight() -> None:
    model = sized(QWEN_4B)
    room = 0.9 * H100 - 2 * model.num_parameters - 2 * 2**30
    assert sequences_in_flight(model, engine(1, 10_000), H100, 4000) == pytest.approx(
        room / (4000 * 144 * 1024)
    )
    assert sequences_in_flight(model, engine(1, 64), H100, 4000) == 64
    speed, why = engine_speed(model, engine(1, 64), 4 * 2**30, 4000)
    assert speed is None
    assert "raise hardware.tensor_parallel_size" in why


@pytest.mark.parametrize(
    ("name", "gpus", "sequences", "answer", "published"),
    [
        (QWEN_8B, 1, 512, 645, 8535),
        (QWEN_8B, 1, 96, 8050, 3117),
        ("Qwen/Qwen3-30B-A3B-Instruct-2507", 1, 96, 930, 2659),
        ("Qwen/Qwen3-30B-A3B-Instruct-2507", 2, 1024, 930, 12640),
        ("Qwen/Qwen3-30B-A3B-Thinking-2507", 1, 1024, 8000, 955),
        ("Qwen/Qwen3-30B-A3B-Thinking-2507", 2, 1024, 8000, 4664),
    ],
)
def test_the_assumed_speed_is_near_published_ones(
    name: str, gpus: int, sequences: int, answer: int, published: int
) -> None:
    speed, _ = engine_speed(sized(name), engine(gpus, sequences), H100, answer / 2)
    assert speed is not None
    # Servers, and an earlier vLLM: with hundreds of sequences they take longer for each.
    assert 0.85 < speed / published < (1.2 if sequences < 512 else 1.9)


def test_the_assumed_speed_lies_between_the_bare_engine_and_the_first_run_on_a_gpu() -> None:
    # One H200, 512 sequences of 150 + 384 tokens: 26,400 bare, 16,820 with log-probabilities.
    model, in_flight = sized(QWEN_4B), 150 + 384 / 2
    cache = 512 * sequence_bytes(model, 1, in_flight)
    step = (2 * model.num_parameters + cache) / (REACHED * 4.8e12) + 512 * SEQUENCE_SECONDS
    assert 16_820 < 512 / step < 26_400


def test_a_measured_speed_is_believed_and_idle_gpus_are_named() -> None:
    model = sized(QWEN_4B)
    config = engine(1, 64, "plan.engine_tokens_per_second=1234")
    assert engine_speed(model, config, H100, 1000)[0] == 1234
    assert "uses 1 of 8 GPUs" in engine_speed(model, engine(1, 64), H100, 1000)[1]
    assert "GPUs:" not in engine_speed(model, engine(8, 64), H100, 1000)[1]


def test_the_control_of_a_soft_training_takes_the_time_of_a_plain_one(tmp_path: Path) -> None:
    def seconds(objective: str) -> list[float | None]:
        found = hours(
            tmp_path, "model=qwen3_4b", "experiment=controls", "hardware=gpu_8", *GIVEN, objective
        )
        return [part.seconds for part in found.parts if part.name.startswith("training")]

    plain, plain_control = seconds("objective=cross_entropy")
    soft, soft_control = seconds("objective=soft")
    assert plain is not None and soft is not None
    assert plain_control == plain
    assert soft_control == pytest.approx(plain, rel=0.02)  # beside a frozen copy of the weights
    assert soft > 1.2 * plain


def test_all_that_is_generated_and_trained_is_counted(tmp_path: Path) -> None:
    found = hours(
        tmp_path, "model=tiny", "experiment=controls", "hardware=cpu", *GIVEN,
        "eval.max_new_tokens=512", "eval.limit=null", "eval.validation=mbpp_validation",
        "plan.engine_tokens_per_second=100", "plan.tokens_per_second=50",
    )  # fmt: skip
    tokens = {part.name: part.num_tokens for part in found.parts}
    assert tokens == {
        "sampling": 100 * 1000,
        "sampling of the control t1": 100 * 1000,
        "training": 6 * 4 * 1000,
        "training of the control t1": 6 * 4 * 1000,
        # Four temperatures for three models, the base model's own among them; two answers each.
        "answers that choose": 12 * 2 * 90 * 500,
        "answers that are reported": 5 * 2 * (164 + 500) * 500,
    }
    generated = sum(n for name, n in tokens.items() if n and "training" not in name)
    assert found.seconds == pytest.approx(generated / 100 + 2 * 24_000 / 50)
    assert not found.is_upper_bound


def test_candidates_are_counted_in_the_place_of_the_samples_chosen_from_them(
    tmp_path: Path,
) -> None:
    tiny = ("model=tiny", "hardware=cpu", "experiment=power", *GIVEN, "stages=[plan,sample]")
    (sampling,) = hours(tmp_path, *tiny, "sampler.num_samples=2").parts
    assert sampling.num_tokens == 100 / 2 * 8 * 1000
    assert "100 samples x 4 candidates each" in sampling.work


def test_only_the_stages_that_run_are_counted(tmp_path: Path) -> None:
    tiny = ("model=tiny", "hardware=cpu", *GIVEN)
    alone = [part.name for part in hours(tmp_path, *tiny, "stages=[plan]").parts]
    assert alone == ["sampling", "training", "answers that are reported"]
    some = [part.name for part in hours(tmp_path, *tiny, "stages=[plan,sample]").parts]
    assert some == ["sampling"]


def test_what_is_not_known_leaves_the_whole_unknown(tmp_path: Path) -> None:
    found = hours(tmp_path, "model=qwen3_4b", "hardware=gpu_8", "data=hub", "data.hub_name=a/b")
    assert found.parts[0].seconds is None
    assert found.seconds is None
    assert not found.is_upper_bound


def test_problems_are_counted_without_their_files() -> None:
    settings = compose_config("model=tiny", "eval.limit=null").eval
    assert count_problems(settings, "lcb_v6", "all") == 131
    assert count_problems(settings, "mbpp", "validation") == 125
    assert count_problems(settings, "mbpp", "test") == 375
    assert count_problems(settings, "jsonl", "all") is None
    limited = dataclasses.replace(settings, limit=48)
    assert count_problems(limited, "humaneval", "all") == 48


def test_every_round_samples_trains_and_answers_again_but_the_base_model(tmp_path: Path) -> None:
    run = ("model=qwen3_4b", "hardware=gpu_1", "eval.controls=[base_swept,t1]",
           "eval.temps=[0.5,1.0]", *GIVEN)  # fmt: skip
    one, three = (
        {part.name: part.num_tokens for part in hours(tmp_path, *run, *more).parts}
        for more in ([], ["rounds=3"])
    )
    assert one.keys() == three.keys()
    for name in (
        "sampling",
        "sampling of the control t1",
        "training",
        "training of the control t1",
    ):
        assert three[name] == 3 * one[name]
    # Of t1, tuned and, where settings are chosen, base: two settings each; reported, base twice.
    assert three["answers that choose"] == pytest.approx(
        (2 * 3 * 2 + 3) / (2 * 2 + 3) * one["answers that choose"]
    )
    assert three["answers that are reported"] == pytest.approx(
        (2 + 2 * 3) / (2 + 2) * one["answers that are reported"]
    )
