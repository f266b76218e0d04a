"""A stage as a W&B run, online where there is a login."""

import netrc
import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ssd.artifacts.fingerprints import plain
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


class WandbLogger:
    """Mirrors one stage to W&B."""

    def __init__(self, run: Run, stage: str, fingerprint: str) -> None:
        self.run: Any = _start_wandb(run, stage, fingerprint)

    def log(self, line: Mapping[str, Any]) -> None:
        names = {"time": "_timestamp"}
        values = {names.get(key, key): value for key, value in line.items() if key != "step"}
        self.run.log(values, step=line.get("step"))

    def summary(self, values: Mapping[str, Any]) -> None:
        self.run.summary.update(dict(values))

    def table(self, name: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        import wandb

        table = wandb.Table(columns=list(columns), data=[list(row) for row in rows])
        self.run.log({name: table})

    def images(self, paths: Mapping[str, Path]) -> None:
        import wandb

        self.run.log({name: wandb.Image(str(path)) for name, path in paths.items()})

    def reference(self, folder: Path, name: str) -> None:
        import wandb

        artifact = wandb.Artifact(name, type="model", metadata={"folder": str(folder)})
        # Not hashed again: the folder's name is a fingerprint, and 30B parameters take minutes.
        artifact.add_reference(folder.absolute().as_uri(), checksum=False)
        self.run.log_artifact(artifact)

    def finish(self, *, failed: bool) -> None:
        self.run.finish(exit_code=1 if failed else 0)


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
    os.environ.setdefault("WANDB_SILENT", "true")  # the driver says once what a user needs to know
    import wandb

    config, mode = run.config, wandb_mode(run.config.logger)
    # A second process for the same artifact tells W&B everything again, from the first line on, and
    # replaces what W&B has. To resume that would keep steps that were rolled back, and offline
    # nobody knows what W&B has. Its rewinding is a preview, of some of its servers.
    name = f"{stage}-{fingerprint}"
    for earlier in (run.folder / "wandb").glob(f"offline-run-*-{name}"):
        # Where a kill left one unreadable, `wandb sync` of all would send none.
        shutil.rmtree(earlier)
    return wandb.init(
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
