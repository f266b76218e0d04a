"""A sweep's jobs, listed and checked before the first of them starts."""

import io
import shutil
from collections.abc import Sequence
from contextlib import redirect_stdout
from pathlib import Path

from hydra._internal.core_plugins.basic_launcher import BasicLauncher
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.config_loader import ConfigLoader
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from ssd.config.mistakes import explain
from ssd.config.settings import to_run_config
from ssd.drive.checks import check, check_data
from ssd.drive.model_check import check_unfetched
from ssd.drive.pipeline import follow, prepare
from ssd.errors import PreemptedError, SSDError
from ssd.problems.benchmarks.registry import require_benchmarks
from ssd.run import Run


def list_jobs(config: DictConfig, loader: ConfigLoader | None) -> list[list[str]]:
    """The overrides of each job of a sweep; empty if only the sweeper knows, as Optuna's does.

    Args:
        loader: knows the options of groups, which `glob(*)` needs.
    """
    sweeper = config.hydra.sweeper
    if sweeper.get("_target_") != f"{BasicSweeper.__module__}.{BasicSweeper.__name__}":
        return []
    presets = (sweeper.get("params") or {}).items()
    overrides = [*(f"{key}={value}" for key, value in presets), *config.hydra.overrides.task]
    parsed = OverridesParser.create(loader).parse_overrides(overrides)
    (jobs,) = BasicSweeper.split_arguments(parsed, max_batch_size=None)
    return jobs


def faults(config: DictConfig, jobs: Sequence[Sequence[str]], loader: ConfigLoader) -> list[str]:
    """A line for each reason why jobs would fail before their first stage. What is printed on the
    way is left out: the jobs print it again.

    Raises:
        PreemptedError: a signal asked to stop.
    """
    launcher = str(config.hydra.launcher.get("_target_"))
    if launcher.endswith(".SlurmLauncher") and shutil.which("srun") is None:
        return [
            "hydra/launcher=slurm submits jobs to SLURM, and this machine has no srun: start the "
            "sweep on one that has, or leave hydra/launcher out to run the jobs here, one after "
            "the other"
        ]
    runs_here = launcher == f"{BasicLauncher.__module__}.{BasicLauncher.__name__}"
    numbers: dict[str, list[str]] = {}
    for number, overrides in enumerate(jobs, start=1):
        try:
            composed = loader.load_sweep_config(config, [*overrides])
            with redirect_stdout(io.StringIO()):
                _check(composed, runs_here)
        except PreemptedError:
            raise
        except SSDError as error:
            numbers.setdefault(str(error), []).append(str(number))
        except (HydraException, OmegaConfBaseException) as error:
            numbers.setdefault(str(explain(error)), []).append(str(number))
    return [
        f"job {', '.join(jobs_of)} of {len(jobs)}: {message}"
        for message, jobs_of in numbers.items()
    ]


def _check(composed: DictConfig, runs_here: bool) -> None:
    HydraConfig.instance().set_config(composed)  # the run's name follows from it
    folder = Path(composed.hydra.run.dir)
    content = OmegaConf.masked_copy(composed, [str(key) for key in composed if key != "hydra"])
    config = to_run_config(OmegaConf.to_container(content, resolve=True))
    config.stages = [stage for stage in config.stages if stage != "plan"]
    if not config.stages:
        follow(config)
    elif runs_here:
        config, weights = prepare(config, folder)
        if weights is None:
            check_unfetched(config, folder)
        else:
            check(Run(folder, config, weights))
    else:  # machines of a cluster may have what this one lacks
        require_benchmarks(config.eval)
        check_data(config)
