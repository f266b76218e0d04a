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

from ssd.arms import TUNED, UNIT
from ssd.artifacts.files import read_json, require_space
from ssd.artifacts.names import CONFIG, REPORT_PAGE, WEIGHTS
from ssd.config.choices import DataSource
from ssd.config.ranges import require
from ssd.config.settings import DataConfig, RunConfig
from ssd.drive.checks import check, check_data
from ssd.drive.hub_corpus import pin_corpus
from ssd.drive.model_check import check_unfetched
from ssd.drive.opening import opening
from ssd.drive.stages import is_current, is_made, pending, planned
from ssd.errors import DataError, one_line
from ssd.evaluate.table import score_table
from ssd.models import Weights
from ssd.models.reasoning import pin_reasoning
from ssd.models.weights import locate
from ssd.plan.enforcement import print_plan, settle
from ssd.problems.benchmarks.registry import require_benchmarks
from ssd.records.resampling import approximation
from ssd.records.scores import read_scores
from ssd.report.run.facts import collect
from ssd.report.run.use import last_screen
from ssd.report.run.watch import collect_rounds, last_fall, rounds_text
from ssd.run import Run, evidence, lineage, save_run
from ssd.run.folder import NOWHERE, write_config
from ssd.run.launch import export_model, stage_command, stage_environment
from ssd.run.loggers import check_loggers
from ssd.run.protocol import without_training
from ssd.run.rounds import all_rounds, drawn_by
from ssd.runtime.children import run_child
from ssd.runtime.hardware import assume, resolve
from ssd.runtime.installation import (
    check_installation,
    follow_installation,
    require_build,
    require_loggers,
    require_reports,
)
from ssd.runtime.precision import note_products


def run_pipeline(config: RunConfig, folder: Path, command: list[str]) -> None:
    """Bring one run up to date and print its scores.

    Raises:
        SSDError: the configuration, the machine or the data cannot carry the run;
            nothing has been changed.
        StageError: a stage failed; finished artifacts are kept.
    """
    if config.stages == ["plan"]:
        config = follow(config)
        print_plan(dataclasses.replace(config, hardware=assume(config.hardware)), folder)
        return
    config, weights = prepare(config, folder)
    if weights is None:
        check_unfetched(config, folder)
        weights = fetch_weights(config, folder)
        config = pin_model(config, weights)
    run = Run(folder, config, weights)
    check(run)
    print(f"run {folder}", flush=True)
    if pending(run):
        print(opening(run, command), flush=True)
    if TUNED not in config.eval.arms:
        print(
            f"eval.arms=[base]: the base model alone, at eval.base_temp={config.eval.base_temp:g}; "
            f"of the stages {', '.join(config.stages)}",
            flush=True,
        )
    note_products(config)
    run_rounds(run, command)
    if text := ending(run):
        print(f"\n{text}\n", flush=True)
    if (folder / REPORT_PAGE).is_file():
        print(f"report: {folder / REPORT_PAGE}", flush=True)


def ending(run: Run) -> str:
    """The last screen of a run: what came out, where it lies, how it is used; of the last round
    whose training has ended."""
    trained = [round_ for round_ in all_rounds(run) if lineage.checkpoint(round_).done]
    last = trained[-1] if trained else run
    return last_screen(collect(last.folder, read_positions=False))


def run_rounds(run: Run, command: list[str]) -> None:
    """Bring round after round up to date, until one falls too far on held-out problems; then print
    them side by side."""
    rounds, drop = all_rounds(run), run.config.rounds.max_drop
    for number, round_ in enumerate(rounds, start=1):
        if len(rounds) > 1:
            print(f"round {number} of {len(rounds)}", flush=True)
        run_round(round_, command)
        if drop is None:
            continue
        last = last_fall(collect_rounds(run, read_positions=False))
        if last is None or last.number < number:
            continue
        print(last.sentence(drop), flush=True)
        if last.exceeds(drop):
            print(f"stopped after round {number} of {len(rounds)}", flush=True)
            break
    if len(rounds) > 1 and "report" in run.config.stages and not is_current(run, "report"):
        run_stage(run, "report")  # once more, with the rounds that came after it; it prints them
    elif found := collect_rounds(run):
        print(f"\n{rounds_text(found, run.config.analyse)}\n", flush=True)


