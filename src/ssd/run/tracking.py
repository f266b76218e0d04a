"""Metrics: a JSONL file beside the artifact is the record, W&B mirrors it."""

import json
import netrc
import os
import shutil
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from ssd.artifacts.files import write_text
from ssd.artifacts.fingerprints import plain
from ssd.artifacts.names import METRICS
from ssd.artifacts.places import user_folder
from ssd.config.choices import WandbMode
from ssd.config.settings import LoggerConfig
from ssd.errors import ArtifactError
from ssd.run import Run

FOLDERS = (
    ("WANDB_CACHE_DIR", "XDG_CACHE_HOME", "~/.cache"),
    ("WANDB_DATA_DIR", "XDG_DATA_HOME", "~/.local/share"),
)
"""W&B's own folders: the variable of each, and the folder of all programs in which it lies without
it."""


class Tracker:
    """One stage's metrics; a context manager, which finishes W&B before the process goes on."""

    def __init__(self, run: Run, stage: str, fingerprint: str, folder: Path) -> None:
        # Before the file is opened: a failed start leaves nothing open.
        self.wandb: Any = _start_wandb(run, stage, fingerprint) if run.config.logger.wandb else None
        self.folder = folder
        write_lines(folder, whole_lines(folder))  # a kill can leave half a line
        self.file = (folder / METRICS).open("a", encoding="utf-8")

    def __enter__(self) -> "Tracker":
        return self

    def __exit__(self, *exception: object) -> None:
        self.file.close()
        if self.wandb is not None:
            self.wandb.finish(exit_code=0 if exception[0] is None else 1)

    def resume(self, step: int) -> None:
        """Go on after optimizer step `step`: later lines, which are of steps that will be taken
        again, are dropped, and trackers are told the history up to there. At 0 all lines go."""
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
        if self.wandb is not None:
            names = {"time": "_timestamp"}
            values = {names.get(key, key): value for key, value in line.items() if key != "step"}
            self.wandb.log(values, step=line.get("step"))

    def summary(self, values: dict[str, Any]) -> None:
        """Final values, shown in W&B's run table;
        their record is the artifact's manifest or scores file."""
        if self.wandb is not None:
            self.wandb.summary.update(values)

    def table(self, name: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        """A W&B table; its rows are already stored in the artifact."""
        if self.wandb is not None:
            import wandb

            table = wandb.Table(columns=list(columns), data=[list(row) for row in rows])
            self.wandb.log({name: table})

    def images(self, paths: Mapping[str, Path]) -> None:
        """Image files by name, copied to W&B; they are already stored in the run folder."""
        if self.wandb is not None and paths:
            import wandb

            self.wandb.log({name: wandb.Image(str(path)) for name, path in paths.items()})

    def reference(self, folder: Path, name: str) -> None:
        """A W&B model artifact that says where a checkpoint folder lies; nothing is uploaded."""
        if self.wandb is not None:
            import wandb

            artifact = wandb.Artifact(name, type="model", metadata={"folder": str(folder)})
            # Not hashed again: the folder's name is a fingerprint, and 30B parameters take minutes.
            artifact.add_reference(folder.absolute().as_uri(), checksum=False)
            self.wandb.log_artifact(artifact)


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


def has_login() -> bool:
    """Whether a W&B key is available, without using the network."""
    if os.environ.get("WANDB_API_KEY"):
        return True
    try:
        hosts = netrc.netrc().hosts
    except (OSError, netrc.NetrcParseError):
        return False
    return any("wandb" in host for host in hosts)


def wandb_mode(logger: LoggerConfig) -> str:
    """`online` or `offline` (or what WANDB_MODE says, which wins)."""
    if os.environ.get("WANDB_MODE"):
        return os.environ["WANDB_MODE"]
    if logger.mode is not WandbMode.auto:
        return str(logger.mode.value)
    return "online" if has_login() else "offline"


def require_wandb_folders() -> None:
    """Raise `ArtifactError` where W&B could not write what it keeps outside of the run folder."""
    for variable, shared, default in FOLDERS:
        folder = user_folder(variable, str(user_folder(shared, default) / "wandb"))
        try:
            folder.mkdir(parents=True, exist_ok=True)
            writable = os.access(folder, os.W_OK)
        except OSError:
            writable = False
        if not writable:
            raise ArtifactError(
                f"W&B cannot write {folder}: set {' and '.join(row[0] for row in FOLDERS)} to "
                "writable folders, or use logger=none"
            )


def _start_wandb(run: Run, stage: str, fingerprint: str) -> Any:
    os.environ.setdefault("WANDB_SILENT", "true")  # what a user needs to know is printed below
    import wandb

    config, mode = run.config, wandb_mode(run.config.logger)
    # A second process for the same artifact tells W&B everything again, from the first line on, and
    # replaces what W&B has. To resume that would keep steps that were rolled back, and offline
    # nobody knows what W&B has. Its rewinding is a preview, of some of its servers.
    name = f"{stage}-{fingerprint}"
    for earlier in (run.folder / "wandb").glob(f"offline-run-*-{name}"):
        # Where a kill left one unreadable, `wandb sync` of all would send none.
        shutil.rmtree(earlier)
    started = wandb.init(
        project=config.logger.project,
        entity=config.logger.entity,
        dir=str(run.folder),
        id=name,
        group=config.study,
        name=config.title,
        job_type=stage,
        config=plain(config),
        mode=mode,  # type: ignore[arg-type]
        settings=wandb.Settings(silent=True, console="off", disable_git=True),
    )
    # Once for all stages, which have a W&B run each.
    if mode == "offline" and len(list((run.folder / "wandb").glob("offline-run-*"))) == 1:
        print(
            f"W&B is offline; after wandb login, sync with: wandb sync {run.folder / 'wandb'}",
            flush=True,
        )
    return started
