"""Which benchmarks there are, and what the names of LiveCodeBench's windows mean."""

import re
from dataclasses import dataclass

from ssd.errors import ConfigError, did_you_mean

MBPP_PARTS = {"mbpp": "test", "mbpp_validation": "validation", "mbpp_full": None}
"""Benchmark names over the full MBPP file, and the split they take; None for all of it."""
RELEASES = range(1, 7)
"""LiveCodeBench's releases; the n-th adds one file to those before it."""


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
SIZES = {1: 400, 2: 511, 3: 612, 4: 713, 5: 880, 6: 1055}
"""Problems of each release, as LiveCodeBench's data card gives them."""
NAMES = (
    "humaneval",
    *MBPP_PARTS,
    "mbpp_sanitized",
    "humaneval_plus",
    "mbpp_plus",
    *NAMED_WINDOWS,
    *(f"lcb_release_v{number}" for number in RELEASES),
    "jsonl",
)
LCB = re.compile(r"lcb_(release|delta)_v([1-6])(?:@(\d{4}-\d\d-\d\d)?\.\.(\d{4}-\d\d-\d\d)?)?")


def window(name: str, setting: str = "eval.benchmarks") -> Window | None:
    """What a LiveCodeBench name stands for; None for other benchmarks.

    Raises:
        ConfigError: the name starts with `lcb_` and cannot be read, or its dates are reversed.
    """
    if name in NAMED_WINDOWS or not name.startswith("lcb_"):
        return NAMED_WINDOWS.get(name)
    match = LCB.fullmatch(name)
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


def check_name(name: str, setting: str = "eval.benchmarks") -> None:
    """Refuse a name that is no benchmark; `setting` is where it was typed.

    Raises:
        ConfigError: there is none of that name.
    """
    if window(name, setting) is None and name not in NAMES:
        raise ConfigError(f"{setting}: no benchmark '{name}'; {did_you_mean(name, list(NAMES))}")
