"""What others need to check a run or study, as a folder of small files.

    python -m ssd.report.publish RUN_DIR|STUDY_DIR FOLDER [--answers]

Reports, settings, scores and the choice behind them; of every artifact its manifest, of a training
also its metrics by step, of graded answers also every verdict. No weights, and neither the working
nor the home directory's path.

With `--answers` also everything that was sampled, as the store holds it: seeds do not give the same
answers on another machine. Copied into an empty store, it lets the same command train on the very
corpus and grade the very answers.
"""

import argparse
import csv
import io
import re
import shutil
from pathlib import Path
from typing import Any

from ssd.artifacts import Artifact, read_rows, replacing, write_text
from ssd.artifacts.names import (
    COMMAND,
    CONFIG,
    FAILURE,
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
from ssd.errors import ArtifactError
from ssd.report.render.files import FIGURES
from ssd.report.run.facts import collect, made_artifacts
from ssd.report.study.collection import is_run, is_study
from ssd.runtime.stage import reporting_errors

ARTIFACTS = "artifacts"
STORE = "store"
"""Published answers, laid out as `outputs/store` is."""
SAMPLED = ("corpus", "generations")
RUN_FILES = (
    REPORT_TEXT, REPORT_PAGE, RESULTS, CONFIG, COMMAND, SELECTION, SCORES, PLAN, FAILURE,
)  # fmt: skip
STUDY_FILES = (STUDY_TEXT, STUDY_PAGE, RESULTS)


def publish(folder: Path, into: Path, *, answers: bool = False) -> list[str]:
    """Copy a run or study, without paths; files of the same name are replaced, others stay.

    Args:
        answers: copy corpora and answers, too.

    Returns:
        What it lacks, one sentence each.

    Raises:
        ArtifactError: `folder` is neither a run nor a study or has no report, a file is damaged, or
            `into` cannot be written.
    """
    artifacts: dict[Path, Artifact] = {}
    if is_run(folder):
        _require_report(folder, RUN_FILES[0])
        lacks = _publish_run(folder, into, artifacts)
    elif is_study(folder):
        _require_report(folder, STUDY_FILES[0])
        _copy(folder, into, STUDY_FILES)
        lacks = [
            f"{run.name}: {lack}"
            for run in sorted(folder.iterdir())
            if is_run(run)
            for lack in _publish_run(run, into / run.name, artifacts)
        ]
    else:
        raise ArtifactError(
            f"{folder} is neither a run nor a study: name a folder that train.py made"
        )
    _publish_artifacts(artifacts, into, answers=answers)
    return lacks


def _require_report(folder: Path, name: str) -> None:
    if not (folder / name).is_file():
        raise ArtifactError(f"{folder} has no {name}: run python -m ssd.report {folder} first")


def _publish_run(folder: Path, into: Path, artifacts: dict[Path, Artifact]) -> list[str]:
    """A run's own files; its artifacts, which other runs may share, are added to `artifacts`."""
    _copy(folder, into, RUN_FILES)
    if not (folder / WEIGHTS).is_file():
        return [f"It failed before it had weights; {FAILURE} says why."]
    facts = collect(folder, read_positions=False)
    artifacts |= {artifact.folder: artifact for artifact in made_artifacts(facts) if artifact.done}
    return [*facts.missing, *facts.stale]


def _publish_artifacts(artifacts: dict[Path, Artifact], into: Path, *, answers: bool) -> None:
    for artifact in artifacts.values():
        _publish_artifact(artifact, into / ARTIFACTS)
        if answers and artifact.kind in SAMPLED:
            _copy_whole(artifact, into / STORE / artifact.kind / artifact.folder.name)


def _publish_artifact(artifact: Artifact, into: Path) -> None:
    name = f"{artifact.kind}-{artifact.fingerprint}"
    for source, suffix in ((MANIFEST, "json"), (METRICS, "jsonl")):
        if (artifact.folder / source).is_file():
            text = (artifact.folder / source).read_text(encoding="utf-8")
            write_text(into / f"{name}.{suffix}", without_paths(text))
    if (artifact.folder / VERDICTS).is_file():
        table = verdict_table(read_rows(artifact.folder / VERDICTS))
        write_text(into / f"{name}.csv", without_paths(table))


def _copy_whole(artifact: Artifact, into: Path) -> None:
    """The files that the manifest names, then the manifest, byte for byte."""
    for name in (*artifact.manifest()["files"], MANIFEST):
        with replacing(into / name) as temporary:
            shutil.copyfile(artifact.folder / name, temporary)


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


def main() -> None:
    """Command line of this module."""
    parser = argparse.ArgumentParser(
        prog="python -m ssd.report.publish",
        description="Copy what others need to check a run or study into a folder: reports, "
        "settings, scores, manifests, every verdict; no weights and no path of this machine.",
    )
    parser.add_argument(
        "source",
        type=Path,
        metavar="RUN_DIR|STUDY_DIR",
        help="run folder that train.py made, or a folder of such folders; reported on before",
    )
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="where the files go")
    parser.add_argument(
        "--answers",
        action="store_true",
        help=f"also every corpus and answer, in FOLDER/{STORE}; copied into outputs/{STORE} "
        "elsewhere, the same command goes on from them",
    )
    arguments = parser.parse_args()
    with reporting_errors():
        for lack in publish(arguments.source, arguments.folder, answers=arguments.answers):
            print(f"note: {lack}")
        size = sum(path.stat().st_size for path in arguments.folder.rglob("*") if path.is_file())
        print(f"published into {arguments.folder}, {size / 1e6:.1f} MB in all", flush=True)


if __name__ == "__main__":
    main()
