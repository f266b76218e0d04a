"""Bytes per parameter as the trainer spends them, and the devices they are set against."""

import dataclasses
import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from runs import compose_config

from ssd.artifacts.files import read_json
from ssd.config.choices import Accelerator
from ssd.config.settings import HardwareConfig, RunConfig
from ssd.generation.vllm_memory import memory_share
from ssd.plan.architecture import KNOWN, Architecture, measure
from ssd.plan.memory import INPUTS, NF4, RESERVE, Memory, host_bytes, memory
from ssd.runtime.devices import GIB, UNKNOWN, device_memory, find_card, peak_tflops
from ssd.runtime.hardware import assume

ROW = 2**14


EAGER = "hardware.compile_training=false"


def planned(*overrides: str, tokens: int = ROW) -> tuple[Memory, Architecture, RunConfig]:
    config = compose_config("model=qwen3_4b", "hardware.activation_checkpointing=full", *overrides)
    config = dataclasses.replace(config, hardware=assume(config.hardware))
    fields = read_json(KNOWN)[config.model.name]
    attention = config.hardware.attention
    model = measure(fields, "the table", config.train, attention, config.adapter)
    return memory(model, config, tokens), model, config


def sizes(needed: Memory) -> dict[str, float]:
    return {item.name: item.num_bytes for item in needed.items}


def test_full_fine_tuning_takes_sixteen_bytes_per_parameter_shared_by_fsdp() -> None:
    for hardware, shares in (("gpu_1", 1), ("gpu_8", 8)):
        needed, model, _ = planned(f"hardware={hardware}")
        item = sizes(needed)
        count = model.num_parameters / shares
        assert (item["weights"], item["gradients"]) == (4 * count, 4 * count)
        assert item["optimizer state"] == 8 * count


def test_an_objective_that_reads_the_base_holds_its_weights_a_second_time() -> None:
    for hardware, shares in (("gpu_1", 1), ("gpu_8", 8)):
        needed, model, _ = planned(f"hardware={hardware}", "objective=soft")
        assert sizes(needed)["frozen copy of the base"] == 4 * model.num_parameters / shares
    adapted, _, _ = planned("hardware=gpu_1", "objective=soft", "adapter=lora")
    assert "frozen copy of the base" not in sizes(adapted)


def test_a_soft_target_that_sorts_the_vocabulary_takes_more_logits() -> None:
    def head(*overrides: str) -> float:
        return sizes(planned("hardware=gpu_1", *overrides)[0])["head and loss"]

    soft = "objective=soft"
    assert head() < head(soft) < head(soft, "truncation@objective.truncation=top_p80")


def test_every_machine_shares_further() -> None:
    one, _, _ = planned("hardware=gpu_8")
    two, _, _ = planned("hardware=gpu_8", "hardware.num_nodes=2")
    assert sizes(two)["weights"] == sizes(one)["weights"] / 2
    assert sizes(two)["activations"] == sizes(one)["activations"]


def test_fsdp_gathers_two_layers_and_the_root_in_the_products_type() -> None:
    needed, model, _ = planned("hardware=gpu_8")
    gathered = 2 * model.layer_parameters + model.root_parameters
    assert sizes(needed)["gathered weights"] == 2 * gathered
    single, _, _ = planned("hardware=gpu_8", "train.precision=fp32")
    assert sizes(single)["gathered weights"] == 4 * gathered


def test_autocast_keeps_copies_of_matrices() -> None:
    needed, model, _ = planned("hardware=gpu_1", EAGER)
    matrices = sizes(needed)["bf16 copies of weights"] / 2
    assert matrices == pytest.approx(model.num_parameters, rel=1e-3)  # all but norms
    assert "bf16 copies of weights" not in sizes(planned("train.precision=fp32")[0])
    copied, _, _ = planned("hardware=gpu_8", "hardware.strategy=ddp")
    assert sizes(copied)["weights"] == 4 * model.num_parameters
    routed, model, _ = planned("model=qwen3_30b", "hardware=gpu_1", EAGER)
    assert sizes(routed)["bf16 copies of weights"] == 2 * (model.num_cast + model.num_experts / 48)


