"""The form of pass@k with its intervals in JSON: `"pass@1": {"value", "low", "high"}`, and
`p_value` where there was a test."""

from collections.abc import Mapping
from typing import Any

from ssd.artifacts.fingerprints import plain
from ssd.method.intervals import Interval

PASS_AT = "pass@"

PassAt = dict[int, Interval]
"""pass@k by k."""


def interval_json(interval: Interval) -> dict[str, float]:
    """An interval as it is stored."""
    stored: dict[str, float | None] = plain(interval)
    return {name: number for name, number in stored.items() if number is not None}


def pass_at_json(pass_at: PassAt) -> dict[str, Any]:
    """Scores as they are stored, beside other fields."""
    return {f"{PASS_AT}{k}": interval_json(interval) for k, interval in pass_at.items()}


def read_pass_at(stored: Mapping[str, Any]) -> PassAt:
    """The scores among stored fields, in ascending order of k."""
    pass_at = {
        int(name.removeprefix(PASS_AT)): Interval(**interval)
        for name, interval in stored.items()
        if name.startswith(PASS_AT)
    }
    return dict(sorted(pass_at.items()))
