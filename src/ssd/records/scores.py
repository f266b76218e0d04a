"""`scores.json` of a run: every arm per benchmark, and the choices before, all with intervals."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ssd.arms import TUNED
from ssd.artifacts.names import SCORES
from ssd.artifacts.seals import read_sealed, write_sealed
from ssd.errors import ArtifactError
from ssd.records.benchmark_scores import BenchmarkScores, benchmark_json, read_benchmark
from ssd.records.selection import Candidate, Selection, read_selection, selection_json

VERSION = 2
REMEDY = "delete it and evaluate this run again"


@dataclass(frozen=True, slots=True, kw_only=True)
class Scores:
    """All of `scores.json`."""

    inputs: dict[str, Any]
    """What the scores depend on, as `evidence.score_inputs` gives it."""
    sandbox: str
    """What isolated the graded programs; empty where answers were values alone."""
    resample: str
    """What the intervals are over."""
    intervals: str | None
    """The method behind them; None in scores of earlier versions of this project."""
    selection: Selection | None
    """None where nothing was chosen."""
    benchmarks: tuple[BenchmarkScores, ...]

    @property
    def held_out(self) -> Candidate | None:
        """The tuned model's chosen setting with its score on the problems that chose it; None where
        nothing was chosen, or on the reported problems."""
        selection = self.selection
        if selection is None or selection.mode != "heldout":
            return None
        return selection.chosen(TUNED)

    @property
    def main(self) -> tuple[BenchmarkScores, ...]:
        """The benchmarks that the verdict goes by."""
        return tuple(scored for scored in self.benchmarks if not scored.regression)

    @property
    def regression(self) -> tuple[BenchmarkScores, ...]:
        """The benchmarks out of domain."""
        return tuple(scored for scored in self.benchmarks if scored.regression)


def write_scores(run_dir: Path, scores: Scores) -> None:
    """Write `scores.json` into a run folder.

    Raises:
        ArtifactError: the folder cannot be written.
    """
    write_sealed(run_dir / SCORES, scores_json(scores))


def stored_version(run_dir: Path) -> int | None:
    """The version of a run's scores; None where it has none yet.

    Raises:
        ArtifactError: the file is damaged.
    """
    path = run_dir / SCORES
    version: int | None = read_sealed(path, REMEDY).get("version") if path.is_file() else None
    return version


def read_scores(run_dir: Path) -> Scores | None:
    """The scores of a run, or None where it has none yet.

    Raises:
        ArtifactError: the file is damaged or of another version.
    """
    path = run_dir / SCORES
    if not path.is_file():
        return None
    stored = read_sealed(path, REMEDY)
    try:
        if stored["version"] != VERSION:
            raise ArtifactError(
                f"{path} has version {stored['version']}, not {VERSION}: evaluate this run again"
            )
        selection, benchmarks = stored["selection"], stored["benchmarks"]
        return Scores(
            **{name: stored[name] for name in ("inputs", "sandbox", "resample")},
            intervals=stored.get("intervals"),
            selection=None if selection is None else read_selection(selection),
            benchmarks=tuple(read_benchmark(name, fields) for name, fields in benchmarks.items()),
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ArtifactError(f"{path} is damaged ({error!r}): {REMEDY}") from error


def scores_json(scores: Scores) -> dict[str, Any]:
    """Scores as they are stored."""
    selection = scores.selection
    return {
        "version": VERSION,
        **{name: getattr(scores, name) for name in ("inputs", "sandbox", "resample", "intervals")},
        "selection": None if selection is None else selection_json(selection),
        "benchmarks": {scored.name: benchmark_json(scored) for scored in scores.benchmarks},
    }