def test_frozen_weights_take_two_bytes_alone_and_four_sharded() -> None:
    alone, model, _ = planned("hardware=gpu_1", "adapter=lora")
    assert sizes(alone)["weights"] == 2 * model.num_parameters + 4 * model.num_adapter
    assert sizes(alone)["optimizer state"] == 8 * model.num_adapter
    shared, _, _ = planned("hardware=gpu_8", "adapter=lora")
    assert sizes(shared)["weights"] == 4 * (model.num_parameters + model.num_adapter) / 8


def test_qlora_quantises_linear_layers_and_nothing_else() -> None:
    needed, model, _ = planned("hardware=gpu_1", "adapter=qlora")
    embedding = 151_936 * 2560
    norms = 36 * (2 * 2560 + 2 * 128) + 2560
    assert model.num_parameters - model.num_linear == embedding + norms
    frozen = NF4 * model.num_linear + 2 * (embedding + norms)
    assert sizes(needed)["weights"] == frozen + 4 * model.num_adapter
    assert 0.5 < NF4 < 0.55


def test_adapters_on_experts_cost_the_experts_of_a_layer_twice() -> None:
    overrides = ("model=qwen3_30b", "hardware=gpu_8", "adapter=lora", "adapter.experts=true")
    assert "experts with their adapters" not in sizes(planned(*overrides[:3])[0])
    needed, model, _ = planned(*overrides)
    assert sizes(needed)["experts with their adapters"] == 2 * 2 * model.num_experts / 48
    assert model.num_expert_adapter == 16 * 48 * 128 * (2048 + 2 * 768 + 768 + 2048)
    kept, _, _ = planned(*overrides, "hardware.activation_checkpointing=none")
    assert sizes(kept)["experts with their adapters"] == 2 * 49 * model.num_experts / 48


def test_eight_bit_moments_leave_embeddings_in_32_bits() -> None:
    needed, model, _ = planned("hardware=gpu_1", "optimizer=adamw8bit")
    embedding = 151_936 * 2560
    state = sizes(needed)["optimizer state"]
    assert state == pytest.approx(
        8 * embedding + 2.03 * (model.num_parameters - embedding), rel=1e-2
    )
    paged, _, _ = planned("hardware=gpu_1", "optimizer=paged_adamw8bit")
    assert sizes(paged)["optimizer state, in pages"] == state


def test_offloaded_state_counts_as_main_memory() -> None:
    here, _, _ = planned("hardware=gpu_8")
    there, model, config = planned("hardware=gpu_8", "hardware.cpu_offload=true")
    assert there.on_host == 16 * model.num_parameters / 8
    assert here.needed - there.needed == there.on_host
    host = host_bytes(model, config, there)
    assert host["offloaded state"] == 16 * model.num_parameters
    assert host["loading the weights"] == 2 * model.num_parameters


def test_moments_that_shard_take_nine_bits_of_each_weight() -> None:
    needed, model, _ = planned("hardware=gpu_8", "optimizer=adamw8bit_sharded")
    embedding = 151_936 * 2560
    moments = 8 * embedding + 2 * (1 + 4 / 64) * (model.num_parameters - embedding)
    assert sizes(needed)["optimizer state"] == moments / 8


def test_inputs_that_are_moved_count_as_main_memory() -> None:
    here, model, _ = planned("model=qwen3_30b", "hardware=gpu_8")
    there, _, config = planned("model=qwen3_30b", "hardware=gpu_8_80gb")
    state = 2 * 2048 * ROW  # bf16
    # Of 48 layers, the last one's input is on the device in any case; two are on their way.
    assert here.needed - there.needed == (47 - 2) * state
    assert there.on_host == 48 * state
    host = host_bytes(model, config, there)
    assert host[INPUTS] == 8 * 48 * state
    assert host["exporting"] == 6 * model.num_parameters
    # PyTorch takes pinned memory by powers of two.
    longer, _, _ = planned("model=qwen3_30b", "hardware=gpu_8_80gb", tokens=ROW + 1)
    assert longer.on_host == 2 * there.on_host


