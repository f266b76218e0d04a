"""Every number says what it may be, and every range is enforced by an error that names it."""

import dataclasses
import math
import typing
from collections.abc import Iterator
from functools import cache
from typing import Any

import pytest
from omegaconf import OmegaConf
from runs import compose_config

from ssd.artifacts.fingerprints import plain
from ssd.config.ranges import ALLOWED, lies_in
from ssd.config.settings import RunConfig, to_run_config
from ssd.errors import ConfigError

CANDIDATES = (-1, 0, 1, 2, 11, 2**32)
"""One of them lies outside of any interval here."""


def settings(schema: Any = RunConfig, section: str = "") -> Iterator[tuple[str, Any]]:
    """Every setting of the schema that is no section, by dotted name, with its field."""
    for field in dataclasses.fields(schema):
        name = f"{section}.{field.name}".lstrip(".")
        inner = [kind for kind in (field.type, *typing.get_args(field.type))
                 if dataclasses.is_dataclass(kind)]  # fmt: skip
        if not inner:
            yield name, field
        elif typing.get_origin(field.type) is not list:
            yield from settings(inner[0], name)


SETTINGS = dict(settings())
DECLARED = [name for name, field in SETTINGS.items() if ALLOWED in field.metadata]


@cache
def composed() -> Any:
    return OmegaConf.create(plain(compose_config()))


def changed(name: str, value: object) -> RunConfig:
    """The default run with another value of one setting."""
    config = composed().copy()
    OmegaConf.update(config, name, value)
    return to_run_config(config)


@pytest.mark.parametrize("name", DECLARED)
def test_a_value_outside_its_range_is_refused_by_name(name: str) -> None:
    field = SETTINGS[name]
    allowed = field.metadata[ALLOWED]
    if isinstance(allowed, tuple):
        outside: object = "nonsense"
    else:
        outside = next(value for value in CANDIDATES if not lies_in(value, allowed))
    several = typing.get_origin(field.type) in (list, tuple)
    value = [outside, *OmegaConf.select(composed(), name)[1:]] if several else outside
    with pytest.raises(ConfigError) as refused:
        changed(name, value)
    assert str(refused.value).startswith(name)
    assert str(outside) in str(refused.value)


@pytest.mark.parametrize("name", DECLARED)
def test_null_is_allowed_exactly_where_the_type_takes_it(name: str) -> None:
    if type(None) in typing.get_args(SETTINGS[name].type):
        changed(name, None)
    else:
        with pytest.raises(ConfigError, match=name):
            changed(name, None)


RULED = {"train.warmup_steps", "eval.checkpoint_step", "eval.checkpoint_steps"}
"""Bounded by another setting, in `__post_init__`."""


def test_every_number_has_a_range() -> None:
    numbers = {
        name
        for name, field in SETTINGS.items()
        if {int, float} & {field.type, *typing.get_args(field.type)}
    }
    assert numbers - {*DECLARED} - RULED == set()


@pytest.mark.parametrize(
    ("value", "notation", "inside"),
    [
        (0, "(0, 1]", False),
        (1, "(0, 1]", True),
        (0, "[0, 1)", True),
        (1, "[0, 1)", False),
        (1e300, "(0, inf)", True),
        (math.nan, "[0, inf)", False),
    ],
)
def test_an_interval_holds_the_bounds_in_square_brackets(
    value: float, notation: str, inside: bool
) -> None:
    assert lies_in(value, notation) is inside


@pytest.mark.parametrize("mount", ["truncation", "eval.truncation", "eval.base_truncation"])
def test_a_section_that_is_mounted_several_times_is_named_by_its_place(mount: str) -> None:
    with pytest.raises(ConfigError, match=rf"^{mount}\.top_p must lie in \(0, 1\], got 2"):
        changed(f"{mount}.top_p", 2)


def test_a_section_in_a_list_is_looked_at() -> None:
    with pytest.raises(ConfigError, match=r"eval\.truncations\.top_k must be positive or null"):
        changed("eval.truncations", [{"top_k": 20}, {"top_k": 0}])


@pytest.mark.parametrize("seed", [-1, 2**32])
def test_a_seed_that_training_does_not_take_is_refused(seed: int) -> None:
    with pytest.raises(ConfigError, match=rf"seed must lie in \[0, {2**32 - 1}\], got {seed}"):
        changed("seed", seed)
    assert changed("seed", 2**32 - 1).seed == 2**32 - 1


@pytest.mark.parametrize("name", ["truncation.top_k", "train.max_steps", "eval.k"])
def test_a_number_of_more_than_64_bits_is_refused(name: str) -> None:
    value = [2**63] if name == "eval.k" else 2**63
    with pytest.raises(ConfigError, match=rf"{name}={2**63} takes more than 64 bits"):
        changed(name, value)
