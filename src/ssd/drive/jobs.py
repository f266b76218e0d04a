"""The jobs of a command, one or a sweep's: failures that outlive their process, and the study.

A sweep goes on after a failed job, whether its jobs run one after the other in this process or in
processes of their own (submitit), so what failed is read from the run folders at the end.
"""

import os
import sys
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.experimental.callback import Callback
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from ssd.artifacts.files import write_json
from ssd.artifacts.names import FAILURE, STUDY_PAGE
from ssd.config.composition import RUN
from ssd.config.settings import RunConfig, to_run_config
from ssd.drive.pipeline import run_pipeline
from ssd.drive.sweep import faults, list_jobs
from ssd.errors import (
    REPORTED,
    RESUMABLE,
    ArtifactError,
    ConfigError,
    PreemptedError,
    ReportedError,
    SSDError,
    StageError,
    one_line,
)
from ssd.report import write_study
from ssd.report.study.collection import collect_study
from ssd.report.study.rows import study_table

SUBMITTED = "SUBMITIT_EXECUTOR"
"""Environment variable of jobs that the submitit launcher has started."""
FAILED: set[Path] = set()
"""Run folders of this command's failed jobs, run in this process or in processes that a launcher
started: a sweep goes on after a failed job."""


def launch(composed: DictConfig) -> None:
    """Run what Hydra composed; a failure is printed and kept in the run folder, and a sweep's other
    jobs go on."""
    hydra = HydraConfig.get()
    folder = Path(hydra.runtime.output_dir)
    command = [*RUN, *hydra.overrides.task]
    try:
        config = to_run_config(OmegaConf.to_container(composed, resolve=True))
        check_launcher(config)
        run_pipeline(config, folder, command)
        (folder / FAILURE).unlink(missing_ok=True)
    except PreemptedError as error:
        print(error, file=sys.stderr, flush=True)
        if SUBMITTED not in os.environ:  # a sweep's other jobs would be stopped too
            sys.exit(RESUMABLE)
        record_failure(folder, error, command)
    except SSDError as error:
        if not isinstance(error, ReportedError):
            print(f"error: {error}", file=sys.stderr, flush=True)
        record_failure(folder, error, command)
    except Exception as error:  # a fault in this program, which keeps its trace
        record_failure(folder, error, command)
        if hydra.mode is RunMode.RUN:
            raise
        traceback.print_exc()


@contextmanager
def naming_lost_jobs() -> Iterator[None]:
    """Report a killed job in one line. Otherwise submitit ends the sweep's own process with a
    traceback, while the other jobs go on in their processes.

    Raises:
        StageError: a job ended without a result.
    """
    try:
        yield
    except RuntimeError as error:
        if not type(error).__module__.startswith("submitit."):
            raise
        raise StageError(
            f"{str(error).splitlines()[0]} was killed; see its log there. The other jobs go on: "
            "ssd report STUDY_DIR shows them, and the same sweep repeats what is missing"
        ) from error


def check_launcher(config: RunConfig) -> None:
    """Refuse what a submitted job cannot do.

    Raises:
        ConfigError: several machines; submitit would start the whole run on each of them.
    """
    nodes = config.hardware.num_nodes
    if SUBMITTED in os.environ and nodes > 1:
        raise ConfigError(
            f"hardware.num_nodes={nodes} needs a job of its own: start train.py in an sbatch "
            "script (docs/training.md), and leave hydra/launcher to sweeps of one machine a run"
        )


def record_failure(folder: Path, error: Exception, command: list[str]) -> None:
    """Write `failed.json` into a run folder: where, why and when the run stopped."""
    FAILED.add(folder)
    stage = error.stage if isinstance(error, StageError) else "before its first stage"
    message = one_line(error) if isinstance(error, SSDError) else repr(error)
    finished = time.strftime("%Y-%m-%d %H:%M:%S %z")
    failure = {"stage": stage, "message": message, "time": finished, "command": command}
    with suppress(ArtifactError):  # a full disk: the reason has been printed
        write_json(folder / FAILURE, failure)


def exit_code() -> int:
    """The exit code of this process: 0, or that of a reported failure."""
    return REPORTED if FAILED else 0


class StudyTable(Callback):
    """Checks a sweep's jobs before the first one, names them as they start, and prints the study's
    table and writes its report once the sweep has ended (Hydra calls it)."""

    def __init__(self) -> None:
        self.before: dict[Path, str] = {}
        """Failures of earlier sweeps, by file."""
        self.num_jobs = 0
        """Jobs of the sweep that this process runs one after the other; 0 where it is unknown."""

    def on_multirun_start(self, config: DictConfig, **_: Any) -> None:
        """Check every job, and remember the failures of earlier sweeps."""
        self.before = failures(Path(config.hydra.sweep.dir))
        loader = GlobalHydra.instance().config_loader()
        jobs = list_jobs(config, loader)
        self.num_jobs = len(jobs)
        # By exits: Hydra makes a warning of a callback's exception and goes on.
        try:
            wrong = faults(config, jobs, loader)
        except PreemptedError as error:
            print(error, file=sys.stderr, flush=True)
            sys.exit(RESUMABLE)
        if wrong:
            print(f"error: no job was started: {'; '.join(wrong)}", file=sys.stderr, flush=True)
            sys.exit(REPORTED)

    def on_job_start(self, config: DictConfig, **_: Any) -> None:
        """Say which of the sweep's jobs starts."""
        if self.num_jobs:
            print(f"\njob {config.hydra.job.num + 1} of {self.num_jobs}", flush=True)

    def on_multirun_end(self, config: DictConfig, **_: Any) -> None:
        """Print the table, write the study's report beside the runs, and name the jobs that
        failed, whichever process they ran in."""
        folder = Path(config.hydra.sweep.dir)
        after = failures(folder)
        FAILED.update(path.parent for path in after if after[path] != self.before.get(path))
        try:
            study = collect_study([folder], folder)
            print(f"\n{study_table(study)}", flush=True)
            write_study(study)
            print(f"\nstudy: {folder / STUDY_PAGE}", flush=True)
        except SSDError as error:  # Hydra would turn it into a warning with a file and a line
            print(f"no study table: {error}", file=sys.stderr, flush=True)
        if FAILED:
            names = ", ".join(sorted(path.name for path in FAILED))
            print(
                f"{len(FAILED)} job(s) failed; the same sweep repeats only them: {names}",
                flush=True,
            )


def failures(study_dir: Path) -> dict[Path, str]:
    """The contents of every run's `failed.json` in a study folder, by file."""
    return {path: path.read_text(encoding="utf-8") for path in study_dir.glob(f"*/{FAILURE}")}
