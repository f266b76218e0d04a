"""Metrics: a JSONL file beside the artifact is the record, and loggers mirror it."""

import json
import os
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from ssd.artifacts.files import write_text
from ssd.artifacts.names import METRICS
from ssd.run import Run
from ssd.run.loggers import start_loggers


class Tracker:
    """One stage's metrics; a context manager, which closes its loggers at the end."""

    def __init__(self, run: Run, stage: str, fingerprint: str, folder: Path) -> None:
        # Before the file is opened: a failed start leaves nothing open.
        self.loggers = start_loggers(run, stage, fingerprint)
        self.folder = folder
        write_lines(folder, whole_lines(folder))  # a kill can leave half a line
        self.file = (folder / METRICS).open("a", encoding="utf-8")

    def __enter__(self) -> "Tracker":
        return self

    def __exit__(self, *exception: object) -> None:
        self.file.close()
        for logger in self.loggers:
            logger.finish(failed=exception[0] is not None)

    def resume(self, step: int) -> None:
        """Go on after optimizer step `step`: later lines, which are of steps that will be taken
        again, are dropped, and loggers are told the history up to there. At 0 all lines go."""
        self.file.close()
        lines = read_metrics(self.folder) if step else []
        history = [line for line in lines if line.get("step", 0) <= step]
        write_lines(self.folder, history)
        self.file = (self.folder / METRICS).open("a", encoding="utf-8")
        for line in history:
            self._mirror(line)

    def log(self, metrics: dict[str, float], step: int | None = None) -> None:
        """Append one line of metrics; `step` counts optimizer steps."""
        line = {**metrics, "time": round(time.time(), 3)} | ({} if step is None else {"step": step})
        self.file.write(json.dumps(line) + "\n")
        self.file.flush()
        self._mirror(line)

    def sync(self) -> None:
        """Return once all lines are on the disk: a checkpoint must not outlive its history."""
        os.fsync(self.file.fileno())

    def _mirror(self, line: Mapping[str, Any]) -> None:
        """Pass a line of the metrics file on; each process begins with the first one."""
        for logger in self.loggers:
            logger.log(line)

    def summary(self, values: dict[str, Any]) -> None:
        """Final values, shown in the loggers' tables of runs;
        their record is the artifact's manifest or scores file."""
        for logger in self.loggers:
            logger.summary(values)

    def table(self, name: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        """A table in the loggers; its rows are already stored in the artifact."""
        for logger in self.loggers:
            logger.table(name, columns, rows)

    def images(self, paths: Mapping[str, Path]) -> None:
        """Image files by name, copied to the loggers; they are already stored in the run folder."""
        for logger in self.loggers:
            logger.images(paths)

    def reference(self, folder: Path, name: str) -> None:
        """Tell the loggers where a checkpoint folder lies; nothing is uploaded."""
        for logger in self.loggers:
            logger.reference(folder, name)


def read_metrics(folder: Path) -> list[dict[str, Any]]:
    """Lines of a folder's metrics file; of a step that stands there twice, as in folders of an
    older version, the last counts."""
    steps: dict[Any, dict[str, Any]] = {}
    for number, line in enumerate(whole_lines(folder)):
        steps[line.get("step", f"line {number}")] = line
    return list(steps.values())


def whole_lines(folder: Path) -> list[dict[str, Any]]:
    """Lines of a folder's metrics file as they stand there, without those that a kill cut short."""
    path = folder / METRICS
    if not path.is_file():
        return []
    lines = []
    for text in path.read_text(encoding="utf-8", errors="replace").splitlines():
        with suppress(ValueError):
            lines.append(json.loads(text))
    return [line for line in lines if isinstance(line, dict)]


def write_lines(folder: Path, lines: Sequence[Mapping[str, Any]]) -> None:
    """Replace a folder's metrics file, atomically, if it holds anything else."""
    path, text = folder / METRICS, "".join(json.dumps(line) + "\n" for line in lines)
    if path.is_file() and path.read_bytes() != text.encode():
        write_text(path, text)