FULL, SELECTIVE, NONE = (
    f"hardware.activation_checkpointing={kind}" for kind in ("full", "selective", "none")
)


@pytest.mark.parametrize(
    "overrides",
    [
        ("hardware=gpu_1",),
        ("hardware=gpu_8",),
        ("model=qwen3_30b", "hardware=gpu_1"),
        ("model=qwen3_30b", "hardware=gpu_8", "adapter=lora", "adapter.experts=true"),
    ],
)
@pytest.mark.parametrize("kind", [FULL, SELECTIVE])
def test_every_recomputed_layer_saves_memory_but_the_last(
    overrides: tuple[str, ...], kind: str
) -> None:
    everywhere, model, config = planned(*overrides, kind)
    needed = []
    for layers in range(model.num_layers + 1):
        hardware = dataclasses.replace(config.hardware, recompute_layers=layers)
        some = dataclasses.replace(config, hardware=hardware)
        needed.append(memory(model, some, ROW).needed)
    assert needed[0] == planned(*overrides, NONE)[0].needed
    assert needed[-1] == needed[-2] == everywhere.needed
    assert all(fewer > more for fewer, more in itertools.pairwise(needed[:-1]))


MEASURED = [
    # Peaks of the allocator in GiB on one H200: Qwen3-4B's shape, documents of 1,500 tokens on
    # average, 24,000 tokens a step in rows of 16,384 (of 8,192 where nothing is recomputed).
    ((FULL,), 12_000, 74.7),
    ((SELECTIVE,), 12_000, 103.0),
    ((NONE,), 8_000, 118.6),
    ((FULL, "optimizer=adamw8bit"), 12_000, 54.4),
    ((FULL, "adapter=lora"), 12_000, 13.8),
    ((FULL, "adapter=qlora"), 12_000, 7.9),
]


@pytest.mark.parametrize(("overrides", "tokens", "peak"), MEASURED)
def test_the_memory_is_that_of_measured_trainings(
    overrides: tuple[str, ...], tokens: int, peak: float
) -> None:
    needed, _, config = planned("hardware=gpu_1", EAGER, *overrides, tokens=tokens)
    allocated = needed.needed - RESERVE[config.hardware.accelerator]
    assert 0.96 <= allocated / GIB / peak <= 1.06


@pytest.mark.parametrize(
    ("recompute", "tokens", "peak"), [(FULL, 12_000, 68.0), (NONE, 8_000, 101.0)]
)
def test_compiled_layers_keep_less_and_the_plan_no_less_than_measured(
    recompute: str, tokens: int, peak: float
) -> None:
    eager, _, _ = planned("hardware=gpu_1", recompute, EAGER, tokens=tokens)
    needed, _, config = planned("hardware=gpu_1", recompute, tokens=tokens)
    assert needed.needed < eager.needed
    allocated = needed.needed - RESERVE[config.hardware.accelerator]
    assert 1 <= allocated / GIB / peak <= 1.1


def test_a_plan_believes_in_gpus_that_are_not_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    wanted = HardwareConfig(accelerator=Accelerator.gpu, devices=8, compile_training=True)
    assert assume(wanted) == wanted  # what memory decides stays open
    assert find_card(wanted) is None
    assert device_memory(wanted, None) == (80 * GIB, "assumed; set plan.device_memory_gib")
    assert device_memory(wanted, 141) == (141 * GIB, "plan.device_memory_gib")
    here: Any = assume(HardwareConfig())
    assert (here.accelerator, here.devices) == (Accelerator.cpu, 1)
    assert device_memory(here, None)[1] == "this machine's main memory"


