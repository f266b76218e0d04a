"""The sizes that need no torch are those that are counted, and only what surely fits passes."""

import dataclasses
from pathlib import Path

import pytest
from runs import compose_config

from ssd.artifacts.files import read_json, write_json
from ssd.artifacts.names import PLAN
from ssd.config.choices import Attention
from ssd.config.settings import AdapterConfig
from ssd.plan.architecture import KNOWN, measure
from ssd.plan.enforcement import needs
from ssd.plan.hours import time_text
from ssd.plan.outline import FAMILIES, outline, outlined_needs, surely_fits
from ssd.plan.plan import make_plan
from ssd.runtime.devices import GIB, gib
from ssd.runtime.hardware import assume

SIZES = read_json(KNOWN)


@pytest.mark.parametrize("name", SIZES)
def test_sizes_without_torch_are_those_counted(name: str) -> None:
    fields = SIZES[name]
    sizes = outline(fields, "the table")
    if fields["model_type"] not in FAMILIES:
        assert sizes is None
        return
    train = compose_config("model=tiny").train
    counted = measure(fields, "the table", train, Attention.auto, AdapterConfig())
    assert sizes == dataclasses.replace(counted, num_adapter=0, num_expert_adapter=0)


def test_what_might_not_fit_is_left_to_the_plan() -> None:
    config = compose_config("model=smollm2_135m", "hardware=cpu")
    config = dataclasses.replace(config, hardware=assume(config.hardware))
    assert surely_fits(config, 16 * GIB, 20 * GIB, 1)
    assert not surely_fits(config, 4 * GIB, 20 * GIB, 1)
    assert not surely_fits(config, 16 * GIB, 2 * GIB, 1)
    short_cache = dataclasses.replace(
        config, eval=dataclasses.replace(config.eval, max_model_len=10**6)
    )
    assert not surely_fits(short_cache, 16 * GIB, 20 * GIB, 1)
    routed = compose_config("model=tiny_moe", "hardware=cpu")
    assert not surely_fits(routed, 16 * GIB, 20 * GIB, 1)


def test_what_a_run_takes_is_what_its_plan_counts(tmp_path: Path) -> None:
    config = compose_config("model=smollm2_135m", "hardware=cpu")
    config = dataclasses.replace(config, hardware=assume(config.hardware))
    plan = make_plan(config, tmp_path)
    assert outlined_needs(config, tmp_path) == (plan.hours, sum(plan.disk.values()))
    words = needs(config, tmp_path)
    assert time_text(plan.hours) in words
    assert gib(sum(plan.disk.values())) in words


def test_what_no_outline_counts_is_read_from_the_plan(tmp_path: Path) -> None:
    config = compose_config("model=tiny_moe", "hardware=cpu")
    config = dataclasses.replace(config, hardware=assume(config.hardware))
    plan = make_plan(config, tmp_path)
    write_json(tmp_path / PLAN, plan.numbers())
    assert outlined_needs(config, tmp_path) is None
    words = needs(config, tmp_path)
    assert words.startswith(time_text(plan.hours))  # at most
    assert gib(sum(plan.disk.values())) in words


def test_an_unknown_time_is_called_so(tmp_path: Path) -> None:
    config = compose_config(
        "model=smollm2_135m", "hardware=cpu", "data=rstar_coder",
        "plan.num_prompts=null", "plan.num_samples=null",
    )  # fmt: skip
    config = dataclasses.replace(config, hardware=assume(config.hardware))
    assert needs(config, tmp_path).startswith("an unknown time; ")
