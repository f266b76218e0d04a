"""A study: any set of run folders, read one by one, so that a broken run does not hide the others.

A run whose scores belong to its configuration has a row; what is missing, failed, out of date,
damaged or not comparable is named with its reason. Imports no matplotlib.
"""

import hashlib
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ssd.arms import TUNED, rules
from ssd.artifacts.files import read_json
from ssd.artifacts.names import CONFIG, FAILURE, SCORES, WEIGHTS
from ssd.errors import UNREADABLE, ArtifactError, one_line
from ssd.method.intervals import Interval
from ssd.records.scores import VERSION, stored_version
from ssd.report.run.facts import Facts, collect, missing_scores


@dataclass(frozen=True, slots=True, kw_only=True)
class Unfinished:
    """The reason why one run's scores are missing from the table, or stand apart in it."""

    name: str
    state: str
    """`failed`, `unfinished`, `stale` (scores of other settings or an older layout), `damaged`, or
    `incompatible`: it has a row, on other problems than most."""
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Study:
    """Runs that are read together."""

    name: str
    folder: Path
    """Where the study's report is written."""
    runs: tuple[Facts, ...]
    """Runs with scores of their own settings, the best held-out score first; then runs that chose
    nothing on held-out problems, the best reported score first. Within both, runs on other problems
    than most come last."""
    unfinished: tuple[Unfinished, ...]


def is_run(folder: Path) -> bool:
    """Whether the folder is a run's, including a run that failed before it was configured."""
    return (folder / CONFIG).is_file() or (folder / FAILURE).is_file()


def is_study(folder: Path) -> bool:
    """Whether the folder holds runs."""
    return folder.is_dir() and any(is_run(child) for child in folder.iterdir())


def collect_study(folders: Sequence[Path], folder: Path) -> Study:
    """Every run of some run folders and study folders.

    Raises:
        ArtifactError: there is no run in any of them.
    """
    paths = list(dict.fromkeys(run for place in folders for run in _run_folders(place)))
    if not any(is_run(path) for path in paths):
        places = ", ".join(str(place) for place in folders)
        raise ArtifactError(
            f"{places} is no study: name run folders (each holds {CONFIG}) or folders of them"
        )
    names = run_names(paths)
    runs: list[Facts] = []
    unfinished: list[Unfinished] = []
    for path in paths:
        facts, problems = _read(path)
        if facts is not None:
            runs.append(facts)
        unfinished += [
            Unfinished(name=names[path], state=state, reason=reason) for state, reason in problems
        ]
    apart = incompatible(runs)
    unfinished += [
        Unfinished(name=names[path], state="incompatible", reason=reason)
        for path, reason in apart.items()
    ]
    return Study(
        name=folder.resolve().name,
        folder=folder,
        runs=tuple(sorted(runs, key=lambda facts: _rank(facts, facts.run.folder in apart))),
        unfinished=tuple(unfinished),
    )


def run_names(folders: Sequence[Path]) -> dict[Path, str]:
    """The shortest name of each run folder that is its own: `run`, or `study/run`."""
    depth = 1
    while True:
        names = {path: "/".join(path.resolve().parts[-depth:]) for path in folders}
        if len(set(names.values())) == len(names) or depth > 16:
            return names
        depth += 1


def reported(facts: Facts) -> Interval | None:
    """The tuned model's reported score over all main benchmarks, each problem weighing the same;
    None without a tuned model. Their intervals are combined as of independent samples."""
    scored = [benchmark for benchmark in facts.main if TUNED in benchmark.models]
    total = sum(benchmark.num_problems for benchmark in scored)
    if not total:
        return None
    parts = [
        (benchmark.num_problems / total, benchmark.models[TUNED].pass_at[benchmark.k])
        for benchmark in scored
    ]
    value = sum(weight * score.value for weight, score in parts)
    if len(parts) == 1:
        return parts[0][1]
    below = math.hypot(*(weight * (score.value - score.low) for weight, score in parts))
    above = math.hypot(*(weight * (score.high - score.value) for weight, score in parts))
    return Interval(value=value, low=max(value - below, 0.0), high=min(value + above, 1.0))


