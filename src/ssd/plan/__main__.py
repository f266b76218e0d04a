"""`python -m ssd.plan RUN_DIR`: print what the run would need, and write it to plan.json there."""

import argparse
from pathlib import Path

import yaml
from omegaconf import OmegaConf

from ssd.artifacts.files import write_json
from ssd.artifacts.names import CONFIG
from ssd.config.settings import RunConfig, to_run_config
from ssd.errors import ArtifactError, ConfigError, one_line
from ssd.runtime.reporting import reporting_errors


def read_config(path: Path) -> tuple[RunConfig, Path]:
    """The configuration in a run folder or in a file of its own, and the folder it lies in.

    Raises:
        ArtifactError: there is none.
        ConfigError: it is not valid.
    """
    file = path / CONFIG if path.is_dir() else path
    if not file.is_file():
        raise ArtifactError(
            f"{path} holds no configuration ({CONFIG}): make one with "
            "python train.py 'stages=[plan]'"
        )
    try:
        loaded = OmegaConf.load(file)
    except (yaml.YAMLError, OSError) as error:
        raise ConfigError(
            f"{file} is no readable YAML ({one_line(error)}): run python train.py again"
        ) from error
    return to_run_config(loaded), file.parent


def main() -> None:
    """Read the configuration, plan, print, write."""
    parser = argparse.ArgumentParser(
        prog="python -m ssd.plan",
        description="Print what a run needs: memory, tokens, time and disk. Trains nothing.",
    )
    parser.add_argument(
        "run_dir",
        type=Path,
        metavar="RUN_DIR_OR_CONFIG",
        help="run folder that train.py made (holds config.yaml), or a configuration file",
    )
    parser.add_argument(
        "--free-disk",
        type=float,
        metavar="BYTES",
        help="judge the disk too: what is free for the run",
    )
    parser.add_argument(
        "--trainings",
        type=int,
        metavar="NUMBER",
        help="how many of the run's trainings are still to be done",
    )
    parser.add_argument("--quiet", action="store_true", help="only write plan.json")
    arguments = parser.parse_args()
    with reporting_errors():
        config, folder = read_config(arguments.run_dir)

        # After the cheap checks: torch and transformers take seconds to import.
        from ssd.artifacts.names import PLAN
        from ssd.plan.plan import make_plan
        from ssd.plan.table import plan_text

        plan = make_plan(config, folder, arguments.free_disk, arguments.trainings)
        write_json(folder / PLAN, plan.numbers())
        if not arguments.quiet:
            print(f"{plan_text(plan)}\n\nwritten: {folder / PLAN}", flush=True)


if __name__ == "__main__":
    main()
