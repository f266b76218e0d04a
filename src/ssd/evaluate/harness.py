"""Tasks of EleutherAI's harness, answered by a run's models: what else did training change?

    ssd evaluate lm_eval RUN_DIR --tasks ifeval,gsm8k

Every model answers in a process of its own; what each document scored is paired by document.
P documents.
"""

import argparse
import importlib.metadata
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ssd.artifacts.files import read_json, write_json
from ssd.evaluate.generate import require_checkpoint
from ssd.evaluate.table import aligned, percent, signed
from ssd.method.estimates import Floats
from ssd.method.interval_ends import difference_ends, estimate, mean_ends, score_ends
from ssd.method.intervals import Interval
from ssd.method.sign_flip import sign_flip_p_value
from ssd.run import Run, lineage, load_run, protocol, stage_parser
from ssd.run.launch import export_model
from ssd.runtime.children import run_child
from ssd.runtime.installation import require_package

FOLDER = "lm_eval"
RESAMPLES = 10_000
Measure = tuple[str, str, str]
"""A task, its filter, its metric."""
NOTES = """\
Tasks whose answers are drawn (output_type generate_until); prompts, stop strings and decoding are
the task's own. What each document scored is kept in RUN_DIR/lm_eval; a model that has answered
the same tasks already is not asked again. Needs the extra lm_eval.
"""


def run_lm_eval(arguments: list[str]) -> None:
    """Answer the tasks with every model of a run, and print their scores.

    Raises:
        SSDError: the harness is not installed, or a task cannot be used; says why.
    """
    options = parser().parse_args(arguments)
    require_package("lm_eval", "lm_eval")
    run = load_run(options.run_dir)
    if options.model is not None:  # the process of one model
        from ssd.evaluate.harness_model import answer_tasks

        write_json(
            result_file(run, options.model),
            {"question": question(run, options.model, options),
             "scores": answer_tasks(run, options.model, options)},
        )  # fmt: skip
        return
    models = protocol.models(run)
    for model in models:
        require_checkpoint(run, model)
    for model in models:
        if stored_scores(run, model, options) is None:
            export_model(run, model, None)
            command = [sys.executable, "-m", "ssd.evaluate", FOLDER, *arguments, "--model", model]
            run_child(command, f"tasks for the {model} model")
    scores = {model: stored_scores(run, model, options) or {} for model in models}
    print(f"\n{table(scores)}\n", flush=True)


def parser() -> argparse.ArgumentParser:
    """The command line."""
    own = stage_parser(
        "evaluate lm_eval",
        "Answer tasks of EleutherAI's harness.",
        "outputs/main/defaults --tasks ifeval",
        "outputs/main/defaults --tasks my_task --include FOLDER --limit 50",
        notes=NOTES,
    )
    own.add_argument("--tasks", required=True, type=_names, help="names, separated by commas")
    own.add_argument("--include", type=Path, help="a folder with tasks of your own")
    own.add_argument("--limit", type=int, help="the first so many documents of each task")
    own.add_argument("--num-fewshot", type=int, help="examples before each (default: the task's)")
    own.add_argument(
        "--plain", action="store_true", help="prompts without the model's chat template"
    )
    own.add_argument("--model", help=argparse.SUPPRESS)
    return own


def _names(text: str) -> list[str]:
    return [name for name in text.split(",") if name]


def question(run: Run, model: str, options: argparse.Namespace) -> dict[str, Any]:
    """What the scores depend on."""
    return {
        "weights": lineage.identity(run, model),
        "tasks": options.tasks,
        "include": None if options.include is None else str(options.include.resolve()),
        "limit": options.limit,
        "num_fewshot": options.num_fewshot,
        "plain": options.plain,
        "seed": run.config.seed,
        "lm_eval": importlib.metadata.version("lm_eval"),
    }


def result_file(run: Run, model: str) -> Path:
    """Where a model's scores lie."""
    return run.folder / FOLDER / f"{model}.json"


def stored_scores(
    run: Run, model: str, options: argparse.Namespace
) -> dict[Measure, dict[str, float]] | None:
    """What each document scored, by measure; None unless the model has answered these tasks."""
    path = result_file(run, model)
    stored = read_json(path) if path.is_file() else {}
    if stored.get("question") != question(run, model, options):
        return None
    return {(task, kind, metric): its for task, kind, metric, its in stored["scores"]}


def table(scores: Mapping[str, Mapping[Measure, Mapping[str, float]]]) -> str:
    """A row for each measure and model, with the last model's paired difference to it."""
    *others, tuned = scores
    rows: list[list[str] | str] = [["", "model", "score", *([f"{tuned} minus it"] * bool(others))]]
    rng = np.random.default_rng(0)
    for measure in scores[tuned]:
        task, kind, metric = measure
        own = scores[tuned][measure]
        rows.append(f"{task}, {metric} ({kind}), {len(own)} documents")
        for model in scores:
            theirs = scores[model][measure]
            values = np.array([[its[name] for name in own] for its in (own, theirs)])  # (2, P)
            row = ["", model, _score(values[1])]
            rows.append(row + [_change(values, rng) if model != tuned else ""] * bool(others))
    return f"{aligned(rows)}\n\n95 % intervals over documents; shares in percent"


def _is_share(values: Floats) -> bool:
    return bool((values >= 0).all() and (values <= 1).all())


def _score(value_P: Floats) -> str:
    if _is_share(value_P):
        return percent(estimate(value_P.mean(), score_ends(value_P)))
    return _number(estimate(value_P.mean(), mean_ends(value_P)))


def _change(values: Floats, rng: np.random.Generator) -> str:
    own_P, theirs_P = values
    change_P = own_P - theirs_P
    chance = sign_flip_p_value(change_P, RESAMPLES, rng)
    if _is_share(values):
        return signed(estimate(change_P.mean(), difference_ends(own_P, theirs_P), chance))
    return f"{_number(estimate(change_P.mean(), mean_ends(change_P)))} p={chance:.2g}"


def _number(value: Interval) -> str:
    return f"{value.value:.4g} [{value.low:.4g}, {value.high:.4g}]"
