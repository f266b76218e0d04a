"""`python train.py` and `ssd run`: Hydra composes a configuration or a sweep's, and jobs run it."""

import os
import sys
from collections.abc import Sequence

# Hydra would print composition errors itself, without naming what is allowed;
# here they reach `reporting_errors`.
os.environ.setdefault("HYDRA_FULL_ERROR", "1")

import hydra
from omegaconf import DictConfig

from ssd.config.composition import CONF, overrides_first, register
from ssd.drive.jobs import exit_code, launch, naming_lost_jobs
from ssd.runtime.reporting import reporting_errors

register()


@hydra.main(version_base="1.3", config_path=str(CONF), config_name="train")
def job(composed: DictConfig) -> None:
    """Run one configuration."""
    launch(composed)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run what the command line says, and exit with its code."""
    given = sys.argv[1:] if arguments is None else arguments
    sys.argv[1:] = overrides_first(given)
    with reporting_errors(), naming_lost_jobs():
        job()
    sys.exit(exit_code())


if __name__ == "__main__":
    main()
