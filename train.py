"""Simple self-distillation: `python train.py [GROUP=OPTION] [KEY=VALUE]`, `-m` sweeps, `--help`."""

import os
import sys

# Hydra would print composition errors itself, without naming what is allowed;
# here they reach `reporting_errors`.
os.environ.setdefault("HYDRA_FULL_ERROR", "1")

import hydra
from omegaconf import DictConfig

from ssd.config.composition import overrides_first, register
from ssd.drive.jobs import exit_code, launch, naming_lost_jobs
from ssd.runtime.reporting import reporting_errors

register()


@hydra.main(version_base="1.3", config_path="conf", config_name="train")
def main(composed: DictConfig) -> None:
    """Run one configuration."""
    launch(composed)


if __name__ == "__main__":
    sys.argv[1:] = overrides_first(sys.argv[1:])
    with reporting_errors(), naming_lost_jobs():
        main()
    sys.exit(exit_code())
