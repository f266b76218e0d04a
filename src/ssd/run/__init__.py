"""A run folder: its configuration, its weights, and the artifacts these two determine.

Everything that enters a fingerprint is listed here and nowhere else, so what can be reused
is decided in one place. Hardware, shard sizes and loggers enter none: they do not change
what is computed.
"""

import argparse
import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from omegaconf import OmegaConf

from ssd.arms import BASE, SWEPT, TUNED, UNIT
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
from ssd.config import (
    HASH_SPLIT,
    AdapterType,
    DataSource,
    RunConfig,
    Selection,
    TruncationConfig,
    to_run_config,
)
from ssd.errors import ArtifactError, ConfigError, DataError, one_line
from ssd.models import Weights
from ssd.problems import prompt_file
from ssd.problems.benchmarks import benchmark_identity
from ssd.problems.extraction import RULES

MODELS = (BASE, UNIT, TUNED)
"""The frozen model, the control trained on its samples of temperature 1, and the tuned model."""
ALL, VALIDATION, TEST = "all", "validation", "test"
"""Parts of a benchmark: the whole; the problems held out to choose on; the rest."""
MODEL, ADAPTER, CHECKPOINTS = "model", "adapter", "checkpoints"
NOT_COMPUTED = (
    "corpus", "checkpoint_every", "keep_checkpoints", "packing", "isolation_check",
)  # fmt: skip
"""Training settings that do not change the trained weights; the corpus enters by fingerprint."""
CONFIG, WEIGHTS, COMMAND = "config.yaml", "weights.json", "run.json"
SELECTION, SCORES = "selection.json", "scores.json"
FAILURE = "failed.json"
"""What stopped the run the last time it was started; gone once it has succeeded."""


@dataclass(frozen=True, slots=True)
class Setting:
    """How a model is made to answer: its decoding, and which step of its training."""

    temp: float
    top_k: int | None
    top_p: float
    checkpoint_step: int | None = None
    """None for the final model, and for the base model."""


