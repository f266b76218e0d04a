"""What `auto` and null become: by the card's memory, typed settings untouched, CPUs as ever."""

import dataclasses
from pathlib import Path

import pytest
from runs import compose_config

from ssd.config.choices import Recompute
from ssd.config.settings import HardwareConfig
from ssd.plan.choice import TIGHT
from ssd.plan.plan import Plan, make_plan

QWEN = ("model=qwen3_4b", "experiment=short", "hardware=gpu_1")


def planned(folder: Path, gib: float, *overrides: str) -> Plan:
    memory = f"plan.device_memory_gib={gib}"
    return make_plan(compose_config(f"output_dir={folder}", memory, *overrides), folder)


def chosen(folder: Path, gib: float, *overrides: str) -> HardwareConfig:
    return planned(folder, gib, *overrides).config.hardware


EAGER = "hardware.compile_training=false"


def test_more_memory_means_fewer_recomputed_layers_and_longer_rows(tmp_path: Path) -> None:
    found = [chosen(tmp_path, gib, *QWEN) for gib in (75, 85, 95, 105, 115, 140)]
    layers = [hardware.num_recomputed(36) for hardware in found]
    assert layers == sorted(layers, reverse=True)
    assert len(set(layers)) == len(found) and layers[-1] == 0
    assert {hardware.activation_checkpointing for hardware in found[1:-1]} == {Recompute.full}
    assert found[-1].activation_checkpointing is Recompute.none
    rows = [chosen(tmp_path, gib, *QWEN).micro_batch_tokens or 0 for gib in (140, 300, 1000)]
    assert rows == sorted(rows) and rows[0] == 8192 and rows[-1] == 65_536


def test_memory_is_used_up_to_less_than_a_layer(tmp_path: Path) -> None:
    plan = planned(tmp_path, 100, *QWEN)
    layers = plan.config.hardware.recompute_layers
    assert layers is not None and 0 < layers < 36
    kept_more = planned(
        tmp_path, 100, *QWEN, "hardware.activation_checkpointing=full",
        f"hardware.recompute_layers={layers - 1}",
        f"hardware.micro_batch_tokens={plan.config.hardware.micro_batch_tokens}",
    )  # fmt: skip
    assert plan.memory.needed <= TIGHT * plan.capacity < kept_more.memory.needed


def test_the_kind_is_the_one_that_was_measured_to_take_less_time(tmp_path: Path) -> None:
    # Eager, selective recomputation costs a third of full recomputation, layer by layer.
    most = chosen(tmp_path, 115, *QWEN, EAGER)
    assert most.activation_checkpointing is Recompute.selective
    assert most.recompute_layers is not None and 0 < most.recompute_layers < 36
    # Where it does not save enough, full recomputation of some layers does.
    assert chosen(tmp_path, 85, *QWEN, EAGER).activation_checkpointing is Recompute.full


@pytest.mark.parametrize("gib", [16, 24, 40, 80, 141])
def test_what_is_chosen_fits_where_anything_does(gib: float, tmp_path: Path) -> None:
    for overrides in (QWEN, ("model=qwen25_coder_0_5b", "hardware=gpu_1")):
        found = planned(tmp_path, gib, *overrides)
        if "training" not in found.misfits:
            assert found.memory.needed <= found.capacity
        assert (found.config.hardware.micro_batch_tokens or 0) >= found.config.train.seq_len


def test_the_engine_takes_as_many_sequences_as_its_cache_holds(tmp_path: Path) -> None:
    few, many = (chosen(tmp_path, gib, *QWEN).max_num_seqs or 0 for gib in (16, 80))
    assert 1 <= few < many < 512
    assert chosen(tmp_path, 80, "model=smollm2_135m", "hardware=gpu_1").max_num_seqs == 512
    assert chosen(tmp_path, 16, *QWEN).compile_engine is True


def test_what_is_typed_wins(tmp_path: Path) -> None:
    typed = (
        "hardware.activation_checkpointing=selective", "hardware.micro_batch_tokens=10000",
        "hardware.max_num_seqs=7", "hardware.compile_engine=false",
        "hardware.tensor_parallel_size=2", "hardware.replicas=3", EAGER,
    )  # fmt: skip
    asked = compose_config(*QWEN, *typed).hardware
    assert chosen(tmp_path, 1000, *QWEN, *typed) == asked
    assert chosen(tmp_path, 16, *QWEN, *typed) == asked


def test_engines_side_by_side_take_as_few_gpus_each_as_draw_fastest(tmp_path: Path) -> None:
    def engines(*overrides: str) -> tuple[int | None, int | None]:
        hardware = chosen(tmp_path, 80, "hardware=gpu_8", *overrides)
        return hardware.tensor_parallel_size, hardware.replicas

    assert engines("model=qwen3_4b") == (1, 8)
    # The weights of 57 GiB leave one card of 80 too little cache to be worth it.
    assert engines("model=qwen3_30b") == (2, 4)
    assert engines("model=qwen3_4b", "hardware.tensor_parallel_size=4") == (4, 2)
    assert engines("model=qwen3_30b", "hardware.replicas=1")[1] == 1
    assert engines("model=qwen3_4b", "hardware.devices=1") == (1, 1)
    # How many a cluster holds is for the cluster to say.
    assert engines("model=qwen3_30b", "hardware/pool=ray") == (2, None)
    assert engines("model=qwen3_30b", "hardware/pool=ray", "hardware.replicas=20") == (2, 20)


def test_engines_over_gpus_that_share_no_heads_evenly_are_refused(tmp_path: Path) -> None:
    odd = ("model=qwen3_4b", "hardware=gpu_8", "hardware.tensor_parallel_size=3")
    assert "hardware.tensor_parallel_size=2" in planned(tmp_path, 80, *odd).misfits["engine"]


def test_a_typed_kind_or_number_of_layers_leaves_the_other_open(tmp_path: Path) -> None:
    full = chosen(tmp_path, 1000, *QWEN, "hardware.activation_checkpointing=full")
    assert full.num_recomputed(36) == 36
    few = chosen(tmp_path, 1000, *QWEN, "hardware.recompute_layers=5")
    assert few.activation_checkpointing is Recompute.full
    assert few.num_recomputed(36) == 5
    none = chosen(tmp_path, 1000, *QWEN, "hardware.recompute_layers=0")
    assert none.activation_checkpointing is Recompute.none


def test_nothing_that_changes_numbers_is_chosen(tmp_path: Path) -> None:
    found = planned(tmp_path, 40, *QWEN)
    assert found.misfits
    assert found.config == dataclasses.replace(found.open_config, hardware=found.config.hardware)


def test_a_cpu_keeps_its_settings(tmp_path: Path) -> None:
    hardware = chosen(tmp_path, 1, "model=tiny", "hardware=cpu")
    assert hardware.activation_checkpointing is Recompute.none
    assert (hardware.max_num_seqs, hardware.compile_engine) == (64, False)
    assert hardware.micro_batch_tokens is None
    few = chosen(tmp_path, 1, "model=tiny", "hardware=cpu", "hardware.recompute_layers=1")
    assert (few.activation_checkpointing, few.recompute_layers) == (Recompute.full, 1)
