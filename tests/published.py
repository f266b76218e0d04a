"""Store and run folders again, from what `ssd.report.published` left of them."""

import csv
import io
import json
import shutil
import tarfile
from pathlib import Path
from typing import Any

from ssd.artifacts.files import read_json, write_json
from ssd.artifacts.fingerprints import hash_file
from ssd.artifacts.names import CONFIG, MANIFEST, METRICS, VERDICTS, WEIGHTS
from ssd.records.verdicts import Verdict, write_verdicts
from ssd.report.published import ANSWERS, ARCHIVE, MANIFESTS


def unpacked(path: Path) -> dict[str, bytes]:
    """Names and contents of an archive."""
    with tarfile.open(path) as archive:
        files = {entry.name: archive.extractfile(entry) for entry in archive}
        return {name: file.read() for name, file in files.items() if file}


def manifests(published: Path) -> dict[str, dict[str, Any]]:
    """Published manifests by fingerprint."""
    lines = (published / MANIFESTS).read_text(encoding="utf-8").splitlines()
    return {manifest["fingerprint"]: manifest for manifest in map(json.loads, lines)}


def read_table(content: bytes) -> list[dict[str, str]]:
    """The rows of a CSV file with a header."""
    return list(csv.DictReader(io.StringIO(content.decode())))


def restore(published: Path, outputs: Path, study: str) -> Path:
    """A store that has everything but weights, positions and, unless published, answers.

    Returns:
        The study's folder in `outputs`.
    """
    store = outputs / "store"
    for manifest in manifests(published).values():
        write_json(store / manifest["kind"] / manifest["fingerprint"] / MANIFEST, manifest)
    for name, content in unpacked(published / ARCHIVE).items():
        kind, fingerprint = Path(name).stem.rsplit("-", 1)
        if name.endswith(".csv"):
            verdicts = [_verdict(row) for row in read_table(content)]
            write_verdicts(store / kind / fingerprint / VERDICTS, verdicts)
        else:
            (store / kind / fingerprint / METRICS).write_bytes(content)
    for verdicts in store.glob(f"verdicts/*/{VERDICTS}"):  # written anew, from their table
        sign(verdicts)
    if (published / ANSWERS).is_file():
        with tarfile.open(published / ANSWERS) as archive:
            archive.extractall(store, filter="data")
    for config in (*published.glob(CONFIG), *published.glob(f"*/{CONFIG}")):
        run = outputs / study / config.parent.name
        shutil.copytree(config.parent, run)
        write_json(run / WEIGHTS, _weights(published))
    return outputs / study


def sign(file: Path) -> None:
    """Write a file's hash into the manifest beside it."""
    manifest = read_json(file.parent / MANIFEST)
    manifest["files"][file.name] = hash_file(file)
    manifest.pop("digest", None)
    write_json(file.parent / MANIFEST, manifest)


def _verdict(row: dict[str, str]) -> Verdict:
    return Verdict(
        problem_id=row["problem_id"],
        sample_index=int(row["sample_index"]),
        passed=row["passed"] == "True",
        status=row["status"],
        detail=row["detail"],
        num_tokens=int(row["num_tokens"]),
        finish_reason=row["finish_reason"],
        has_fence=row["has_fence"] == "True",
        program=row["program"],
        seconds=0.0,
        backend=row["backend"],
    )


def _weights(published: Path) -> dict[str, str]:
    """What every corpus was drawn from; where it lay is not published."""
    corpus = next(m for m in manifests(published).values() if m["kind"] == "corpus")["inputs"]
    return {
        "path": "nowhere",
        "identity": corpus["weights"],
        "tokenizer": corpus["tokenizer"],
        "source": "not published",
    }