def test_a_plan_uses_the_gpus_that_are_here(
    show_gpus: Callable[[str, int, int], None],
) -> None:
    show_gpus("NVIDIA H200", 143771, 2)
    here = assume(HardwareConfig())
    assert (here.accelerator, here.devices) == (Accelerator.gpu, 2)
    assert device_memory(here, None) == (143_771 * 2**20, "this machine's GPUs")
    card = find_card(here)
    assert card is not None
    assert (card.tflops, card.bandwidth) == (989, 4.8)
    more = HardwareConfig(accelerator=Accelerator.gpu, devices=8)
    assert device_memory(more, None) == (143_771 * 2**20, "GPUs like this machine's")


def test_what_other_programs_hold_of_a_gpu_is_not_planned_with(
    show_gpus: Callable[..., None],
) -> None:
    show_gpus("NVIDIA H100", 81920, 1, used=30 * 1024 + 500)
    capacity, source = device_memory(assume(HardwareConfig()), None)
    assert capacity == 50 * GIB
    assert source == "this machine's GPUs, less 30.0 GiB that other programs hold"
    share = memory_share(Path(), assume(HardwareConfig()))
    assert share == pytest.approx(0.9 * 50 / 80)


@pytest.mark.parametrize(("visible", "gib"), [(None, 8), ("1", 80), ("GPU-1,GPU-0", 80), ("0", 8)])
def test_of_unequal_gpus_those_count_that_are_used(
    show_gpus: Callable[..., None], monkeypatch: pytest.MonkeyPatch, visible: str | None, gib: int
) -> None:
    show_gpus("NVIDIA L4", 8 * 1024, 1, others=(("NVIDIA H100", 80 * 1024),))
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    alone = HardwareConfig(accelerator=Accelerator.gpu, devices=1)
    assert device_memory(alone, None)[0] == gib * GIB
    card = find_card(alone)
    assert card is not None
    assert card.name == ("L4" if gib == 8 else "H100")
    assert find_card(HardwareConfig(accelerator=Accelerator.gpu, devices=2)) is not None


def test_a_gpu_whose_memory_nobody_tells_is_assumed_to_have_80_gib(
    show_gpus: Callable[..., None],
) -> None:
    show_gpus("NVIDIA GB10", "[N/A]", 1)
    assert peak_tflops(assume(HardwareConfig())) == (989, "an H100's ")
    assert device_memory(assume(HardwareConfig()), None) == (80 * GIB, UNKNOWN)


def test_a_slice_of_a_gpu_counts_as_large_as_it_is(
    show_gpus: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    slices = (
        "  MIG 1g.10gb     Device  0: (UUID: MIG-aaa)",
        "  MIG 1c.3g.40gb  Device  1: (UUID: MIG-bbb)",
    )
    show_gpus("NVIDIA H100", 81559, 1, slices=slices)
    assert device_memory(assume(HardwareConfig()), None)[0] == 10e9
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "MIG-bbb")
    assert device_memory(assume(HardwareConfig()), None)[0] == 40e9


@pytest.mark.parametrize(
    ("name", "bandwidth"),
    [
        ("NVIDIA GH200 480GB", 4.0),
        ("NVIDIA H200", 4.8),
        ("NVIDIA H100 80GB HBM3", 3.35),
        ("NVIDIA H100 PCIe", 2.0),
        ("NVIDIA A100-SXM4-80GB", 2.04),
        ("NVIDIA L40S", 0.86),
        ("NVIDIA L40", 0.86),
        ("NVIDIA L4", 0.3),
    ],
)
def test_a_card_is_found_by_what_nvidia_smi_calls_it(
    show_gpus: Callable[[str, int, int], None], name: str, bandwidth: float
) -> None:
    show_gpus(name, 81559, 1)
    card = find_card(assume(HardwareConfig()))
    assert card is not None
    assert card.bandwidth == bandwidth


def test_a_later_round_beside_an_adapter_holds_the_model_that_drew_its_samples() -> None:
    rounds = ("hardware=gpu_1", "objective=soft", "adapter=lora", "rounds=2")
    fresh, model, _ = planned(*rounds)
    assert sizes(fresh)["frozen copy of the base"] == 2 * model.num_parameters
    onward, _, _ = planned(*rounds, "rounds.train_from=previous")
    assert "frozen copy of the base" not in sizes(onward)
