"""What `auto` and null become: by the card's memory, typed settings untouched, CPUs as ever."""

import dataclasses
from pathlib import Path

import pytest
from runs import compose_config

from ssd.config import HardwareConfig, Recompute
from ssd.plan.plan import Plan, make_plan

QWEN = ("model=qwen3_4b", "experiment=short", "hardware=gpu_1")


def planned(folder: Path, gib: float, *overrides: str) -> Plan:
    memory = f"plan.device_memory_gib={gib}"
    return make_plan(compose_config(f"output_dir={folder}", memory, *overrides), folder)


def chosen(folder: Path, gib: float, *overrides: str) -> HardwareConfig:
    return planned(folder, gib, *overrides).config.hardware


def test_more_memory_means_less_recomputation_and_longer_rows(tmp_path: Path) -> None:
    kinds = [chosen(tmp_path, gib, *QWEN).activation_checkpointing for gib in (90, 111, 140, 1000)]
    order = [Recompute.full, Recompute.selective, Recompute.none, Recompute.none]
    assert kinds == order
    rows = [chosen(tmp_path, gib, *QWEN).micro_batch_tokens or 0 for gib in (140, 300, 1000)]
    assert rows == sorted(rows) and rows[0] == 8192 and rows[-1] == 65_536


@pytest.mark.parametrize("gib", [16, 24, 40, 80, 141])
def test_what_is_chosen_fits_where_anything_does(gib: float, tmp_path: Path) -> None:
    for overrides in (QWEN, ("model=qwen25_coder_0_5b", "hardware=gpu_1")):
        found = planned(tmp_path, gib, *overrides)
        if "training" not in {misfit.what for misfit in found.misfits}:
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
        "hardware.compile_training=false",
    )  # fmt: skip
    asked = compose_config(*QWEN, *typed).hardware
    assert chosen(tmp_path, 1000, *QWEN, *typed) == asked
    assert chosen(tmp_path, 16, *QWEN, *typed) == asked


def test_nothing_that_changes_numbers_is_chosen(tmp_path: Path) -> None:
    found = planned(tmp_path, 40, *QWEN)
    assert found.misfits
    assert found.config == dataclasses.replace(found.asked, hardware=found.config.hardware)


def test_a_cpu_keeps_its_settings(tmp_path: Path) -> None:
    hardware = chosen(tmp_path, 1, "model=tiny", "hardware=cpu")
    assert hardware.activation_checkpointing is Recompute.none
    assert (hardware.max_num_seqs, hardware.compile_engine) == (64, False)
    assert hardware.micro_batch_tokens is None
