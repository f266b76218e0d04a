"""A run folder: its configuration, its weights, and the command that made it."""

import argparse
import dataclasses
from dataclasses import dataclass
from pathlib import Path

import yaml
from omegaconf import OmegaConf

from ssd.artifacts.files import read_json, write_json, write_text
from ssd.artifacts.fingerprints import plain
from ssd.artifacts.names import COMMAND, CONFIG, STORE, WEIGHTS
from ssd.config.composition import RUN
from ssd.config.settings import RunConfig, to_run_config
from ssd.errors import ArtifactError, ConfigError, one_line
from ssd.models import Weights
from ssd.runtime.command_line import command_line


@dataclass(frozen=True, slots=True)
class Run:
    """One run of the method: its folder, its configuration and its weights. Its artifacts are found
    by their dependencies, which the modules `lineage`, `protocol` and `evidence` define."""

    folder: Path
    config: RunConfig
    weights: Weights

    @property
    def store(self) -> Path:
        return Path(self.config.output_dir) / STORE


NOWHERE = Weights(path="", identity="", tokenizer="", source="not fetched")
"""Stands for weights that are not on this disk yet; no artifact can have been made from them."""


def save_run(run: Run, command: list[str]) -> None:
    """Write the run folder's configuration, weights and command line;
    links to its artifacts follow as they appear."""
    write_config(run.folder / CONFIG, run.config)
    write_json(run.folder / WEIGHTS, run.weights)
    write_json(run.folder / COMMAND, {"command": command})


def write_config(file: Path, config: RunConfig) -> None:
    """Write a configuration as YAML, which `read_config` reads."""
    write_text(file, OmegaConf.to_yaml(OmegaConf.create(plain(config))))


def read_config(file: Path) -> RunConfig:
    """The configuration in a file.

    Raises:
        ConfigError: it is not valid.
    """
    try:
        loaded = OmegaConf.load(file)
    except (yaml.YAMLError, OSError) as error:
        raise ConfigError(
            f"{file} is no readable YAML ({one_line(error)}): run {' '.join(RUN)} again"
        ) from error
    return to_run_config(loaded)


def load_run(folder: Path) -> Run:
    """The run that `save_run` wrote.

    Raises:
        ArtifactError: the folder holds no run.
        ConfigError: its configuration is not valid.
    """
    if not (folder / CONFIG).is_file() or not (folder / WEIGHTS).is_file():
        raise ArtifactError(
            f"{folder} holds no run ({CONFIG}, {WEIGHTS}): make one with {' '.join(RUN)}"
        )
    config = follow_store(read_config(folder / CONFIG), folder)
    return Run(folder=folder, config=config, weights=Weights(**read_json(folder / WEIGHTS)))


def follow_store(config: RunConfig, folder: Path) -> RunConfig:
    """The configuration of a run folder that was moved together with its store, with the store's
    new place. Fingerprints do not depend on places."""
    above = (parent for parent in folder.absolute().parents if (parent / STORE).is_dir())
    moved_to = next(above, None)
    if (Path(config.output_dir) / STORE).is_dir() or moved_to is None:
        return config
    corpus, probe = (
        str(moved_to / STORE / Path(path).relative_to(Path(config.output_dir) / STORE))
        if path is not None and Path(path).is_relative_to(Path(config.output_dir) / STORE)
        else path
        for path in (config.train.corpus, config.analyse.probe)
    )
    return dataclasses.replace(
        config,
        output_dir=str(moved_to),
        train=dataclasses.replace(config.train, corpus=corpus),
        analyse=dataclasses.replace(config.analyse, probe=probe),
    )


def stage_parser(
    name: str, description: str, *examples: str, notes: str = ""
) -> argparse.ArgumentParser:
    """The command line that every stage shares."""
    of_runs = (
        "outputs/main/defaults  # the run that train.py makes without settings",
        "outputs/main/sampler.temp-1.6  # that of train.py sampler.temp=1.6",
    )
    parser = command_line(name, description, *(examples or of_runs), notes=notes)
    parser.add_argument(
        "run_dir",
        type=Path,
        metavar="RUN_DIR",
        help="run folder that train.py made (holds config.yaml)",
    )
    return parser
