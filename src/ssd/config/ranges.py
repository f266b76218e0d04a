"""The values a setting may have, declared with its default: `within("(0, 1]", 1.0)`.

A declared field is an ordinary dataclass field, so OmegaConf composes it like any other. Null
passes if the field's type allows it; each item of a list is checked.
"""

import dataclasses
import datetime
import functools
import re
import typing
from typing import Any

from omegaconf import DictConfig

from ssd.errors import ConfigError, did_you_mean

ALLOWED = "allowed"
"""Key of a field's metadata: an interval's notation, or the words of a closed list."""
WORDS = {"(0, inf)": "be positive", "[0, inf)": "not be negative"}
"""Intervals that have a name of their own."""


def within(allowed: str | tuple[str, ...], default: Any) -> Any:
    """A field of numbers in an interval in the notation of mathematics, `(0, 1]` is above 0 and at
    most 1; or of a list, each item of which is one of some words."""
    if isinstance(default, list):
        return dataclasses.field(default_factory=default.copy, metadata={ALLOWED: allowed})
    return dataclasses.field(default=default, metadata={ALLOWED: allowed})


positive = functools.partial(within, "(0, inf)")
not_negative = functools.partial(within, "[0, inf)")


def open_dict() -> Any:
    """A field of a dictionary, empty by default, whose keys a command line may make up.

    Hydra closes every dictionary for new keys; the flag of the default keeps this one open.
    """
    return dataclasses.field(default_factory=lambda: DictConfig({}, flags={"struct": False}))


def check_ranges(settings: Any, section: str = "") -> None:
    """Check every declared field of a dataclass, and of the dataclasses inside it.

    Args:
        section: where the dataclass stands among the settings, such as `eval`.

    Raises:
        ConfigError: a value is not allowed; the message names the setting, the value and the range.
    """
    for field in dataclasses.fields(settings):
        setting = f"{section}.{field.name}".lstrip(".")
        content = getattr(settings, field.name)
        for value in content if isinstance(content, (list, tuple)) else [content]:
            if dataclasses.is_dataclass(value):
                check_ranges(value, setting)
            elif value is not None and ALLOWED in field.metadata:
                _check(setting, value, field)


def _check(setting: str, value: Any, field: "dataclasses.Field[Any]") -> None:
    allowed = field.metadata[ALLOWED]
    # vLLM, PyTorch and Parquet take no longer ones.
    fits = not isinstance(value, int) or abs(value) < 2**63
    require(fits, f"{setting}={value} takes more than 64 bits: choose a smaller number")
    if isinstance(allowed, tuple):
        hint = did_you_mean(value, list(allowed))
        require(value in allowed, f"{setting}: unknown name '{value}'; {hint}")
        return
    words = WORDS.get(allowed, f"lie in {allowed}")
    or_null = " or null" if type(None) in typing.get_args(field.type) else ""
    require(lies_in(value, allowed), f"{setting} must {words}{or_null}, got {value}")


def arguments_of(setting: str, value: Any) -> dict[str, Any]:
    """A setting's dictionary of arguments, none for null; `date` is a day in ISO's notation.

    Raises:
        ConfigError: it is no dictionary, or its `date` is no date.
    """
    require(
        value is None or isinstance(value, (dict, DictConfig)),
        f"{setting}={value} is no dictionary: write '{setting}={{enable_thinking: false}}'",
    )
    arguments = dict(value or {})
    date = arguments.get("date")
    try:
        datetime.date.fromisoformat("2000-01-01" if date is None else str(date))
    except ValueError as error:
        raise ConfigError(
            f"{setting}.date={date} is no date: write year, month and day, as in 2026-01-31"
        ) from error
    return arguments


def lies_in(value: float, notation: str) -> bool:
    """Whether a number lies in an interval such as `(0, 1]`; NaN lies in none."""
    match = re.fullmatch(r"([\[(])(\S+), (\S+)([\])])", notation)
    assert match is not None, notation
    opening, low, high, closing = match.groups()
    above = value >= float(low) if opening == "[" else value > float(low)
    below = value <= float(high) if closing == "]" else value < float(high)
    return above and below


def require(condition: bool, message: str) -> None:
    """Raise `ConfigError(message)` unless a condition holds."""
    if not condition:
        raise ConfigError(message)
