"""A run folder: its configuration, its weights, and the artifacts these two determine.

Everything that enters a fingerprint is listed here and nowhere else, so what can be reused
is decided in one place. Hardware, shard sizes and loggers enter none: they do not change
what is computed.
"""

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from omegaconf import OmegaConf

from ssd.artifacts import (
    Artifact,
    artifact,
    existing,
    hash_file,
    plain,
    read_json,
    write_json,
    write_text,
)
from ssd.config import AdapterType, DataSource, RunConfig, to_run_config
from ssd.errors import ArtifactError, ConfigError, one_line
from ssd.models import Weights
from ssd.problems import packaged_file, prompt_file

ROLES = ("base", "tuned")
MODEL, ADAPTER, CHECKPOINTS = "model", "adapter", "checkpoints"
NOT_COMPUTED = (
    "corpus", "checkpoint_every", "keep_checkpoints", "packing", "isolation_check",
)  # fmt: skip
"""Training settings that do not change the trained weights; the corpus enters by fingerprint."""
CONFIG, WEIGHTS, COMMAND, SCORES = "config.yaml", "weights.json", "run.json", "scores.json"


@dataclass(frozen=True, slots=True)
class Run:
    """One run of the method; the artifacts are found by what they depend on,
    whether or not they exist yet."""

    folder: Path
    config: RunConfig
    weights: Weights

    @property
    def store(self) -> Path:
        return Path(self.config.output_dir) / "store"

    @property
    def corpus(self) -> Artifact:
        """The self-samples: an existing corpus where `train.corpus` names one."""
        config = self.config
        if config.train.corpus is not None:
            return existing(Path(config.train.corpus), "corpus", "train.corpus")
        sampler = config.sampler
        return artifact(
            self.store,
            "corpus",
            {
                "weights": self.weights.identity,
                "tokenizer": self.weights.tokenizer,
                "model_kind": config.model.kind,
                "prompts": self._prompt_set(),
                "reasoning_effort": config.model.reasoning_effort,
                "dtype": config.model.dtype,
                "prompt_format": config.prompt_format,
                "temp": sampler.temp,
                "truncation": config.truncation,
                "num_samples": sampler.num_samples,
                "max_new_tokens": sampler.max_new_tokens,
                "max_model_len": sampler.max_model_len,
                "filters": sampler.filters,
                "engine": sampler.engine,
                "seed": config.seed,
            },
        )

    @property
    def checkpoint(self) -> Artifact:
        """The tuned model."""
        config = self.config
        train = {
            name: value for name, value in plain(config.train).items() if name not in NOT_COMPUTED
        }
        adapter = plain(config.adapter)
        if config.adapter.type is AdapterType.none:
            adapter = {"type": adapter["type"]}
        adapter.pop("merge", None)  # changes the export only
        return artifact(
            self.store,
            "checkpoint",
            {
                "corpus": self.corpus.fingerprint,
                "weights": self.weights.identity,
                "dtype": config.model.dtype,
                "optimizer": config.optimizer,
                "objective": config.objective,
                "adapter": adapter,
                "train": train,
                "seed": config.seed,
            },
        )

    def generations(self, role: str, benchmark: str) -> Artifact:
        """Answers of the base or tuned model to a benchmark's problems."""
        settings = self.config.eval
        tuned = role == "tuned"
        return artifact(
            self.store,
            "generations",
            {
                "model": self.tuned_identity if tuned else self.weights.identity,
                "tokenizer": self.weights.tokenizer,
                "model_kind": self.config.model.kind,
                "reasoning_effort": self.config.model.reasoning_effort,
                "dtype": self.config.model.dtype,
                "benchmark": benchmark,
                "problems": hash_file(packaged_file(benchmark)),
                "limit": settings.limit,
                "prompt_format": settings.prompt_format,
                "temp": settings.temp if tuned else settings.base_temp,
                "truncation": settings.truncation if tuned else settings.base_truncation,
                "num_samples": settings.num_samples,
                "max_new_tokens": settings.max_new_tokens,
                "max_model_len": settings.max_model_len,
                "engine": self.config.sampler.engine,
                "seed": self.config.seed,
            },
        )

    def verdicts(self, role: str, benchmark: str) -> Artifact:
        """Which of these answers pass their tests."""
        return artifact(
            self.store,
            "verdicts",
            {
                "generations": self.generations(role, benchmark).fingerprint,
                "extraction": "last_fenced_block",
                "sandbox": self.config.eval.sandbox,
                "timeout": self.config.eval.timeout,
                "memory_mib": self.config.eval.memory_mib,
            },
        )

    def answers(self) -> list[tuple[str, str]]:
        """Every (role, benchmark) that this run evaluates;
        the tuned model only where there is or will be one."""
        tuned = "train" in self.config.stages or self.checkpoint.done
        return [
            (role, benchmark)
            for role in ROLES[: 1 + tuned]
            for benchmark in self.config.eval.benchmarks
        ]

    def score_inputs(self) -> dict[str, Any]:
        """What scores.json depends on beside the random numbers of its intervals."""
        verdicts = {
            f"{role}/{benchmark}": self.verdicts(role, benchmark).fingerprint
            for role, benchmark in self.answers()
        }
        settings = self.config.eval
        return {"verdicts": verdicts, "k": list(settings.k), "bootstrap": settings.bootstrap}

    @property
    def checkpoint_step(self) -> int | None:
        """The training step that is evaluated; None for the final model."""
        step = self.config.eval.checkpoint_step
        return None if step == self.config.train.max_steps else step

    @property
    def tuned_identity(self) -> str:
        """Which of the training's models is evaluated."""
        step = self.checkpoint_step
        unmerged = self.adapter_folder("tuned") is not None
        identity = self.checkpoint.fingerprint + ("" if step is None else f"@{step}")
        return identity + ("+adapter" if unmerged else "")

    @property
    def tuned_folder(self) -> Path:
        """Holds `model/`, `adapter/` or both, of the step that is evaluated."""
        folder, step = self.checkpoint.folder, self.checkpoint_step
        return folder if step is None else step_folder(folder, step)

    def model_folder(self, role: str) -> Path:
        """The transformers checkpoint that generation loads for the base or tuned model."""
        if role == "base" or self.adapter_folder(role) is not None:
            return Path(self.weights.path)
        return self.tuned_folder / MODEL

    def adapter_folder(self, role: str) -> Path | None:
        """The adapter that generation puts onto `model_folder`; None where it is merged."""
        adapter = self.config.adapter
        merged = adapter.type is AdapterType.none or adapter.merge
        return None if role == "base" or merged else self.tuned_folder / ADAPTER

    def _prompt_set(self) -> dict[str, object]:
        data = self.config.data
        facts: dict[str, object] = plain(data)
        if data.source is DataSource.hub:
            return facts
        return {**facts, "path": None, "sha256": hash_file(prompt_file(data))}