def incompatible(runs: Sequence[Facts]) -> dict[Path, str]:
    """By run folder, why its scores stand on other problems than those of most runs."""
    profiles = [_profile(facts) for facts in runs]
    usual = {
        name: Counter(profile[name] for profile in profiles if name in profile).most_common(1)[0][0]
        for name in dict.fromkeys(name for profile in profiles for name in profile)
    }
    reasons = {}
    for facts, profile in zip(runs, profiles, strict=True):
        other = [
            f"{name}: {text}, most runs {usual[name]}"
            for name, text in profile.items()
            if text != usual[name]
        ]
        if other:
            reasons[facts.run.folder] = (
                "Its scores are not comparable with most rows (" + "; ".join(other) + ")."
            )
    return reasons


def _run_folders(folder: Path) -> list[Path]:
    """The run folders in a folder; the folder itself if it is a run, or is not recognised."""
    if is_run(folder) or not is_study(folder):
        return [folder]
    return sorted(child for child in folder.iterdir() if is_run(child))


def _read(folder: Path) -> tuple[Facts | None, list[tuple[str, str]]]:
    """A run's facts where they have a row, and its states with their reasons."""
    if not is_run(folder):
        return None, [("unfinished", f"{folder} holds no run: it has no {CONFIG}.")]
    try:
        failure = _failure(folder)
        if failure and not (folder / WEIGHTS).is_file():
            return None, failure
        old = _old_layout(folder)
        if old:
            return None, [*failure, *old]
        facts = collect(folder, read_positions=False)
    except UNREADABLE as error:
        started = (folder / CONFIG).is_file() and not (folder / WEIGHTS).is_file()
        state = "unfinished" if started else "damaged"
        return None, [(state, one_line(error))]
    if facts.stale:
        return None, [*failure, ("stale", " ".join(facts.stale))]
    lacks = missing_scores(facts.run, facts.scores)
    states = failure or ([("unfinished", " ".join(lacks))] if lacks else [])
    return (facts if facts.main else None), states


def _failure(folder: Path) -> list[tuple[str, str]]:
    path = folder / FAILURE
    if not path.is_file():
        return []
    stored = read_json(path)
    return [("failed", f"{stored['stage']}: {stored['message']} ({stored['time']})")]


def _old_layout(folder: Path) -> list[tuple[str, str]]:
    version = stored_version(folder)
    if version == VERSION or not (folder / SCORES).is_file():
        return []
    return [("stale", f"{SCORES} has version {version}, not {VERSION}: evaluate this run again.")]


def _rank(facts: Facts, apart: bool) -> tuple[bool, bool, float, str]:
    chosen, shown = facts.held_out, reported(facts)
    score = chosen.score if chosen is not None else shown
    value = -1.0 if score is None else score.value
    return chosen is None, apart, -value, str(facts.run.folder)


def _profile(facts: Facts) -> dict[str, str]:
    """Which problems each of a run's scores stands on, in words."""
    profile = {}
    for benchmark in facts.main:
        edition = [text for text in (benchmark.release, benchmark.window) if text]
        whole = benchmark.num_problems == benchmark.num_total
        count = f"all {benchmark.problems}" if whole else benchmark.problems
        profile[benchmark.name] = ", ".join(
            [*edition, count, rules(benchmark.grading, benchmark.extraction)]
        )
    selection = facts.scores.selection if facts.scores is not None else None
    if selection is not None and selection.mode == "heldout":
        ids = sorted(
            f"{name}:{problem}" for name, some in selection.problems.items() for problem in some
        )
        counts = ", ".join(f"{len(some)} of {name}" for name, some in selection.problems.items())
        digest = hashlib.sha256("\n".join(ids).encode()).hexdigest()[:6]
        profile["held-out problems"] = f"{counts} (set {digest})"
    return profile
