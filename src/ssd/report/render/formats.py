"""Numbers as the report shows them: shares in percent, differences in percentage points."""

from collections.abc import Iterable
from pathlib import Path

from ssd.arms import TUNED
from ssd.config.settings import ModelConfig, PowerConfig, TruncationConfig
from ssd.method.decoding import Decoding, Setting
from ssd.method.intervals import Interval
from ssd.records.benchmark_scores import BenchmarkScores


def model(settings: ModelConfig) -> str:
    """`model.name`; of weights in a local folder that it does not name, the folder's own name."""
    if settings.path is None:
        return settings.name
    folder = Path(settings.path).name
    return settings.name if settings.name.rpartition("/")[2] in folder else folder


def percent(share: float) -> str:
    """`0.375` as `37.5%`."""
    return f"{100 * share:.1f}%"


def score(interval: Interval | None) -> str:
    """`37.5% [18.8, 56.2]`, or `-`."""
    if interval is None:
        return "-"
    return f"{percent(interval.value)} [{100 * interval.low:.1f}, {100 * interval.high:.1f}]"


def signed(difference: float) -> str:
    """A difference of shares in percentage points, with its sign: `+4.2`."""
    return f"{100 * difference:+z.1f}"


def change(interval: Interval | None) -> str:
    """`+4.2 [-8.3, +16.7]`, in percentage points, or `-`."""
    if interval is None:
        return "-"
    return f"{signed(interval.value)} [{signed(interval.low)}, {signed(interval.high)}]"


def tested(interval: Interval | None) -> str:
    """`+4.2 [-8.3, +16.7], p = 0.042`: a change with its test, where there is one; or `-`."""
    chance = "" if interval is None else p_value(interval.p_value)
    return change(interval) + (chance and f", {chance}")


def tokens(interval: Interval) -> str:
    """`+12 [-3, +27]`, in tokens."""
    value, low, high = (
        f"{number:+z.0f}" for number in (interval.value, interval.low, interval.high)
    )
    return f"{value} [{low}, {high}]"


def p_value(value: float | None) -> str:
    """`p = 0.042`, or nothing where there is none."""
    return "" if value is None else "p < 0.001" if value < 0.001 else f"p = {value:.3f}"


def truncation(rule: TruncationConfig | Decoding) -> str:
    """`top-k 20, top-p 0.8`, or `none`."""
    parts = [] if rule.top_k is None else [f"top-k {rule.top_k}"]
    parts += [] if rule.top_p == 1 else [f"top-p {rule.top_p:g}"]
    return ", ".join(parts) or "none"


def decoding(how: Decoding) -> str:
    """`T 0.9, top-k 20, top-p 0.8`, and a setting's training step where it is not the last."""
    cut, step = truncation(how), how.checkpoint_step if isinstance(how, Setting) else None
    parts = [f"T {how.temp:g}", *([] if cut == "none" else [cut])]
    return ", ".join(parts + ([] if step is None else [f"step {step:,}"]))


def sampling(how: Decoding, power: PowerConfig | None) -> str:
    """`T_train 1.6, truncation top-k 20`, or `power 4 of whole answers (approximate: 8 candidates
    each at T 0.25)`."""
    if power is None:
        return f"T_train {how.temp:g}, truncation {truncation(how)}"
    return (
        f"power {power.alpha:g} of whole answers (approximate: {power.candidates} candidates each "
        f"at T {how.temp:g})"
    )


def tuned_temp(benchmarks: Iterable[BenchmarkScores], configured: float) -> str:
    """T_eval as it was chosen or, where nothing has been scored, configured."""
    tuned = (scored.models.get(TUNED) for scored in benchmarks)
    temps = {f"{model.setting.temp:g}" for model in tuned if model is not None}
    return ", ".join(sorted(temps)) or f"{configured:g}"


def duration(seconds: float) -> str:
    """`42 s`, `3 min 05 s` or `2 h 10 min`."""
    whole = round(seconds)
    if whole < 60:
        return f"{seconds:.1f} s" if seconds < 10 else f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def number(value: float) -> str:
    """Counts with thousands separators, other numbers to four significant digits."""
    if isinstance(value, float) and not value.is_integer():
        return f"{value:,.4g}" if abs(value) < 1000 else f"{value:,.0f}"
    return f"{int(value):,}"
