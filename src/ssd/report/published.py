"""The files that others need to check a run or study, as a small folder.

Reports, settings, scores and the choice behind them; `manifests.jsonl`, a line for the manifest of
every artifact; `artifacts.tar.xz`, with every verdict as `verdicts-FINGERPRINT.csv` and the metrics
by step of every training. No weights, and neither the working nor the home directory's path.

With answers also `answers.tar.xz`, everything that was sampled, as the store holds it: seeds do
not give the same answers on another machine. Unpacked into an empty store, it lets the same command
train on the very corpus and grade the very answers.
"""

import csv
import io
import json
import re
import tarfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from ssd.artifacts.files import read_rows, replacing, write_text
from ssd.artifacts.names import (
    COMMAND,
    CONFIG,
    FAILURE,
    FIGURES,
    MANIFEST,
    METRICS,
    PLAN,
    REPORT_PAGE,
    REPORT_TEXT,
    RESULTS,
    SCORES,
    SELECTION,
    STUDY_PAGE,
    STUDY_TEXT,
    VERDICTS,
    WEIGHTS,
)
from ssd.artifacts.store import Artifact
from ssd.errors import ArtifactError
from ssd.report.run.facts import collect, made_artifacts
from ssd.report.study.collection import is_run, is_study

MANIFESTS = "manifests.jsonl"
ARCHIVE = "artifacts.tar.xz"
"""Verdicts and metrics, by kind and fingerprint."""
ANSWERS = "answers.tar.xz"
"""Corpora and answers, laid out as `outputs/store` is."""
SAMPLED = ("corpus", "generations")
RUN_FILES = (
    REPORT_TEXT, REPORT_PAGE, RESULTS, CONFIG, COMMAND, SELECTION, SCORES, PLAN, FAILURE,
)  # fmt: skip
STUDY_FILES = (STUDY_TEXT, STUDY_PAGE, RESULTS)


def publish(folder: Path, into: Path, *, answers: bool = False) -> list[str]:
    """Copy a run or study without this machine's paths; replaces files of the same name only.

    Args:
        answers: copy corpora and answers, too.

    Returns:
        What it lacks, one sentence each.

    Raises:
        ArtifactError: `folder` is neither a run nor a study or has no report, a file is damaged, or
            `into` cannot be written.
    """
    if not (is_run(folder) or is_study(folder)):
        raise ArtifactError(
            f"{folder} is neither a run nor a study: name a folder that train.py made"
        )
    name = REPORT_TEXT if is_run(folder) else STUDY_TEXT
    if not (folder / name).is_file():
        raise ArtifactError(f"{folder} has no {name}: run ssd report {folder} first")
    artifacts: dict[Path, Artifact] = {}
    if is_run(folder):
        lacks = _publish_run(folder, into, artifacts)
    else:
        _copy(folder, into, STUDY_FILES)
        lacks = [
            f"{run.name}: {lack}"
            for run in sorted(folder.iterdir())
            if is_run(run)
            for lack in _publish_run(run, into / run.name, artifacts)
        ]
    _publish_artifacts(artifacts, into, answers=answers)
    return lacks


def _publish_run(folder: Path, into: Path, artifacts: dict[Path, Artifact]) -> list[str]:
    """A run's own files; its artifacts, which other runs may share, are added to `artifacts`."""
    _copy(folder, into, RUN_FILES)
    if not (folder / WEIGHTS).is_file():
        return [f"It failed before it had weights; {FAILURE} says why."]
    facts = collect(folder, read_positions=False)
    artifacts |= {artifact.folder: artifact for artifact in made_artifacts(facts) if artifact.done}
    return [*facts.missing, *facts.stale]


def _publish_artifacts(by_folder: dict[Path, Artifact], into: Path, *, answers: bool) -> None:
    artifacts = sorted(
        by_folder.values(), key=lambda artifact: (artifact.kind, artifact.fingerprint)
    )
    lines = [json.dumps(artifact.manifest(), ensure_ascii=False) for artifact in artifacts]
    write_text(into / MANIFESTS, without_paths("".join(f"{line}\n" for line in lines)))
    write_archive(into / ARCHIVE, _evidence(artifacts))
    if answers:
        sampled = [artifact for artifact in artifacts if artifact.kind in SAMPLED]
        write_archive(into / ANSWERS, _whole(sampled))


def _evidence(artifacts: Iterable[Artifact]) -> Iterator[tuple[str, bytes]]:
    """What scores and curves are made of, without paths."""
    for artifact in artifacts:
        name = f"{artifact.kind}-{artifact.fingerprint}"
        metrics, verdicts = artifact.folder / METRICS, artifact.folder / VERDICTS
        artifact.intact(METRICS, VERDICTS)
        if metrics.is_file():
            yield f"{name}.jsonl", without_paths(metrics.read_text(encoding="utf-8")).encode()
        if verdicts.is_file():
            yield f"{name}.csv", without_paths(verdict_table(read_rows(verdicts))).encode()


def _whole(artifacts: Iterable[Artifact]) -> Iterator[tuple[str, bytes]]:
    """The files that the manifests name and the manifests, byte for byte."""
    for artifact in artifacts:
        for name in (*artifact.manifest()["files"], MANIFEST):
            path = f"{artifact.kind}/{artifact.fingerprint}/{name}"
            artifact.intact(name)
            yield path, (artifact.folder / name).read_bytes()


def write_archive(path: Path, files: Iterable[tuple[str, bytes]]) -> None:
    """Names and contents as a tar.xz without times and owners: the same files, the same bytes."""
    with replacing(path) as temporary, tarfile.open(temporary, "w:xz") as archive:
        for name, content in files:
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))


def verdict_table(verdicts: list[dict[str, Any]]) -> str:
    """Verdicts as CSV with a header, without the seconds that grading took on this machine."""
    text = io.StringIO()
    columns = [name for name in verdicts[0] if name != "seconds"]
    writer = csv.DictWriter(text, columns, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows(verdicts)
    return text.getvalue()


def _copy(folder: Path, into: Path, names: tuple[str, ...]) -> None:
    for name in names:
        if (folder / name).is_file():
            text = (folder / name).read_text(encoding="utf-8")
            write_text(into / name, without_paths(text))
    for figure in sorted((folder / FIGURES).glob("*.png")):
        with replacing(into / FIGURES / figure.name) as temporary:
            temporary.write_bytes(figure.read_bytes())


def without_paths(text: str) -> str:
    """The working directory and what is below it as `.`, the home directory as `~`."""
    for path, name in ((Path.cwd(), "."), (Path.home(), "~")):
        if path != Path(path.anchor):
            text = re.sub(rf"{re.escape(str(path))}(?![\w-])", name, text)
    return text