def setting(temp: float, truncation: TruncationConfig, step: int | None = None) -> Setting:
    """The setting of a temperature, a truncation and a training step."""
    return Setting(temp, truncation.top_k, truncation.top_p, step)


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
            return existing(Path(config.train.corpus), ("corpus",), "train.corpus")
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
                # Left out where it is null, as before there was a choice: nothing is drawn again.
                **({} if sampler.logprobs is None else {"logprobs": sampler.logprobs}),
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

    def control(self) -> "Run":
        """The run of the control `t1`: samples of temperature 1 without truncation, else the same.

        Without the shift of temperature and the truncation the expected gradient is zero (paper,
        appendix B), so what this model gains comes with any fine-tuning on own samples.
        """
        config = self.config
        changed = dataclasses.replace(
            config,
            sampler=dataclasses.replace(config.sampler, temp=1.0),
            truncation=TruncationConfig(),
            train=dataclasses.replace(config.train, corpus=None),
            eval=dataclasses.replace(config.eval, controls=[]),
            run_name=f"{config.run_name},{UNIT}",
        )
        return Run(folder=self.folder / UNIT, config=changed, weights=self.weights)

    def trainings(self) -> dict[str, "Run"]:
        """Every run whose training this evaluation needs, by the model it makes."""
        wanted = UNIT in self.config.eval.controls
        return {TUNED: self, **({UNIT: self.control()} if wanted else {})}

    def sampled(self) -> list["Run"]:
        """Every run whose corpus the stages of this one need and no other run brings."""
        needed = self.trainings().values() if "evaluate" in self.config.stages else [self]
        return [run for run in needed if run.config.train.corpus is None]

    def models(self) -> list[str]:
        """What this run evaluates; trained models only where there is or will be a checkpoint."""
        if "train" not in self.config.stages and not self.checkpoint.done:
            return [BASE]
        return [name for name in MODELS if name == BASE or name in self.trainings()]

    def candidates(self, model: str) -> list[Setting]:
        """What is chosen from for a model; the first wins ties, so the run's own come first."""
        settings = self.config.eval
        truncations = settings.truncations or [settings.truncation]
        temps = settings.temps or [settings.temp]
        steps = [self._step(step) for step in settings.checkpoint_steps] or [
            self._step(settings.checkpoint_step)
        ]
        if model == BASE:
            own, steps = [setting(settings.base_temp, settings.base_truncation)], [None]
            if SWEPT not in settings.controls:
                return own
        else:
            own = []
        grid = [setting(t, cut, step) for step in steps for cut in truncations for t in temps]
        return list(dict.fromkeys([*own, *grid]))

    @property
    def selects(self) -> bool:
        """Whether there is anything to choose."""
        return any(len(self.candidates(model)) > 1 for model in self.models())

    def chosen_on(self) -> list[tuple[str, str]]:
        """The (benchmark, part) pairs whose problems choose."""
        settings = self.config.eval
        if settings.selection is Selection.test:
            return [(name, ALL) for name in settings.benchmarks]
        if settings.validation != HASH_SPLIT:
            return [(settings.validation, ALL)]
        return [(name, VALIDATION) for name in settings.benchmarks]

    def reported_on(self) -> list[tuple[str, str]]:
        """The (benchmark, part) pairs whose scores are reported."""
        settings = self.config.eval
        held_out = (
            self.selects
            and settings.selection is Selection.heldout
            and settings.validation == HASH_SPLIT
        )
        part = TEST if held_out else ALL
        return [(name, part) for name in settings.benchmarks] + [
            (name, ALL) for name in settings.regression
        ]

    def num_samples(self, benchmark: str, part: str) -> int:
        """Answers per problem of a part of a benchmark."""
        settings = self.config.eval
        if (benchmark, part) in self.reported_on():
            return settings.num_samples
        return settings.num_validation_samples or settings.num_samples

    def chosen_settings(self) -> dict[str, Setting]:
        """The setting of each model that is reported: the only one, or the one that was chosen.

        Raises:
            ArtifactError: there is a choice and it has not been made for this configuration.
        """
        if not self.selects:
            return {model: self.candidates(model)[0] for model in self.models()}
        chosen = self._choice()
        if chosen is None:
            raise ArtifactError(
                f"{self.folder / SELECTION} does not hold this configuration's choice: "
                f"run python -m ssd.evaluate {self.folder}, which makes it"
            )
        return {model: Setting(**how) for model, how in chosen.items()}

    def _choice(self) -> dict[str, Any] | None:
        path = self.folder / SELECTION
        selection = read_json(path) if path.is_file() else {}
        chosen: dict[str, Any] | None = selection.get("chosen")
        return chosen if selection.get("inputs") == self.score_inputs() else None

    def reported_steps(self) -> dict[str, int | None]:
        """The models that are there, each with the training step that is reported: that of all
        its candidate settings, or of the chosen one. None stands for the final model, and for the
        base model.

        Raises:
            ArtifactError: there is a choice of steps and it has not been made.
        """
        steps: dict[str, int | None] = {}
        for model in self.models():
            if model != BASE and not self.trainings()[model].checkpoint.done:
                continue
            tried = self._tried_steps(model)
            if len(tried) > 1:
                tried = {self.chosen_settings()[model].checkpoint_step}
            (steps[model],) = tried
        return steps

    def _tried_steps(self, model: str) -> set[int | None]:
        return {how.checkpoint_step for how in self.candidates(model)}

    def generations(
        self, model: str, benchmark: str, how: Setting | None = None, part: str = ALL
    ) -> Artifact:
        """Answers of a model to a part of a benchmark; under its first candidate setting where
        `how` is None."""
        settings = self.config.eval
        how = how or self.candidates(model)[0]
        return artifact(
            self.store,
            "generations",
            {
                "model": self.identity(model, how.checkpoint_step),
                "tokenizer": self.weights.tokenizer,
                "model_kind": self.config.model.kind,
                "reasoning_effort": self.config.model.reasoning_effort,
                "dtype": self.config.model.dtype,
                "benchmark": benchmark_identity(benchmark, settings.files),
                "limit": settings.limit,
                "part": None if part == ALL else {"name": part, "share": settings.validation_share},
                "prompt_format": settings.prompt_format,
                "temp": how.temp,
                "truncation": {"top_k": how.top_k, "top_p": how.top_p},
                "num_samples": self.num_samples(benchmark, part),
                "max_new_tokens": settings.max_new_tokens,
                "max_model_len": settings.max_model_len,
                "engine": self.config.sampler.engine,
                "seed": self.config.seed,
            },
        )

    def verdicts(
        self, model: str, benchmark: str, how: Setting | None = None, part: str = ALL
    ) -> Artifact:
        """Which of these answers pass their tests."""
        settings = self.config.eval
        return artifact(
            self.store,
            "verdicts",
            {
                "generations": self.generations(model, benchmark, how, part).fingerprint,
                "extraction": RULES[settings.extraction],
                "grading": settings.grading,
                "sandbox": settings.sandbox,
                "timeout": settings.timeout,
                "memory_mib": settings.memory_mib,
            },
        )

    @property
    def probe(self) -> Artifact:
        """The completions that the analysis reads token by token: named by `analyse.probe`, or the
        base model's answers to the first benchmark, or the corpus where there are none.

        Raises:
            ArtifactError: `analyse.probe` names no finished corpus or generations.
        """
        named = self.config.analyse.probe
        if named is not None:
            return existing(Path(named), ("corpus", "generations"), "analyse.probe")
        benchmark, part = self.reported_on()[0]
        answers = self.generations(BASE, benchmark, part=part)
        return answers if answers.done else self.corpus

    def analysis(self, steps: dict[str, int | None]) -> Artifact:
        """What training did to the token distributions of the models in `steps`, which gives the
        training step of each. The loss is that of the corpus's own temperature and truncation."""
        config, corpus = self.config, self.corpus.inputs
        settings = config.analyse
        return artifact(
            self.store,
            "analysis",
            {
                "probe": self.probe.fingerprint,
                "num_samples": settings.num_samples,
                "max_tokens": settings.max_tokens,
                "dtype": settings.dtype,
                "models": {model: self.identity(model, step) for model, step in steps.items()},
                "temp": corpus.get("temp", config.sampler.temp),
                "truncation": corpus.get("truncation", config.truncation),
                "eval_truncation": config.eval.truncation,
            },
        )

    def found_analysis(self) -> Artifact | None:
        """The analysis of what is reported, where it is finished; None also while it has not been
        chosen what is reported."""
        chooses = any(len(self._tried_steps(model)) > 1 for model in self.models())
        if chooses and self._choice() is None:
            return None
        found = self.analysis(self.reported_steps())
        return found if found.done else None

    def score_inputs(self) -> dict[str, Any]:
        """What scores.json depends on, beside what its answers and verdicts themselves do."""
        settings = self.config.eval
        first = {
            f"{model}/{name}": self.verdicts(model, name).fingerprint
            for model in self.models()
            for name, _ in self.reported_on()
        }
        names = ("benchmarks", "regression", "temps", "truncations", "checkpoint_steps", "controls")
        also = ("selection", "validation", "validation_share", "k", "bootstrap", "resample")
        return {
            "verdicts": first,
            **{name: plain(getattr(settings, name)) for name in (*names, *also)},
        }

    def _step(self, step: int | None) -> int | None:
        return None if step == self.config.train.max_steps else step

    def identity(self, model: str, step: int | None = None) -> str:
        """Which weights answer."""
        if model == BASE:
            return self.weights.identity
        unmerged = self.adapter_folder(model, step) is not None
        identity = self.trainings()[model].checkpoint.fingerprint
        return identity + ("" if step is None else f"@{step}") + ("+adapter" if unmerged else "")

    def trained_folder(self, model: str, step: int | None = None) -> Path:
        """Holds `model/`, `adapter/` or both, of a step of a training."""
        folder = self.trainings()[model].checkpoint.folder
        return folder if step is None else step_folder(folder, step)

    def model_folder(self, model: str, step: int | None = None) -> Path:
        """The transformers checkpoint that generation loads."""
        if model == BASE or self.adapter_folder(model, step) is not None:
            return Path(self.weights.path)
        return self.trained_folder(model, step) / MODEL

    def adapter_folder(self, model: str, step: int | None = None) -> Path | None:
        """The adapter that generation puts onto `model_folder`; None where it is merged."""
        adapter = self.config.adapter
        merged = adapter.type is AdapterType.none or adapter.merge
        return None if model == BASE or merged else self.trained_folder(model, step) / ADAPTER

    def _prompt_set(self) -> dict[str, object]:
        data = self.config.data
        facts: dict[str, object] = plain(data)
        if data.source is DataSource.hub:
            return facts
        return {**facts, "path": None, "sha256": hash_file(prompt_file(data))}


def require_tokenizer(run: Run, samples: Artifact, setting: str) -> None:
    """Raise `DataError` unless stored completions are in the model's own tokens; the message
    names `setting`."""
    if samples.inputs.get("tokenizer") != run.weights.tokenizer:
        raise DataError(
            f"{setting}={samples.folder} was made with another tokenizer than "
            f"{run.config.model.name}'s: name one that this model made, or choose the model that "
            "made it"
        )


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
