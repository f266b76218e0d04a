"""Real small parts for every test: the tiny model, composed runs, the benchmark files."""

import dataclasses
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

ROOT = Path(__file__).parent.parent

# Offline, and without touching the user's own cache folder beyond the default model's one conversion.
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["WANDB_MODE"] = "offline"
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

from ssd.composition import register  # noqa: E402
from ssd.config import RunConfig, to_run_config  # noqa: E402
from ssd.hardware import resolve  # noqa: E402
from ssd.models import Weights  # noqa: E402
from ssd.models.fetch import fetch  # noqa: E402
from ssd.run import Run, save_run  # noqa: E402

register()


def compose_config(*overrides: str) -> RunConfig:
    """What `python train.py OVERRIDES` would run."""
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        composed = compose("train", overrides=["run_name=test", *overrides])
    return to_run_config(OmegaConf.to_container(composed, resolve=True))


@pytest.fixture(scope="session")
def shared() -> Path:
    """The benchmark files that lie beside the project."""
    folder = ROOT.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("../shared/data is not beside the project")
    return folder


@pytest.fixture(scope="session")
def tiny_weights() -> Weights:
    """The random two-layer model."""
    return fetch(compose_config("model=tiny").model)


@pytest.fixture
def make_run(tmp_path: Path, tiny_weights: Weights) -> Callable[..., Run]:
    """A run of the tiny model in a folder of its own, saved as the pipeline saves it."""

    def make(*overrides: str, name: str = "run") -> Run:
        config = compose_config("model=tiny", "logger=none", "hardware=cpu", f"output_dir={tmp_path}/out", *overrides)
        config = dataclasses.replace(config, hardware=resolve(config.hardware))
        run = Run(folder=tmp_path / name, config=config, weights=tiny_weights)
        save_run(run, ["python", "train.py", *overrides])
        return run

    return make