def step_folder(checkpoint: Path, step: int) -> Path:
    """Where a training keeps what it was after `step` optimizer steps."""
    return checkpoint / CHECKPOINTS / f"step-{step:06d}"


def step_folders(checkpoint: Path) -> dict[int, Path]:
    """Every whole checkpoint of a training, by step."""
    found = sorted((checkpoint / CHECKPOINTS).glob("step-*"))
    return {int(path.name.removeprefix("step-")): path for path in found}


def save_run(run: Run, command: list[str]) -> None:
    """Write the run folder's configuration, weights and command line;
    links to its artifacts follow as they appear."""
    write_text(run.folder / CONFIG, OmegaConf.to_yaml(OmegaConf.create(plain(run.config))))
    write_json(run.folder / WEIGHTS, run.weights)
    write_json(run.folder / COMMAND, {"command": command})


def load_run(folder: Path) -> Run:
    """The run that `save_run` wrote.

    Raises:
        ArtifactError: the folder holds no run.
        ConfigError: its configuration is not valid.
    """
    if not (folder / CONFIG).is_file() or not (folder / WEIGHTS).is_file():
        raise ArtifactError(
            f"{folder} holds no run ({CONFIG}, {WEIGHTS}): make one with python train.py"
        )
    try:
        loaded = OmegaConf.load(folder / CONFIG)
    except (yaml.YAMLError, OSError) as error:
        raise ConfigError(
            f"{folder / CONFIG} is no readable YAML ({one_line(error)}): run python train.py again"
        ) from error
    config = to_run_config(loaded)
    return Run(folder=folder, config=config, weights=Weights(**read_json(folder / WEIGHTS)))


def stage_parser(module: str, description: str) -> argparse.ArgumentParser:
    """The command line that every stage shares."""
    parser = argparse.ArgumentParser(prog=f"python -m {module}", description=description)
    parser.add_argument(
        "run_dir",
        type=Path,
        metavar="RUN_DIR",
        help="run folder that train.py made (holds config.yaml)",
    )
    return parser
