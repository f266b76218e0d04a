"""`results.json`: the results of a run or a study, for programs.

`results.schema.json` beside this file describes every field. Scores are shares in [0, 1],
differences shares in [-1, 1], lengths tokens, times seconds, entropies and losses nats.

    python -m ssd.report.results --schema    print the schema
"""

import argparse
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ssd.analyse.summary import kind_table
from ssd.artifacts.fingerprints import plain
from ssd.artifacts.names import RESULTS
from ssd.config.choices import AdapterType, Schedule
from ssd.config.settings import ObjectiveConfig, TrainConfig
from ssd.method.intervals import Interval
from ssd.records.benchmark_scores import BenchmarkScores, Comparison, ModelScores
from ssd.records.pass_at import PassAt
from ssd.records.selection import Selection
from ssd.report.render import formats
from ssd.report.run.artifacts import libraries
from ssd.report.run.facts import Facts, StageResult, run_costs
from ssd.report.run.summary import finding
from ssd.report.run.watch import round_rows
from ssd.report.study.cells import CURVE, Cell, cells, curves, fit_cells, objective_field
from ssd.report.study.collection import Study, run_names
from ssd.run import lineage

VERSION = 1
SCHEMA = Path(__file__).with_name("results.schema.json")
EDITION = ("release", "window", "grading", "extraction", "split", "regression")
COUNTS = ("num_problems", "num_total", "num_samples")
SOURCE = ("generations", "verdicts")
FORM = ("mean_tokens", "fence_share", "cut_share", "distinct_programs", "statuses")


def run_results(facts: Facts) -> dict[str, Any]:
    """Everything about one run, as far as it has come."""
    config, scores = facts.run.config, facts.scores
    results = {
        "version": VERSION,
        "kind": "run",
        "name": config.title,
        "study": config.study,
        "model": {
            **_fields(config.model, "name", "kind", "dtype"),
            "weights": facts.run.weights.identity,
            "source": facts.run.weights.source,
        },
        "settings": _settings(facts),
        "benchmarks": {
            scored.name: _benchmark(scored) for scored in (scores.benchmarks if scores else ())
        },
        "selection": _selected(scores.selection) if scores and scores.selection else None,
        "analysis": _analysis(facts),
        **_rounds(facts),
        "artifacts": [_artifact(result) for result in facts.results],
        "cost": cost(facts),
        "libraries": libraries(facts.results),
        "command": facts.command,
        "missing": list(facts.missing),
        "stale": list(facts.stale),
    }
    finite: dict[str, Any] = _finite(plain(results))
    return finite


def study_results(study: Study) -> dict[str, Any]:
    """Every run of a study in brief, its cells of T_train and T_eval, and the fits through them."""
    every = cells(study.runs)
    names = run_names([facts.run.folder for facts in study.runs])
    results = {
        "version": VERSION,
        "kind": "study",
        "name": study.name,
        "runs": [_row(facts, names[facts.run.folder]) for facts in study.runs],
        "cells": [cell.json() for cell in every],
        "fits": _fits(every),
        "unfinished": study.unfinished,
    }
    finite: dict[str, Any] = _finite(plain(results))
    return finite


def cost(facts: Facts) -> dict[str, Any]:
    """Wall time of the artifacts behind a run, those of its choice included, and the tokens of its
    training. What several runs share is counted in each."""
    costs = run_costs(facts)
    kinds = dict.fromkeys(cost.kind for cost in costs)
    corpus, checkpoint = (
        result.manifest["counts"] if result is not None and result.manifest is not None else {}
        for result in (facts.corpus, facts.checkpoint)
    )
    tokens = checkpoint.get("num_loss_tokens")
    return {
        "seconds": round(sum(cost.seconds for cost in costs), 3),
        "seconds_by_kind": {
            kind: round(sum(cost.seconds for cost in costs if cost.kind == kind), 3)
            for kind in kinds
        },
        "sampled_tokens": corpus.get("num_tokens"),
        "trained_tokens": None if tokens is None else round(tokens * checkpoint["epochs"]),
    }


