"""Steps, tokens, operations, time and disk, against numbers worked out by hand."""

import dataclasses
from collections.abc import Callable
from pathlib import Path

import pytest
from corpora import write_corpus
from runs import compose_config

from ssd.artifacts.files import read_json
from ssd.config.choices import AdapterType, Attention, DataSource
from ssd.config.settings import AdapterConfig, DataConfig, RunConfig
from ssd.plan.architecture import KNOWN, Architecture, measure
from ssd.plan.work import (
    Work,
    disk_bytes,
    estimate,
    flop_per_token,
    longest_row,
    mean_row,
    num_earlier,
    utilization,
)
from ssd.plan.workload import Workload, find_workload
from ssd.run import Run, lineage

FULL, LORA = AdapterConfig(), AdapterConfig(type=AdapterType.lora)
PAPER = ("hardware=gpu_8", "hardware.activation_checkpointing=full")
HUB = ("data=hub", "data.hub_name=org/name")


def sized(name: str) -> Architecture:
    train = compose_config("model=tiny").train
    return measure(read_json(KNOWN)[name], "the table", train, Attention.auto, LORA)


def workload(config: RunConfig) -> Workload:
    return find_workload(config, Path("nowhere"))


def test_the_papers_run_is_7_9_epochs_of_240_million_tokens(tmp_path: Path) -> None:
    config = compose_config("model=qwen3_4b", f"output_dir={tmp_path}", *PAPER)
    model = sized("Qwen/Qwen3-4B-Instruct-2507")
    work = estimate(model, config, workload(config))
    assert work.epochs == pytest.approx(7.868, abs=1e-3)
    assert (work.num_tokens, work.tokens_per_step) == (240e6, 96e3)
    assert work.tokens_per_second is not None
    assert work.tokens_per_second * work.flop_per_token == pytest.approx(0.248 * 989e12)
    assert work.seconds == pytest.approx(240e6 / (8 * work.tokens_per_second))
    measured = dataclasses.replace(
        config, plan=dataclasses.replace(config.plan, tokens_per_second=6e3)
    )
    assert estimate(model, measured, workload(config)).seconds == 240e6 / (8 * 6e3)


def test_what_crosses_the_bus_takes_its_time(tmp_path: Path) -> None:
    typed = ("model=qwen3_30b", f"output_dir={tmp_path}")
    model = sized("Qwen/Qwen3-30B-A3B-Instruct-2507")
    here, there = (
        estimate(model, config, workload(config))
        for config in (
            compose_config(*typed, f"hardware={name}", "hardware.activation_checkpointing=full")
            for name in ("gpu_8", "gpu_8_80gb")
        )
    )
    moved = 2 * 48 * 2 * 2048  # there and back, all layers, bf16
    more = 1 / there.tokens_per_second - 1 / here.tokens_per_second
    assert more == pytest.approx(moved / 25e9)
    assert "bus of 25 GB/s" in there.speed_source


def test_operations_per_token_are_six_per_parameter_and_causal_attention() -> None:
    dense = sized("Qwen/Qwen3-4B-Instruct-2507")
    total, attention = flop_per_token(dense, FULL, 16_384)
    assert attention == 6 * 36 * 16_384 * 4096  # 6 L S Q: half of the context is seen on average
    assert total - attention == 6 * dense.num_parameters
    routed = sized("Qwen/Qwen3-30B-A3B-Instruct-2507")
    assert flop_per_token(routed, FULL, 0)[0] == 6 * routed.num_active
    frozen, _ = flop_per_token(dense, LORA, 0)
    assert frozen == 4 * dense.num_parameters + 6 * dense.num_adapter


def test_an_objective_that_reads_the_base_adds_its_forward_pass() -> None:
    dense = sized("Qwen/Qwen3-4B-Instruct-2507")
    usual, attention = flop_per_token(dense, FULL, 16_384)
    total, with_base = flop_per_token(dense, FULL, 16_384, reads_base=True)
    assert total == pytest.approx(usual * 4 / 3)
    assert with_base == pytest.approx(attention * 4 / 3)


