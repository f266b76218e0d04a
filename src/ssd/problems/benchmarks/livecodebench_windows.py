"""LiveCodeBench's windows: what their names mean, and how many problems they hold."""

import re
from calendar import monthrange
from dataclasses import dataclass

from ssd.errors import ConfigError

SIZES = {1: 400, 2: 511, 3: 612, 4: 713, 5: 880, 6: 1055}
"""Problems of each release, which adds one file to those before it: as LiveCodeBench's data card
gives them."""
FIRST_MONTH = 2023, 5
PER_MONTH = (
    34, 39, 54, 36, 44, 44, 35, 40, 36, 32, 45, 37, 36, 46, 43, 66, 47, 53, 57, 49, 51, 51, 68, 12,
)  # fmt: skip
"""release_v6's problems by month of contest, from May 2023 to April 2025: counted from the scores
that repository LiveCodeBench/livecodebench.github.io publishes for all 1,055, whose dates are one
day late."""


@dataclass(frozen=True, slots=True)
class Window:
    """A choice of LiveCodeBench's problems."""

    release: int
    first: str | None = None
    """First contest date, `YYYY-MM-DD`, included; None for no bound."""
    last: str | None = None
    """Last contest date, included; None for no bound."""
    delta: bool = False
    """Only the file that this release added."""
    count: int | None = None
    """How many problems the official files hold in it, where that is known."""

    def __str__(self) -> str:
        return f"{self.first or ''}..{self.last or ''}"

    def holds(self, date: str) -> bool:
        """Whether a contest date, `YYYY-MM-DD`, lies in the window."""
        return (self.first or "") <= date <= (self.last or "9999")

    def describe(self) -> str:
        """`release_v6`, or `release_v6's own file`."""
        return f"release_v{self.release}" + ("'s own file" if self.delta else "")


NAMED_WINDOWS = {
    "lcb_v6": Window(6, "2025-02-01", "2025-05-31", count=131),
    "lcb_v5_374": Window(6, "2024-08-01", "2025-02-28", count=374),
    "lcb_v5_279": Window(5, "2024-08-01", count=279),
    "lcb_v6_delta175": Window(6, delta=True, count=175),
}
"""The paper's v6 (131 problems) and v5 (374), and what others report under the same two names."""
NAMES = (*NAMED_WINDOWS, *(f"lcb_release_v{number}" for number in SIZES))
PREFIX = "lcb_"
"""Of every window's name."""
PATTERN = re.compile(r"lcb_(release|delta)_v([1-6])(?:@(\d{4}-\d\d-\d\d)?\.\.(\d{4}-\d\d-\d\d)?)?")


def parse_window(name: str, setting: str = "eval.benchmarks") -> Window:
    """What a LiveCodeBench name stands for; `setting` is where it was typed.

    Raises:
        ConfigError: the name cannot be read, or its dates are reversed.
    """
    if name in NAMED_WINDOWS:
        return NAMED_WINDOWS[name]
    match = PATTERN.fullmatch(name)
    if match is None:
        raise ConfigError(
            f"{setting}: '{name}' is no window of LiveCodeBench: choose "
            f"{', '.join(NAMED_WINDOWS)}, lcb_release_v1 to v6 or lcb_delta_v1 to v6, the last two "
            "with dates if you like, as in lcb_release_v6@2025-02-01..2025-05-31"
        )
    kind, number, first, last = match.groups()
    if first and last and first > last:
        raise ConfigError(f"{setting}: '{name}' ends before it begins: swap its dates")
    release, delta = int(number), kind == "delta"
    count = None
    if not first and not last:
        count = SIZES[release] - (SIZES.get(release - 1, 0) if delta else 0)
    return Window(release, first, last, delta, count)


def count_window(window: Window) -> int | None:
    """Problems of a window, without reading it: of the named ones and whole releases as the data
    card has them, of release_v6 by whole months; None for others."""
    if window.count is not None or window.release != 6 or window.delta:
        return window.count
    first, last = window.first or "2023-05-01", window.last or "2025-04-30"
    year, month, day = map(int, last.split("-"))
    if not first.endswith("-01") or day != monthrange(year, month)[1]:
        return None
    begin, end = _month(*map(int, first.split("-")[:2])), _month(year, month)
    return sum(PER_MONTH[max(begin, 0) : end + 1])


def _month(year: int, month: int) -> int:
    """Months since LiveCodeBench's first."""
    return 12 * (year - FIRST_MONTH[0]) + month - FIRST_MONTH[1]
