"""From a composed configuration to finished artifacts: cheap checks first, then each stale stage.

Every stage is a child process without Hydra, because vLLM gives GPU memory back only when its
process ends and Lightning's own launcher, under a sweep, would re-run the whole sweep in every
rank. This process imports neither torch nor vllm.
"""

import dataclasses
import os
import shlex
import sys
from pathlib import Path

from omegaconf import OmegaConf

from ssd.arms import BASE, INTERVALS, UNIT
from ssd.artifacts import existing, plain, read_json, require_space, write_text
from ssd.artifacts.names import CONFIG, MANIFEST, REPORT_PAGE, SCORES, WEIGHTS
from ssd.config import HASH_SPLIT, STAGES, DataConfig, DataSource, RunConfig
from ssd.errors import ArtifactError, ConfigError, DataError, one_line
from ssd.evaluate.generate import is_whole
from ssd.evaluate.grade import num_workers, open_sandbox
from ssd.evaluate.grading import require_modules
from ssd.evaluate.parts import take_part
from ssd.evaluate.soundness import require_sound
from ssd.evaluate.table import score_table
from ssd.models import Weights
from ssd.models.weights import locate, model_length, require_trainable
from ssd.plan.enforcement import print_plan, settle
from ssd.problems.benchmarks import benchmark_identity, load_benchmark
from ssd.problems.prompts import load_prompts
from ssd.records.scores import VERSION, read_scores, stored_version
from ssd.run import Run, evidence, lineage, protocol, save_run
from ssd.run.launch import export_model, stage_command, stage_environment
from ssd.run.lineage import require_tokenizer
from ssd.runtime.devices import assume
from ssd.runtime.hardware import (
    check_installation,
    check_training,
    check_wandb_reports,
    follow_installation,
    note_products,
    require_build,
    resolve,
)
from ssd.runtime.stage import run_child

DRAW = ("sample", "train", "evaluate")
"""The stages that draw tokens or train."""
NOWHERE = Weights(path="", identity="", tokenizer="", source="not fetched")
"""Stands for weights that are not on this disk, of which nothing can have been made."""


def run_pipeline(config: RunConfig, folder: Path, command: list[str]) -> None:
    """Bring one run up to date and print its scores.

    Raises:
        SSDError: the configuration, the machine or the data cannot carry the run;
            nothing has been changed.
        StageError: a stage failed; finished artifacts are kept.
    """
    check_installation()
    if config.report.wandb:
        check_wandb_reports()
    config = dataclasses.replace(config, hardware=follow_installation(config.hardware))
    if config.stages == ["plan"]:
        print_plan(dataclasses.replace(config, hardware=assume(config.hardware)), folder)
        return
    require_build(config.hardware)
    hardware = resolve(config.hardware)
    config = dataclasses.replace(config, hardware=hardware, data=pin_revision(config.data))
    require_space(Path(config.output_dir), 2**20, "a run")
    check_data(config)
    weights = locate(config.model)
    config = settle(config, folder, pending(Run(folder, config, weights or NOWHERE)))
    run = Run(folder, config, weights or fetch_weights(config, folder))
    check(run)
    for one in lineage.trainings(run).values():  # the run itself, and the control's
        save_run(one, command)
    print(f"run {folder}", flush=True)
    note_products(config)
    current = []
    for one, stage in planned(run):
        name = stage if one is run else f"{stage} {UNIT}"
        if is_current(one, stage):
            current.append(name)
            print(f"{name:9} up to date", flush=True)
        else:
            print(f"{name:9} starts", flush=True)
            run_stage(one, stage)
    link_artifacts(run)
    scores = read_scores(folder) if "evaluate" in current else None
    if scores is not None:  # a stage that ran has printed it
        print(f"\n{score_table(scores)}\n", flush=True)
    if (folder / REPORT_PAGE).is_file():
        print(f"report: {folder / REPORT_PAGE}", flush=True)