def test_a_window_bounds_the_work_of_attention() -> None:
    _, attention = flop_per_token(sized("openai/gpt-oss-20b"), FULL, 1024)
    windowed = 128 - 128**2 / 2048
    assert attention == 12 * 64 * 64 * (12 * windowed + 12 * 512)


def test_a_cpus_time_follows_from_its_own_rate(tmp_path: Path) -> None:
    def planned(*overrides: str) -> Work:
        config = compose_config("model=tiny", "hardware=cpu", f"output_dir={tmp_path}", *overrides)
        return estimate(sized("tiny"), config, workload(config))

    alone, given = planned(), planned("plan.peak_tflops=0.2")
    assert "this machine's" in alone.speed_source
    assert given.tokens_per_second == 0.75 * 0.2e12 / given.flop_per_token
    # Two processes share the cores.
    assert planned("hardware.devices=2").seconds == pytest.approx(alone.seconds)


def test_unknown_prompts_mean_unknown_epochs_and_unknown_lengths_a_bound(tmp_path: Path) -> None:
    lengths = "plan.tokens_per_sample=null"
    config = compose_config("model=qwen3_4b", *PAPER, *HUB, lengths, f"output_dir={tmp_path}")
    found = workload(config)
    assert (found.num_samples, found.mean_tokens, found.is_upper_bound) == (None, 65_536, True)
    assert "plan.num_samples" in found.samples_source
    assert estimate(sized(config.model.name), config, found).epochs is None


def test_a_hub_sets_own_count_is_assumed_and_its_limit_kept(tmp_path: Path) -> None:
    several = ("sampler.num_samples=2", f"output_dir={tmp_path}")
    found = workload(compose_config("model=qwen3_4b", *several))
    assert (found.num_samples, found.mean_tokens) == (2 * 10_168, 3000)
    assert "assumed" in found.samples_source and "assumed" in found.tokens_source
    limited = workload(compose_config("model=qwen3_4b", "data.limit=100", *several))
    assert limited.num_samples == 200
    assert workload(compose_config("model=qwen3_4b", "data=leetcode")).num_samples == 1890


@pytest.mark.parametrize(
    ("recompute", "measured"), [("full", 9450), ("selective", 10_470), ("none", 11_010)]
)
def test_the_speed_is_that_of_a_measured_training(
    recompute: str, measured: int, tmp_path: Path
) -> None:
    config = compose_config(
        "model=qwen3_4b", "hardware=gpu_1", f"hardware.activation_checkpointing={recompute}",
        "plan.tokens_per_sample=1500", f"output_dir={tmp_path}",
    )  # fmt: skip
    model = sized(config.model.name)
    work = estimate(model, config, workload(config))
    assert work.tokens_per_second == pytest.approx(measured, rel=0.05)


def test_compiled_layers_are_faster() -> None:
    eager, config = (
        compose_config("model=qwen3_4b", f"hardware.compile_training={compiles}", *PAPER)
        for compiles in ("false", "true")
    )
    model = sized(config.model.name)
    assert utilization(model, config) == 0.341 > utilization(model, eager)
    assert utilization(sized("Qwen/Qwen3-30B-A3B-Instruct-2507"), config) == 0.18


def test_layers_that_keep_everything_take_the_time_of_no_recomputation() -> None:
    model = sized("Qwen/Qwen3-4B-Instruct-2507")

    def time(*overrides: str) -> float:
        config = compose_config("model=qwen3_4b", "hardware.compile_training=true", *overrides)
        return 1 / utilization(model, config)

    layers = "hardware.recompute_layers"
    none, full = time("hardware.activation_checkpointing=none"), time(*PAPER)
    assert time(*PAPER, f"{layers}=9") == pytest.approx(0.25 * full + 0.75 * none)
    assert time(*PAPER, f"{layers}=0") == none
    assert time(*PAPER, f"{layers}=99") == full


def test_prompts_on_this_disk_are_counted(tmp_path: Path) -> None:
    config = compose_config("model=tiny", "sampler.num_samples=3", f"output_dir={tmp_path}")
    assert workload(config).num_samples == 36


