"""Composed configurations for tests, as the command line would compose them."""

import copy
from functools import cache
from pathlib import Path

from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from ssd.config.composition import overrides_first, register
from ssd.config.settings import RunConfig, to_run_config

ROOT = Path(__file__).parent.parent

register()


def compose_config(*overrides: str) -> RunConfig:
    """What `python train.py OVERRIDES` would run; the caller's to change."""
    return copy.deepcopy(_composed(*overrides))


@cache  # 0.2 s each
def _composed(*overrides: str) -> RunConfig:
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        composed = compose("train", overrides=overrides_first(["run_name=test", *overrides]))
    return to_run_config(OmegaConf.to_container(composed, resolve=True))
