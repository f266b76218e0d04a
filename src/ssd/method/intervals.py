"""An estimate with its interval, and whether it decides a question."""

from dataclasses import dataclass

from ssd.method.significance import LEVEL


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """An estimate and its 95% interval: a score is a share in [0, 1], a difference lies in
    [-1, 1], a length is in tokens."""

    value: float
    low: float
    high: float
    p_value: float | None = None
    """Of the paired test; None if the estimate is not a difference of scores."""

    @property
    def excludes_zero(self) -> bool:
        """Whether 0 lies outside the interval of a difference."""
        return not self.low <= 0 <= self.high

    @property
    def decided(self) -> bool:
        """Whether interval and test agree on a difference: five of 164 problems that turn from
        failed to passed give an interval above 0, but p = 0.06."""
        return self.excludes_zero and (self.p_value is None or self.p_value < LEVEL)

    @property
    def is_gain(self) -> bool:
        """Whether a difference is above 0 beyond doubt."""
        return self.decided and self.low > 0