def _settings(facts: Facts) -> dict[str, Any]:
    config = facts.run.config
    sampler, train, optimizer, adapter = (
        config.sampler, config.train, config.optimizer, config.adapter,
    )  # fmt: skip
    return {
        "recipe": config.recipe,
        "seed": config.seed,
        "prompts": _fields(config.data, "name", "split", "limit"),
        "prompt_format": config.prompt_format.name,
        **_where_set(
            template_args=config.model.template_args,
            eval_template_args=config.eval_model.template_args,
        ),
        "t_train": facts.sampled.temp if facts.power is None else None,
        **_where_set(power=_power(facts)),
        "truncation": _fields(facts.sampled, "top_k", "top_p"),
        **_fields(sampler, "num_samples", "max_new_tokens", "filters", "engine"),
        "optimizer": optimizer._target_,
        "lr": optimizer.lr,
        **_fields(train, "min_lr", "warmup_steps", "max_steps", "global_batch_size", "seq_len"),
        **_schedule(train),
        **_objective(config.objective),
        "precision": train.precision,
        "adapter": adapter.type,
        "adapter_rank": None if adapter.type is AdapterType.none else adapter.rank,
        "t_eval": config.eval.temp,
        "eval_truncation": config.eval.truncation,
        "base_temp": config.eval.base_temp,
        "base_truncation": config.eval.base_truncation,
    }


def _objective(objective: ObjectiveConfig) -> dict[str, Any]:
    """All that the weights depend on; of the usual objective what the loss is averaged over."""
    inputs = lineage.objective_inputs(objective)
    norm = inputs.pop("norm")
    return {"norm": norm, **({"objective": inputs} if inputs else {})}


def _schedule(train: TrainConfig) -> dict[str, Any]:
    """Nothing of a cosine, which results of earlier versions do not name."""
    if train.schedule is Schedule.cosine:
        return {}
    return {"schedule": train.schedule, "decay_steps": train.num_decay_steps}


def _where_set(**values: dict[str, Any]) -> dict[str, Any]:
    """Without what is empty, which results of earlier versions do not have."""
    return {name: value for name, value in values.items() if value}


def _fields(settings: Any, *names: str) -> dict[str, Any]:
    return {name: getattr(settings, name) for name in names}


def _benchmark(scores: BenchmarkScores) -> dict[str, Any]:
    """All arms on the same problems, and the verdict in the words of the report."""
    verdict, sizes = finding(scores), scores.group_sizes
    return {
        **_fields(scores, *EDITION, *COUNTS),
        "verdict": {"word": verdict.verdict, "text": verdict.text},
        "arms": {arm: _arm(model, sizes) for arm, model in scores.models.items()},
        "comparisons": {arm: _comparison(change) for arm, change in scores.comparisons.items()},
        **_where_set(steps={arm: _pass_at(pass_at) for arm, pass_at in scores.steps.items()}),
    }


def _arm(scores: ModelScores, sizes: Mapping[str, int]) -> dict[str, Any]:
    return {
        "model": scores.model,
        **plain(scores.setting),
        **_fields(scores, *SOURCE, *FORM),
        "pass_at": _pass_at(scores.pass_at),
        "curve": scores.curve,
        "lost_to_form": scores.lost_to_form,
        **({} if scores.reasoning is None else {"reasoning": plain(scores.reasoning)}),
        "groups": {
            name: {"num_problems": sizes[name], "pass_at": _pass_at(pass_at)}
            for name, pass_at in scores.groups.items()
        },
    }


def _comparison(comparison: Comparison) -> dict[str, Any]:
    return {
        "pass_at": _pass_at(comparison.pass_at),
        "mean_tokens": comparison.mean_tokens,
        "groups": {
            name: {"pass_at": _pass_at(change.pass_at)}
            for name, change in comparison.groups.items()
        },
    }


