"""A search over T_train, truncation and learning rate with Optuna, scored on held-out problems.

    ssd search --trials 20 STUDY [KEY=VALUE ...]

Each trial is a `train.py` process in the same study, so trials share corpora and checkpoints, and a
failed one leaves its reason where the study's table finds it. Optuna is called directly:
hydra-optuna-sweeper 1.3.0, the current release, requires optuna<3 of 2022; its upgrade is merged
(hydra-ecosystem/hydra pull request 3211) and not released.
"""

import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from filelock import FileLock, Timeout

from ssd.arms import TUNED
from ssd.artifacts.files import explained
from ssd.artifacts.names import JOURNAL
from ssd.config.choices import SelectionMode
from ssd.config.composition import CONF, compose_config
from ssd.config.run_name import run_name
from ssd.config.settings import RunConfig
from ssd.errors import RESUMABLE, ArtifactError, ConfigError, SSDError, one_line
from ssd.problems.benchmarks.registry import require_benchmarks
from ssd.report import study_report
from ssd.report.render.formats import percent
from ssd.report.run.facts import collect
from ssd.report.study.rows import study_table
from ssd.runtime.command_line import command_line
from ssd.runtime.installation import require_package
from ssd.runtime.reporting import reporting_errors

if TYPE_CHECKING:
    import optuna

T_TRAIN = (0.5, 2.0)
T_TRAIN_STEP = 0.1
"""Trials that meet on a temperature and truncation share their corpus."""
LR_FACTOR = 4.0
"""The learning rate is searched up to this factor below and above the recipe's."""
FIXED, FAILED = "fixed", "failed"
"""Attributes of the stored search: the settings that all its trials share; and of a trial that
ended by itself: whether it failed. An interrupted trial has none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Space:
    """The searched settings; None for those that the command line fixes."""

    temp: tuple[float, float] | None
    truncations: tuple[str, ...] | None
    """Options of the group `truncation`."""
    lr: tuple[float, float] | None


def main() -> None:
    """Search, and print the study's table and the best trial."""
    parser = command_line(
        "search",
        "Search sampler.temp, truncation and optimizer.lr by the score on held-out problems. "
        "Settings given as KEY=VALUE stay fixed; the same command resumes the search.",
        "--trials 20 my_search 'eval.temps=[0.4,0.7,1.0]'",
        "--trials 20 by_lr 'eval.temps=[0.4,0.7,1.0]' truncation=top_k20 sampler.temp=1.6",
    )
    parser.add_argument("--trials", type=int, required=True, help="finished trials in all")
    parser.add_argument("study", help="name of the study, a folder under output_dir")
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="as train.py takes them")
    arguments = parser.parse_args()
    with reporting_errors():
        search(arguments.study, arguments.overrides, arguments.trials)


def search(name: str, overrides: Sequence[str], num_trials: int) -> None:
    """Run trials until `num_trials` have finished, those of earlier calls included.

    Raises:
        ConfigError: a setting is wrong, or nothing is chosen on held-out problems.
        ArtifactError: another process searches in this study.
    """
    require_package("a search", "optuna")
    import optuna

    config = compose_run(name, overrides)
    require_held_out(config)
    folder = Path(config.output_dir) / name
    space = make_space(config, overrides)
    with explained(folder):
        folder.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(folder / f".{JOURNAL}.running", timeout=0):
            study = open_search(folder / JOURNAL, name, overrides, config.seed)
            while (missing := num_trials - num_finished(study)) > 0:
                print(f"search: {missing} trial(s) to go", flush=True)
                run_trial(study, space, folder, [f"study={name}", *overrides])
    except Timeout as error:
        raise ArtifactError(f"another process searches in {folder}: wait for it") from error
    print(f"\n{study_table(study_report(folder))}\n", flush=True)
    scored = study.get_trials(states=[optuna.trial.TrialState.COMPLETE])
    if scored:
        best = study.best_trial
        print(f"best of {len(scored)}: {percent(study.best_value)} on held-out problems, "
              f"{' '.join(trial_overrides(best, space))}", flush=True)  # fmt: skip


def compose_run(name: str, overrides: Sequence[str]) -> RunConfig:
    """The configuration that all trials start from.

    Raises:
        ConfigError: an override is wrong or not for a search.
    """
    for text in overrides:
        if "=" not in text or text.split("=")[0] in ("study", "run_name", "sweep"):
            raise ConfigError(
                f"{text} is no setting for a search: give KEY=VALUE; a search names its runs itself"
            )
    config = compose_config(f"study={name}", "run_name=search", *overrides)
    require_benchmarks(config.eval)
    return config


