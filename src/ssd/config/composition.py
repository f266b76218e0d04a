"""Hydra's side: the schema that it composes against."""

import os
import re
from collections.abc import Sequence
from pathlib import Path

from hydra.core.config_store import ConfigStore
from omegaconf import OmegaConf

from ssd.config.run_name import run_name
from ssd.config.settings import RunConfig, to_run_config

CONF = Path(__file__).parents[1] / "conf"
"""The configuration groups: in a wheel a folder of the package, in a clone a link to the project's
own."""
RUN = ("python", "train.py") if Path("train.py").is_file() else ("ssd", "run")
"""What starts a run in this folder."""


def register() -> None:
    """Make the schema and the resolvers known to Hydra."""
    ConfigStore.instance().store(name="run_config", node=RunConfig)
    OmegaConf.register_new_resolver("run_name", run_name, replace=True)
    OmegaConf.register_new_resolver("expand_home", os.path.expanduser, replace=True)


def compose_config(*overrides: str) -> RunConfig:
    """The configuration that Hydra composes of overrides, as train.py takes them; `run_name` is one
    of them.

    Raises:
        ConfigError, HydraException, OmegaConfBaseException: one of them is wrong.
    """
    from hydra import compose, initialize_config_dir

    register()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        composed = compose("train", overrides=list(overrides))
    return to_run_config(OmegaConf.to_container(composed, resolve=True))


def overrides_first(arguments: Sequence[str]) -> list[str]:
    """The same arguments with KEY=VALUE and ~KEY in front: between options, as in
    `model=tiny -m seed=0,1`, argparse does not take all of them. `rounds=3` is spelled out: Hydra
    takes no number for a section."""
    arguments = [re.sub(r"^rounds=", "rounds.count=", text) for text in arguments]
    return sorted(arguments, key=lambda text: not _is_override(text))


def _is_override(text: str) -> bool:
    return text.startswith("~") or ("=" in text and not text.startswith("-"))