def _pass_at(pass_at: PassAt) -> dict[str, Interval]:
    return {str(k): interval for k, interval in pass_at.items()}


def _selected(selection: Selection) -> dict[str, Any]:
    """How decoding and checkpoint were chosen, and among what."""
    return {
        "mode": selection.mode,
        "validation": selection.validation,
        "num_problems": {name: len(ids) for name, ids in selection.problems.items()},
        "sweeps": {
            model: [
                {
                    **plain(candidate.setting),
                    **_fields(candidate, "score", "num_problems", "chosen"),
                }
                for candidate in candidates
            ]
            for model, candidates in selection.sweeps.items()
        },
    }


def _rounds(facts: Facts) -> dict[str, Any]:
    """A row per round and model, where there are rounds."""
    rows = round_rows(facts.rounds, facts.run.config.analyse)
    return {"rounds": rows} if rows else {}


def _artifact(result: StageResult) -> dict[str, Any]:
    manifest = result.manifest or {}
    return {
        "label": result.label,
        "kind": manifest.get("kind"),
        "fingerprint": result.fingerprint,
        "finished": manifest.get("finished"),
        "seconds": manifest.get("wall_seconds"),
    }


def _power(facts: Facts) -> dict[str, Any]:
    """The power of whole answers that the corpus was chosen by, and how well; empty where it was
    not."""
    manifest = facts.corpus.manifest if facts.corpus is not None else None
    quality = manifest["counts"].get("power", {}) if manifest is not None else {}
    return {} if facts.power is None else {**plain(facts.power), "quality": quality}


def _row(facts: Facts, name: str) -> dict[str, Any]:
    sampled, chosen, scores = facts.sampled, facts.held_out, facts.scores
    assert scores is not None  # a study's runs have scores
    return {
        "name": name,
        "model": formats.model(facts.run.config.model),
        "t_train": sampled.temp if facts.power is None else None,
        **_where_set(power=_power(facts)),
        **_fields(sampled, "top_k", "top_p"),
        "lr": facts.run.config.optimizer.lr,
        "seed": facts.run.config.seed,
        "selection": scores.selection.mode if scores.selection is not None else None,
        "held_out": chosen.score if chosen is not None else None,
        "benchmarks": {scored.name: _benchmark(scored) for scored in scores.benchmarks},
        **_rounds(facts),
        "cost": cost(facts),
    }


def _finite(value: Any) -> Any:
    """`value` with null for every number that JSON cannot hold, NaN and the infinities."""
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _fits(every: list[Cell]) -> list[dict[str, Any]]:
    """A quadratic of the score over T_eff through the cells that differ in temperature, run and
    step alone, where there are enough temperatures."""
    fits = [(group[0].objective, group[0].json(), fit_cells(group)) for group in curves(every)]
    return [
        {
            **objective_field(objective),
            **{name: cell[name] for name in CURVE},
            **plain(fit),
        }
        for objective, cell, fit in fits
        if fit is not None
    ]


def _analysis(facts: Facts) -> dict[str, Any] | None:
    """What every model predicts at the probe positions, by their kind and over all of them."""
    analysis, settings = facts.analysis, facts.run.config.analyse
    if analysis is None:
        return None
    rows = kind_table(analysis, settings, np.random.default_rng(facts.run.config.seed))
    return {
        "num_samples": len(analysis.samples),
        "plausible": settings.plausible,
        "lock_top1": settings.lock_top1,
        "kinds": {fields.pop("kind"): fields for fields in map(plain, rows.values())},
    }


def main() -> None:
    """Command line of this module."""
    parser = argparse.ArgumentParser(
        prog="python -m ssd.report.results", description=f"What {RESULTS} holds, as a JSON Schema."
    )
    parser.add_argument("--schema", action="store_true", required=True, help="print the schema")
    parser.parse_args()
    print(SCHEMA.read_text(encoding="utf-8"), end="")


if __name__ == "__main__":
    main()