def require_held_out(config: RunConfig) -> None:
    """Refuse a search by the problems that are reported.

    Raises:
        ConfigError: nothing is chosen, or not on held-out problems.
    """
    settings = config.eval
    if settings.selection is not SelectionMode.heldout:
        raise ConfigError(
            f"eval.selection={settings.selection.value} would search on the problems that are "
            "reported: use eval.selection=heldout"
        )
    choices = (settings.temps, settings.truncations, settings.checkpoint_steps)
    if max(len(values) for values in choices) < 2:
        raise ConfigError(
            "a search goes by the score on held-out problems, which are answered only where there "
            "is a choice: add temperatures, such as eval.temps=[0.6,0.9,1.2]"
        )
    missing = [stage for stage in ("train", "evaluate") if stage not in config.stages]
    if missing:
        raise ConfigError(f"stages leaves out {missing[0]}, whose result a search goes by: add it")
    if TUNED not in settings.arms:
        raise ConfigError(
            f"eval.arms=[{', '.join(settings.arms)}] leaves out the tuned model, by whose score a "
            "search goes: leave eval.arms as it is"
        )


def make_space(config: RunConfig, overrides: Sequence[str]) -> Space:
    """The search space around a configuration, without the settings that the overrides fix; a power
    of whole answers fixes temperature and truncation."""
    by_power = config.sampler.power.is_on
    fixed = {text.split("=")[0] for text in overrides}
    options = sorted(path.stem for path in (CONF / "truncation").glob("*.yaml"))
    cut = any(key == "truncation" or key.startswith("truncation.") for key in fixed)
    lr = config.optimizer.lr
    # A cosine that ends above its start would be refused.
    lowest = max(lr / LR_FACTOR, config.train.min_lr)
    return Space(
        temp=None if by_power or "sampler.temp" in fixed else T_TRAIN,
        truncations=None if by_power or cut else tuple(options),
        lr=None if "optimizer.lr" in fixed else (lowest, lr * LR_FACTOR),
    )


def trial_overrides(trial: "optuna.Trial | optuna.trial.FrozenTrial", space: Space) -> list[str]:
    """The settings of one trial, as train.py takes them; a new trial draws them."""
    overrides = []
    if space.temp is not None:
        temp = trial.suggest_float("sampler.temp", *space.temp, step=T_TRAIN_STEP)
        overrides.append(f"sampler.temp={temp:.3g}")
    if space.truncations is not None:
        overrides.append(f"truncation={trial.suggest_categorical('truncation', space.truncations)}")
    if space.lr is not None:
        lr = trial.suggest_float("optimizer.lr", *space.lr, log=True)
        overrides.append(f"optimizer.lr={lr:.3g}")
    return overrides


def open_search(path: Path, name: str, fixed: Sequence[str], seed: int) -> "optuna.Study":
    """The search stored in a file, or a new one; a trial that was running when an earlier process
    ended is queued again.

    Raises:
        ConfigError: the stored one has other fixed settings, so its scores are not comparable.
    """
    import optuna
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(
        study_name=name,
        storage=JournalStorage(JournalFileBackend(str(path))),
        direction="maximize",
        load_if_exists=True,
    )
    # Seeded by its number of trials: a resumed search does not draw its first trials again.
    study.sampler = optuna.samplers.TPESampler(seed=seed + len(study.trials))
    before = study.user_attrs.get(FIXED, sorted(fixed))
    if before != sorted(fixed):
        raise ConfigError(
            f"{path} searched with other settings ({' '.join(before) or 'none'}), whose scores are "
            "not comparable: give the same ones, or another study name"
        )
    study.set_user_attr(FIXED, sorted(fixed))
    for trial in study.get_trials(states=[optuna.trial.TrialState.RUNNING]):
        study.tell(trial.number, state=optuna.trial.TrialState.FAIL)
        study.enqueue_trial(trial.params)
    return study


def num_finished(study: "optuna.Study") -> int:
    """Trials that have a score or failed by themselves."""
    return sum(trial.state.is_finished() and FAILED in trial.user_attrs for trial in study.trials)


def run_trial(study: "optuna.Study", space: Space, folder: Path, fixed: Sequence[str]) -> None:
    """Draw settings, run them, and tell the score; a failed run is told as failed.

    Raises:
        SystemExit: the run was stopped by a signal and can go on.
    """
    from optuna.trial import TrialState

    trial = study.ask()
    overrides = [*fixed, *trial_overrides(trial, space)]
    run = [sys.executable, "-m", "ssd.drive.command", *overrides]
    code = subprocess.run(run, check=False).returncode
    if code == RESUMABLE:
        sys.exit(RESUMABLE)
    try:
        score = None if code else read_objective(folder / run_name(overrides, str(folder)))
    except SSDError as error:
        print(f"search: no score: {one_line(error)}", file=sys.stderr, flush=True)
        score = None
    trial.set_user_attr(FAILED, score is None)
    study.tell(trial, score, state=TrialState.FAIL if score is None else TrialState.COMPLETE)
    outcome = "failed" if score is None else f"{percent(score)} on held-out problems"
    print(f"search: trial {trial.number}: {outcome}", flush=True)


def read_objective(run_dir: Path) -> float:
    """The tuned model's best score on the held-out problems, a share in [0, 1].

    Raises:
        ArtifactError: the run has no such score, or one of other settings.
    """
    facts = collect(run_dir, read_positions=False)
    chosen = facts.held_out
    if chosen is None or facts.stale:
        raise ArtifactError(f"{run_dir} has no score on held-out problems that is its own")
    return chosen.score.value


if __name__ == "__main__":
    main()
