"""Verdicts on answers from elsewhere as JSON Lines: appended as they come, read by the next run."""

import json
import os
import tempfile
from collections.abc import Iterator
from io import FileIO
from pathlib import Path
from typing import Any

from ssd.artifacts.files import explained
from ssd.errors import ConfigError, DataError
from ssd.records.verdicts import Verdict

FIRST_FIELD = '{"task_id": "'
"""The beginning of a verdict's line."""


def stem(path: Path) -> str:
    """The name of a file of answers without its format: `qwen2.5` of `qwen2.5.jsonl.gz`."""
    name = path.name.removesuffix(".gz")
    has_format = Path(name).suffix in (".jsonl", ".json", ".parquet")
    return Path(name).stem if has_format else name


def beside(path: Path) -> Path:
    """The file for the verdicts on a file of answers."""
    path = path.resolve()  # a folder may be typed as `.`
    return path.with_name(f"{stem(path)}.verdicts.jsonl")


def require_writable(path: Path) -> None:
    """Refuse a file that cannot be written, or that holds something other than verdicts.

    Raises:
        ConfigError: it cannot be written.
        DataError: it holds something else.
    """
    try:
        if path.exists() and not (path.is_file() and os.access(path, os.W_OK)):
            raise ConfigError(f"{path} is no file that can be written: set --out")
        tempfile.TemporaryFile(dir=path.parent).close()  # verdicts replace their file as a whole
    except OSError as error:
        raise ConfigError(f"{path} cannot be written ({error.strerror}): set --out") from error
    list(stored_rows(path))  # refuses what is no verdict


def stored_rows(path: Path) -> Iterator[dict[str, Any]]:
    """The verdicts that a file holds; the last line may have been cut short by a kill.

    Raises:
        DataError: the file holds something else.
    """
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    for number, line in enumerate(lines, start=1):
        try:
            row = json.loads(line)
            row["key"], row["passed"]
        except (ValueError, KeyError, TypeError) as error:
            cut_short = number == len(lines) and isinstance(error, ValueError)
            if cut_short and FIRST_FIELD.startswith(line[: len(FIRST_FIELD)]):
                return
            raise DataError(f"{path}, line {number} is no verdict: set --out") from error
        yield row


def write_row(file: FileIO, row: dict[str, Any]) -> None:
    """Append a verdict to an unbuffered file.

    Raises:
        ArtifactError: the disk is full; the line is then cut short, as `stored_rows` allows.
    """
    line = f"{json.dumps(row)}\n".encode()
    with explained(Path(os.fsdecode(file.name))):
        while line:  # a disk that fills up takes a part
            line = line[file.write(line) :]


def verdict_of(row: dict[str, Any]) -> Verdict:
    """A stored row as a verdict for the computation of scores; its number of tokens is unknown."""
    return Verdict(
        problem_id=row["task_id"], sample_index=row["sample_index"], passed=row["passed"],
        status=row["status"], detail=row["detail"], num_tokens=0, finish_reason="stop",
        has_fence=False, program=row["program"], seconds=row["seconds"], backend=row["sandbox"],
    )  # fmt: skip