def planned(run: Run) -> list[tuple[Run, str]]:
    """Every stage that is asked for, in order; the control `t1` is trained after the run itself."""
    stages = [name for name in STAGES[1:] if name in run.config.stages]
    trainings = list(lineage.trainings(run).values()) if "evaluate" in stages else [run]
    return [(one, name) for name in stages for one in (trainings if name == "train" else [run])]


def pending(run: Run) -> list[str]:
    """The stages that will draw tokens or train, in order; of two trainings each.

    Raises:
        ArtifactError: a training has no corpus and none is to be sampled.
    """
    stale = [
        (one, name) for one, name in planned(run) if name in DRAW and not is_current(one, name)
    ]
    trained = [one for one, name in stale if name == "train"]
    if "sample" not in run.config.stages and not all(lineage.corpus(one).done for one in trained):
        raise ArtifactError(
            "stages=[train] has no corpus to train on: add sample to stages, or set "
            "train.corpus=FOLDER"
        )
    return [name for _, name in stale]


def fetch_weights(config: RunConfig, folder: Path) -> Weights:
    """Let a child process, which may load torch, bring the weights to this machine."""
    write_text(folder / CONFIG, OmegaConf.to_yaml(OmegaConf.create(plain(config))))
    run_child(
        [sys.executable, "-m", "ssd.models", str(folder / CONFIG), str(folder / WEIGHTS)],
        "fetching weights",
    )
    return Weights(**read_json(folder / WEIGHTS))


def pin_revision(data: DataConfig) -> DataConfig:
    """Replace a hub data set's branch by its commit, which the corpus depends on.

    Raises:
        DataError: the hub cannot be asked and no commit is given.
    """
    if (
        data.source is not DataSource.hub
        or data.revision is not None
        or Path(str(data.hub_name)).is_dir()
    ):
        return data
    from huggingface_hub import HfApi

    try:
        return dataclasses.replace(
            data, revision=HfApi().dataset_info(str(data.hub_name), timeout=20).sha
        )
    except Exception as error:  # the hub client's own, the HTTP library's, the system's
        raise DataError(
            f"data.hub_name={data.hub_name} cannot be looked up on the hub "
            f"({one_line(error)[:120]}): "
            "connect, set data.revision to a commit that is cached here, "
            "or use data=file data.path=FILE"
        ) from error


def check_data(config: RunConfig) -> None:
    """Read what will be trained on, and find the benchmarks, before weights are fetched.

    Raises:
        ArtifactError: `train.corpus` names no finished corpus.
        ConfigError, DataError: prompts are missing, malformed or none, or a benchmark is missing.
    """
    settings = config.eval
    if config.train.corpus is not None:
        existing(Path(config.train.corpus), ("corpus",), "train.corpus")
    samples = config.train.corpus is None or UNIT in settings.controls
    if samples and "sample" in config.stages and config.data.source is not DataSource.hub:
        load_prompts(config.data)
    if "evaluate" in config.stages:
        validation = [] if settings.validation == HASH_SPLIT else [settings.validation]
        for name in (*settings.benchmarks, *settings.regression, *validation):
            benchmark_identity(name, settings.files)


def check(run: Run) -> None:
    """Refuse, before any stage starts, what would fail later.

    Raises:
        SSDError: one line that names the setting and the remedy.
    """
    config = run.config
    if config.train.corpus is not None:
        require_tokenizer(run, lineage.corpus(run), "train.corpus")
    if config.analyse.probe is not None:
        require_tokenizer(run, evidence.probe(run), "analyse.probe")
    folder = Path(run.weights.path)
    longest = model_length(folder)
    lengths = {
        "sampler.max_model_len": config.sampler.max_model_len,
        "eval.max_model_len": config.eval.max_model_len,
        "train.seq_len": config.train.seq_len,
    }
    for setting, length in lengths.items():
        if longest is not None and length is not None and length > longest:
            raise ConfigError(
                f"{setting}={length} exceeds the {longest} tokens that {config.model.name} takes: "
                "lower it"
            )
    if "evaluate" in config.stages and not scores_are_current(run):
        check_evaluation(run)
    untrained = [
        one for one, name in planned(run) if name == "train" and not lineage.checkpoint(one).done
    ]
    if untrained:
        check_training(config)
        require_trainable(folder, config)
        stage_command(run, "train")


