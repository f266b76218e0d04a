"""`ssd check MODEL [KEY=VALUE ...]`: one screen on whether a model can be used here."""

import argparse
import dataclasses
import os
import shlex
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from omegaconf import OmegaConf

from ssd.artifacts.files import write_json
from ssd.artifacts.names import CONFIG
from ssd.config.choices import WeightSource
from ssd.config.composition import CONF, compose_config
from ssd.config.settings import ModelConfig, RunConfig, to_run_config
from ssd.errors import FLAWED, ConfigError, ModelError
from ssd.models.fetch import fetch
from ssd.models.hub import download_headers
from ssd.models.names import MODEL_CONFIG
from ssd.models.weights import locate
from ssd.runtime.command_line import command_line
from ssd.runtime.hardware import resolve
from ssd.runtime.progress import silence_loading_bars
from ssd.runtime.reporting import reporting_errors

if TYPE_CHECKING:
    from ssd.runtime.findings import Finding

PRESETS = CONF / "model"


def main() -> None:
    """Check, and print every item; or, for the pipeline, write the findings and print nothing."""
    parser = command_line(
        "check",
        "Say, one item a line, whether a model can be sampled, trained, exported and loaded again "
        f"here. Exit code {FLAWED} if an item is refused. Loads no weights.",
        "Qwen/Qwen3-4B-Instruct-2507  # a model of the hub",
        "my_checkpoint adapter=lora  # a folder, and settings as train.py takes them",
    )
    parser.add_argument(
        "model",
        help="name of conf/model, a checkpoint folder, a hub id (of a model that is not here, only "
        "small files and the weights' headers are fetched), or a run's folder or config.yaml",
    )
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="as train.py takes them")
    parser.add_argument("--into", type=Path, metavar="FILE", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    with reporting_errors(), tempfile.TemporaryDirectory(prefix="ssd-") as place:
        config = read_model(arguments.model, arguments.overrides)
        config = dataclasses.replace(config, hardware=resolve(config.hardware))
        folder, source, whole = _look(config.model, Path(place))

        os.environ["CUDA_VISIBLE_DEVICES"] = ""  # the small copies are tried on the CPU
        # After the cheap steps: torch and transformers take seconds to import.
        from transformers.utils import logging

        from ssd.check.check import check_model, refusals
        from ssd.runtime.findings import screen

        silence_loading_bars()
        logging.set_verbosity_error()
        findings = check_model(folder, config, whole=whole)
        refused = refusals(findings)
        if arguments.into is None:
            print(f"{source}\n\n{screen(findings)}", flush=True)
            sys.exit(FLAWED if refused else 0)
        if refused:
            raise ModelError(_reason(refused, config, arguments.model))
        write_json(arguments.into, [dataclasses.asdict(finding) for finding in findings])


def _look(model: ModelConfig, place: Path) -> tuple[Path, str, bool]:
    """The model's folder, where it is from, and whether its weights are here; a hub's model that is
    not is in a folder inside `place`, by its headers alone."""
    if locate(model) is None and model.source in (WeightSource.auto, WeightSource.hub):
        folder = place / model.name  # messages show it
        folder.mkdir(parents=True)
        source = download_headers(model, folder)
        if source is not None:
            return folder, source, False
    weights = fetch(model)
    return Path(weights.path), weights.source, True


def _reason(refused: list["Finding"], config: RunConfig, model: str) -> str:
    """The first refusal in one line, and where to see the others."""
    place, first = config.model.path or config.model.name, refused[0]
    text = first.text if place in first.text else f"{place}: {first.item}: {first.text}"
    more = f" (and {len(refused) - 1} more)" if len(refused) > 1 else ""
    return f"{text}{more}; ssd check {shlex.quote(model)} shows every item"


def read_model(model: str, overrides: Sequence[str]) -> RunConfig:
    """The settings that a model is checked under.

    Raises:
        ConfigError: the model has no such name, or an override is wrong.
    """
    path = Path(model).expanduser()
    stored = path / CONFIG if path.is_dir() else path
    if stored.is_file() and not overrides:
        return to_run_config(OmegaConf.load(stored))
    if (PRESETS / f"{model}.yaml").is_file():
        chosen = f"model={model}"
    elif path.is_dir():
        chosen = f"model.path='{path.absolute()}'"
    elif "/" in model:
        chosen = f"model.name={model}"
    else:
        known = ", ".join(sorted(preset.stem for preset in PRESETS.glob("*.yaml")))
        raise ConfigError(
            f"{model} is no folder with {MODEL_CONFIG}, no hub id and no model of conf/model "
            f"({known})"
        )
    return compose_config("run_name=check", chosen, *overrides)


if __name__ == "__main__":
    main()
