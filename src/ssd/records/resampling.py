"""What is kept of a corpus that was chosen from weighted candidates: a record for each prompt, and
how far to trust the choice."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ssd.artifacts.files import read_rows, write_rows


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """One prompt's candidates, and which of them the corpus holds."""

    prompt_id: str
    num_candidates: int
    effective_sizes: list[float]
    """Whenever they were weighed: candidates of equal weight that are worth these."""
    largest_share: float
    """Of the largest weight at the end."""
    num_resampled: int
    """How often they were resampled on the way."""
    num_cut: int
    """Candidates that the length cap ended: they count for the tokens that they have."""
    error: float
    """The most that the logarithm of a weight could be off, in nats, when candidates were weighed:
    of the tokens beyond the most likely ones, no more than a bound is known."""
    chosen: list[int]
    """Candidates; one may be chosen several times."""
    chosen_logprob: float
    """Mean log-probability of the chosen answers under the model at temperature 1, in nats."""


def write_choices(path: Path, choices: Sequence[Choice]) -> None:
    """Write choices as one Parquet file, atomically."""
    write_rows(path, [dataclasses.asdict(choice) for choice in choices])


def read_choices(path: Path) -> list[Choice]:
    """The choices in a file."""
    return [Choice(**row) for row in read_rows(path)]


def summarise(choices: Sequence[Choice]) -> dict[str, Any]:
    """What the manifest holds of all prompts' choices."""
    sizes = [size for choice in choices for size in choice.effective_sizes]
    low, median = np.quantile(sizes, (0.1, 0.5))
    final = [choice.effective_sizes[-1] for choice in choices]
    num_candidates = sum(choice.num_candidates for choice in choices)
    num_chosen = sum(len(choice.chosen) for choice in choices)
    num_distinct = sum(len(set(choice.chosen)) for choice in choices)
    return {
        "method": "sequential Monte Carlo",
        "num_candidates": num_candidates,
        "candidates_per_prompt": max(choice.num_candidates for choice in choices),
        "effective_size": _rounded(median),
        "effective_size_low": _rounded(low),
        "effective_size_end": _rounded(np.median(final)),
        "largest_share": _rounded(np.median([choice.largest_share for choice in choices])),
        "resamplings": _rounded(np.mean([choice.num_resampled for choice in choices])),
        "log_weight_error": _rounded(max(choice.error for choice in choices)),
        "cut_share": _rounded(sum(choice.num_cut for choice in choices) / num_candidates),
        "repeated_share": _rounded(1 - num_distinct / num_chosen),
        "chosen_logprob": _rounded(np.mean([choice.chosen_logprob for choice in choices])),
    }


def approximation(manifest: dict[str, Any]) -> str | None:
    """What is approximate about a corpus, from its manifest, in one sentence; None where nothing
    is, or where it was imported and nobody knows any more."""
    power, summary = manifest["inputs"].get("power"), manifest["counts"].get("power")
    if power is None or summary is None:
        return None
    number = summary["candidates_per_prompt"]
    return (
        f"sequence-level power {power['alpha']:g}, approximate: {summary['method']} with {number} "
        f"candidates per prompt, effective sample size {summary['effective_size']:.1f} (median of "
        f"all weighings; a tenth lie below {summary['effective_size_low']:.1f}); "
        f"{summary['cut_share']:.0%} of candidates were cut off and count for the tokens they have"
    )


def _rounded(value: Any) -> float:
    return round(float(value), 4)