def check_evaluation(run: Run) -> None:
    """Try the sandbox, read every benchmark, and run the tests of one's own.

    Raises:
        HardwareError: generated code cannot be isolated here.
        ConfigError, DataError: a benchmark is missing, malformed, or has no problem left; tests of
            one's own cannot fail, or fail their reference solution.
    """
    settings = run.config.eval
    parts = [
        *protocol.reported_on(run),
        *(protocol.chosen_on(run) if protocol.selects(run) else []),
    ]
    with open_sandbox(run) as sandbox:
        for name in dict.fromkeys(name for name, _ in parts):
            # Not kept: this process outlives every stage.
            benchmark = load_benchmark(name, settings.files, settings.grading, settings.limit)
            require_modules(benchmark, sandbox)
            for part in {part for one, part in parts if one == name}:
                take_part(settings, benchmark, part)
            if name == "jsonl":
                require_sound(
                    benchmark.tasks, sandbox, timeout=settings.timeout, workers=num_workers(run)
                )


def run_stage(run: Run, stage: str) -> None:
    """Start a stage's process and wait for it; what the analysis reads is exported first."""
    if stage == "analyse":
        for model, step in evidence.reported_steps(run).items():
            export_model(run, model, step)
    several = run.config.hardware.num_nodes > 1
    if stage == "train" and several and "SLURM_JOB_ID" not in os.environ:
        command = shlex.join(stage_command(run, stage))
        print(f"on each of the other machines, run: {command}", flush=True)
    run_child(
        stage_command(run, stage),
        f"stage {stage}",
        stage_environment(run, stage),
        is_whole=lambda: is_made(run, stage),
    )


def is_made(run: Run, stage: str) -> bool:
    """Whether a stage's artifacts are there; never so for one that also brings the run's folder up
    to date."""
    if stage == "sample" and "evaluate" in run.config.stages and not is_whole(run, BASE):
        return False
    return stage in ("sample", "train", "analyse") and is_current(run, stage)


def is_current(run: Run, stage: str) -> bool:
    """Whether a stage's result is there and belongs to this configuration."""
    if stage == "sample":
        return all(lineage.corpus(one).done for one in lineage.sampled(run))
    if stage == "train":
        return lineage.checkpoint(run).done
    if stage == "evaluate":
        return scores_are_current(run)
    if stage == "analyse":
        return evidence.analysis(run, evidence.reported_steps(run)).done
    return report_is_current(run)


def report_is_current(run: Run) -> bool:
    """Whether the report is newer than what it tells of, as far as that is there."""
    report, scores, analysis = (
        run.folder / REPORT_PAGE,
        run.folder / SCORES,
        evidence.found_analysis(run),
    )
    if not report.is_file() or not scores.is_file():
        return False
    told = [scores] if analysis is None else [scores, analysis.folder / MANIFEST]
    return report.stat().st_mtime > max(path.stat().st_mtime for path in told)


def scores_are_current(run: Run) -> bool:
    """Whether scores.json was made from exactly this run's verdicts and settings, with today's
    intervals."""
    if stored_version(run.folder) != VERSION:
        return False
    scores = read_scores(run.folder)
    if scores is None or scores.inputs != evidence.score_inputs(run):
        return False
    if scores.intervals != INTERVALS:
        return False
    verdicts = {model.verdicts for scored in scores.benchmarks for model in scored.models.values()}
    return all((run.store / "verdicts" / name / MANIFEST).is_file() for name in verdicts)


def link_artifacts(run: Run) -> None:
    """Put links to the run's artifacts into its folder, for people who look around."""
    for artifact in (lineage.corpus(run), lineage.checkpoint(run), evidence.found_analysis(run)):
        if artifact is not None and artifact.done:
            link = run.folder / artifact.kind
            link.unlink(missing_ok=True)
            link.symlink_to(artifact.folder.absolute(), target_is_directory=True)
