"""The values a setting may have, declared with its default: `within("(0, 1]", 1.0)`.

A declared field is an ordinary dataclass field, so OmegaConf composes it like any other. Null
passes if the field's type allows it; each item of a list is checked.
"""

import dataclasses
import re
import typing
from typing import Any

from ssd.errors import ConfigError, did_you_mean

ALLOWED = "allowed"
"""Key of a field's metadata: an interval's notation, or the words of a closed list."""
WORDS = {"(0, inf)": "be positive", "[0, inf)": "not be negative"}
"""Intervals that have a name of their own."""


def within(notation: str, default: Any) -> Any:
    """A field of numbers in an interval in the notation of mathematics: `(0, 1]` is above 0 and at
    most 1."""
    return _declared(notation, default)


def positive(default: Any) -> Any:
    """A field of numbers above 0."""
    return _declared("(0, inf)", default)


def not_negative(default: Any) -> Any:
    """A field of numbers of at least 0."""
    return _declared("[0, inf)", default)


def names_of(words: tuple[str, ...], default: list[str]) -> Any:
    """A field of a list, each item of which is one of `words`."""
    return _declared(words, default)


def _declared(allowed: str | tuple[str, ...], default: Any) -> Any:
    if isinstance(default, list):
        return dataclasses.field(default_factory=default.copy, metadata={ALLOWED: allowed})
    return dataclasses.field(default=default, metadata={ALLOWED: allowed})


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