def run_round(run: Run, command: list[str]) -> None:
    """Bring one round up to date and print its scores."""
    for training in lineage.trainings(run).values():  # the run itself, and the control's
        save_run(training, command)
    current = []
    for owner, stage in planned(run):
        name = stage if owner is run else f"{stage} {UNIT}"
        if is_current(owner, stage):
            current.append(name)
            print(f"{name:9} up to date", flush=True)
        else:
            print(f"{name:9} starts", flush=True)
            run_stage(owner, stage)
    link_artifacts(run)
    scores = read_scores(run.folder) if "evaluate" in current else None
    if scores is not None:  # a stage that ran has printed it
        print(f"\n{score_table(scores)}\n", flush=True)
    corpus = lineage.corpus(run)
    if corpus.done and (sentence := approximation(corpus.manifest())) is not None:
        print(f"corpus: {sentence}", flush=True)


def prepare(config: RunConfig, folder: Path) -> tuple[RunConfig, Weights | None]:
    """The configuration with this machine's values in the place of `auto` and null, and the weights
    if they are on this disk.

    Raises:
        SSDError: the configuration, the machine or the data cannot carry the run.
    """
    config = follow(config)
    require_build(config.hardware)
    hardware = resolve(config.hardware)
    config = dataclasses.replace(config, hardware=hardware, data=pin_revision(config.data))
    require_space(Path(config.output_dir), 2**20, "a run")
    check_loggers(config.logger, Path(config.output_dir))
    check_data(config)
    weights = locate(config.model)
    config = pin_model(config, weights)
    return settle(config, folder, pending(Run(folder, config, weights or NOWHERE))), weights


def follow(config: RunConfig) -> RunConfig:
    """The configuration on hardware that the installed packages can use, a corpus of the hub
    fetched.

    Raises:
        ConfigError, HardwareError: a benchmark or a package is not there, or `rounds.number` was
            typed.
        DataError: the corpus cannot be fetched.
    """
    require(
        config.rounds.number == 1,
        f"rounds.number={config.rounds.number} is set by the run itself: use rounds=NUMBER",
    )
    require_benchmarks(config.eval)
    check_installation()
    require_loggers(config.logger)
    if config.report.wandb:
        require_reports()
    config = dataclasses.replace(config, hardware=follow_installation(config.hardware))
    return pin_corpus(without_training(config))


def fetch_weights(config: RunConfig, folder: Path) -> Weights:
    """Let a child process, which may load torch, bring the weights to this machine."""
    write_config(folder / CONFIG, config)
    run_child(
        [sys.executable, "-m", "ssd.models", str(folder / CONFIG), str(folder / WEIGHTS)],
        "fetching weights",
    )
    return Weights(**read_json(folder / WEIGHTS))


def pin_model(config: RunConfig, weights: Weights | None) -> RunConfig:
    """The configuration with what the checkpoint's files say of the model's reasoning."""
    if weights is None:
        return config
    return dataclasses.replace(config, model=pin_reasoning(config.model, Path(weights.path)))


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


def run_stage(run: Run, stage: str) -> None:
    """Start a stage's process and wait for it; the models that it reads are exported first."""
    if stage in ("sample", "train"):
        export_model(*drawn_by(run), None)
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


def link_artifacts(run: Run) -> None:
    """Put links to the run's artifacts into its folder, for people who browse it."""
    for artifact in (lineage.corpus(run), lineage.checkpoint(run), evidence.finished_analysis(run)):
        if artifact is not None and artifact.done:
            link = run.folder / artifact.kind
            link.unlink(missing_ok=True)
            link.symlink_to(artifact.folder.absolute(), target_is_directory=True)
