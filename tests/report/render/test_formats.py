"""Numbers as reports show them."""

import pytest

from ssd.config.settings import TruncationConfig
from ssd.method.decoding import Decoding, Setting
from ssd.method.intervals import Interval
from ssd.report.render import formats


def test_a_difference_that_rounds_to_zero_has_no_minus_sign() -> None:
    assert formats.change(Interval(value=-0.0001, low=-0.5, high=0.5)) == "+0.0 [-50.0, +50.0]"


@pytest.mark.parametrize(
    ("value", "expected"), [(None, ""), (0.0001, "p < 0.001"), (0.0421, "p = 0.042")]
)
def test_tiny_p_values_are_bounds(value: float | None, expected: str) -> None:
    assert formats.p_value(value) == expected


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [(0.42, "0.4 s"), (59.6, "1 min 00 s"), (185, "3 min 05 s"), (7800, "2 h 10 min")],
)
def test_durations_use_the_units_people_say(seconds: float, expected: str) -> None:
    assert formats.duration(seconds) == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [(134515008, "134,515,008"), (2.0, "2"), (147.4567, "147.5"), (1234.5, "1,234")],
)
def test_numbers_keep_what_matters(value: float, expected: str) -> None:
    assert formats.number(value) == expected


@pytest.mark.parametrize(
    ("top_k", "top_p", "expected"),
    [(None, 1.0, "none"), (20, 0.8, "top-k 20, top-p 0.8"), (None, 0.8, "top-p 0.8")],
)
def test_truncation_names_only_what_cuts(top_k: int | None, top_p: float, expected: str) -> None:
    assert formats.truncation(Decoding(0.7, top_k, top_p)) == expected
    assert formats.truncation(TruncationConfig(top_k=top_k, top_p=top_p)) == expected


def test_a_decoding_names_its_step_where_it_is_not_the_last() -> None:
    setting = Setting(0.9, 20, 0.8, 1500)
    assert formats.decoding(setting) == "T 0.9, top-k 20, top-p 0.8, step 1,500"
    assert formats.decoding(setting.decoding) == "T 0.9, top-k 20, top-p 0.8"
    assert formats.decoding(Setting(1.0)) == "T 1"
