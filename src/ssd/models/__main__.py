"""Fetch a run's weights for the pipeline: `python -m ssd.models CONFIG.yaml WEIGHTS.json`."""

import argparse
from pathlib import Path

from omegaconf import OmegaConf

from ssd.artifacts.files import write_json
from ssd.config.settings import to_run_config
from ssd.models.fetch import fetch
from ssd.runtime.progress import silence_loading_bars
from ssd.runtime.reporting import reporting_errors


def main() -> None:
    """Read the configuration, fetch the weights, write where they are."""
    parser = argparse.ArgumentParser(
        prog="python -m ssd.models", description="Fetch the weights that a run needs."
    )
    parser.add_argument("config", type=Path, help="config.yaml of a run folder")
    parser.add_argument(
        "weights", type=Path, help="JSON file to write with the folder and identity of the weights"
    )
    arguments = parser.parse_args()
    with reporting_errors():
        silence_loading_bars()
        write_json(arguments.weights, fetch(to_run_config(OmegaConf.load(arguments.config)).model))


if __name__ == "__main__":
    main()
