"""The driver's side of the model's check: asked once for a model, settings and installation."""

import dataclasses
import sys
from pathlib import Path

from ssd.arms import UNIT
from ssd.artifacts.files import read_json
from ssd.artifacts.fingerprints import fingerprint, hash_file, plain
from ssd.artifacts.names import CONFIG
from ssd.artifacts.places import cache_folder
from ssd.artifacts.store import library_versions
from ssd.config.choices import WeightSource
from ssd.config.settings import RunConfig
from ssd.models.names import GENERATION_CONFIG
from ssd.problems.benchmarks.registry import prompt_formats
from ssd.run import Run
from ssd.run.folder import NOWHERE, write_config
from ssd.runtime.children import run_child

VERSION = 2
"""Counts up when an item of the check changes: a model that passed before is asked again."""
PLACE = ("name", "path", "revision", "source", "wheel")
"""Settings of the model that say where it lies, not what it is."""


def check_model(run: Run) -> None:
    """Let a child process, which may load torch, check the model, and print its notes; what has
    passed under these settings is not asked again.

    Raises:
        ReportedError: an item is refused; the reason has been printed.
    """
    for finding in read_json(_ask(run)):
        if finding["state"] == "note":
            print(f"note: {finding['item']}: {finding['text']}", flush=True)


def check_unfetched(config: RunConfig, folder: Path) -> None:
    """The same for a hub's model before its weights are fetched, by its small files and the headers
    of its weights. What it notes is noted when the weights are here.

    Raises:
        ReportedError: an item is refused, or the hub does not give the model.
    """
    model = config.model
    if model.source in (WeightSource.auto, WeightSource.hub):
        identity = f"hub:{model.name}@{model.revision}, not fetched"
        _ask(Run(folder, config, dataclasses.replace(NOWHERE, identity=identity)))


def _ask(run: Run) -> Path:
    """The file with the findings of a check that passed, now or before."""
    passed = passed_file(run)
    if not passed.is_file():
        path = run.folder / CONFIG
        write_config(path, run.config)
        command = [sys.executable, "-m", "ssd.check", str(path), "--into", str(passed)]
        run_child(command, "checking the model")
    return passed


def passed_file(run: Run) -> Path:
    """Where a passed check of this model is kept, named by everything that the check reads."""
    config = run.config
    own = Path(run.weights.path) / GENERATION_CONFIG  # not part of the weights' identity
    model = {name: value for name, value in plain(config.model).items() if name not in PLACE}
    formats = prompt_formats(config.eval)
    inputs = {
        "version": VERSION,
        "weights": run.weights.identity,
        "tokenizer": run.weights.tokenizer,
        "generation_config": hash_file(own) if own.is_file() else None,
        "model": model,
        "prompt_format": config.prompt_format,
        "eval": {
            **{setting.removeprefix("eval."): asked for setting, asked in formats.items()},
            "template_args": config.eval.template_args,
        },
        "asks": [stage for stage in ("sample", "evaluate") if stage in config.stages],
        "samples": config.train.corpus is None or UNIT in config.eval.controls,
        "engine": config.sampler.engine,
        "adapter": config.adapter,
        "rows": (config.train.packing, config.hardware.attention),
        "router": (config.train.router_aux_coef, config.train.train_router),
        "accelerator": config.hardware.accelerator,
        "libraries": library_versions(),
    }
    return cache_folder() / "checks" / f"{fingerprint(inputs)}.json"