def test_a_finished_corpus_is_measured(make_run: Callable[..., Run]) -> None:
    run = make_run("train.seq_len=50")
    write_corpus(run, [(10, 10), (10, 30), (20, 40)])
    error = workload(run.config)
    assert (error.num_samples, error.is_upper_bound, error.longest_tokens) == (3, False, 50)
    assert error.mean_tokens == pytest.approx(110 / 3)
    assert error.context_tokens == pytest.approx((20**2 + 40**2 + 50**2) / 110)
    skipping = dataclasses.replace(
        run.config.train, long_samples=type(run.config.train.long_samples).skip
    )
    found = workload(dataclasses.replace(run.config, train=skipping))
    assert (found.num_samples, found.mean_tokens, found.longest_tokens) == (2, 30, 40)
    named = dataclasses.replace(run.config.train, corpus=str(lineage.corpus(run).folder))
    assert workload(dataclasses.replace(run.config, train=named)) == error


def test_a_hub_corpus_is_found_without_asking_for_its_commit(make_run: Callable[..., Run]) -> None:
    run = make_run()
    hub = DataConfig(name="hub", source=DataSource.hub, hub_name="org/name")
    pinned = dataclasses.replace(hub, revision="abc")
    sampled = dataclasses.replace(run, config=dataclasses.replace(run.config, data=pinned))
    write_corpus(sampled, [(10, 10)])
    asked = dataclasses.replace(run.config, data=hub)
    assert workload(asked).num_samples == 1
    other = dataclasses.replace(hub, hub_name="org/other")
    assert workload(dataclasses.replace(run.config, data=other)).num_samples is None


def test_rows_are_as_long_as_training_makes_them(tmp_path: Path) -> None:
    config = compose_config("model=qwen3_4b", "hardware=gpu_8")
    assert longest_row(config, 65_536) == 65_536
    assert longest_row(config, 5_000) == 20_000  # four samples of a step on each device
    assert mean_row(config, 3_000) == 12_000
    shorter = compose_config("model=qwen3_4b", "hardware=gpu_8", "hardware.micro_batch_tokens=8192")
    assert longest_row(shorter, 65_536) == 65_536  # one sample may exceed it
    assert longest_row(shorter, 5_000) == 8_192
    assert mean_row(shorter, 3_000) == 6_000


def test_disk_holds_three_checkpoints_and_the_exported_model() -> None:
    model = sized("Qwen/Qwen3-4B-Instruct-2507")
    count = model.num_parameters
    full = compose_config("model=qwen3_4b")
    assert disk_bytes(model, full) == {
        "checkpoints to resume from": 24 * count,
        "the next one while it is written": 12 * count,
        "exported model": 2 * count,
    }
    once = disk_bytes(model, compose_config("model=qwen3_4b", "train.checkpoint_every=2500"))
    assert once == {"checkpoints to resume from": 12 * count, "exported model": 2 * count}
    adapter = disk_bytes(model, compose_config("model=qwen3_4b", "adapter=lora"))
    assert adapter["checkpoints to resume from"] == 24 * model.num_adapter
    assert adapter["exported adapter"] == 4 * model.num_adapter
    unmerged = compose_config("model=qwen3_4b", "adapter=lora", "adapter.merge=false")
    assert "exported model" not in disk_bytes(model, unmerged)


def test_kept_checkpoints_are_weights_only() -> None:
    model = sized("Qwen/Qwen3-4B-Instruct-2507")
    config = compose_config("model=qwen3_4b", "train.keep_checkpoints=null")
    assert num_earlier(config.train) == 9
    sizes = disk_bytes(model, config, num_trainings=2)
    assert sizes["earlier checkpoints"] == 7 * 4 * model.num_parameters  # two are there whole
    assert sizes["the same of the control t1"] == (9 * 4 + 2) * model.num_parameters
    assert num_earlier(compose_config("model=qwen3_4b", "train.keep_checkpoints=3").train) == 2


def test_every_rounds_models_stay_on_the_disk() -> None:
    model = sized("Qwen/Qwen3-4B-Instruct-2507")
    config = compose_config("model=qwen3_4b", "rounds=3")
    sizes = disk_bytes(model, config, num_trainings=6)
    assert sizes["the same of the other trainings"] == 5 * 2 * model.num_parameters
