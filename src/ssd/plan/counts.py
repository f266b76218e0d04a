"""How many problems a benchmark has, without reading it: its file may be gigabytes away."""

from calendar import monthrange

from ssd.config.benchmarks import Window, window
from ssd.config.settings import EvalConfig
from ssd.run.protocol import ALL, VALIDATION

SIZES = {
    "humaneval": 164, "humaneval_plus": 164, "mbpp": 500, "mbpp_validation": 90, "mbpp_full": 974,
    "mbpp_sanitized": 427, "mbpp_plus": 378,
}  # fmt: skip
"""Problems whose answers are short functions."""
FIRST_MONTH = 2023, 5
PER_MONTH = (
    34, 39, 54, 36, 44, 44, 35, 40, 36, 32, 45, 37, 36, 46, 43, 66, 47, 53, 57, 49, 51, 51, 68, 12,
)  # fmt: skip
"""LiveCodeBench release_v6's problems by month of contest, from May 2023 to April 2025: counted
from the scores that repository LiveCodeBench/livecodebench.github.io publishes for all 1,055, whose
dates are one day late."""


def count_problems(settings: EvalConfig, benchmark: str, part: str) -> int | None:
    """Problems of a part of a benchmark, without reading it; None where only its file tells."""
    chosen = window(benchmark)
    size = SIZES.get(benchmark) if chosen is None else count_window(chosen)
    if size is None:
        return None
    size = min(size, settings.limit or size)
    if part == ALL:
        return size
    held_out = round(settings.validation_share * size)
    return held_out if part == VALIDATION else size - held_out


def count_window(chosen: Window) -> int | None:
    """Problems of a LiveCodeBench window: of the named ones and whole releases as the data card has
    them, of release_v6 by whole months; None for others."""
    if chosen.count is not None or chosen.release != 6 or chosen.delta:
        return chosen.count
    first, last = chosen.first or "2023-05-01", chosen.last or "2025-04-30"
    year, month, day = map(int, last.split("-"))
    if not first.endswith("-01") or day != monthrange(year, month)[1]:
        return None
    begin, end = _month(*map(int, first.split("-")[:2])), _month(year, month)
    return sum(PER_MONTH[max(begin, 0) : end + 1])


def _month(year: int, month: int) -> int:
    """Months since LiveCodeBench's first."""
    return 12 * (year - FIRST_MONTH[0]) + month - FIRST_MONTH[1]
