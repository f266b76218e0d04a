"""The results that W&B and metrics.jsonl get: every score, the columns of a sweep, answers."""

from collections.abc import Mapping
from typing import Any

from ssd.arms import BASE, TUNED
from ssd.artifacts.fingerprints import fingerprint, plain
from ssd.artifacts.names import SHARDS, VERDICTS
from ssd.artifacts.store import stored
from ssd.records.benchmark_scores import Comparison, ModelScores
from ssd.records.scores import Scores, scores_json
from ssd.records.tables import read_chosen, shard_files
from ssd.records.verdicts import read_verdicts
from ssd.run import Run, lineage
from ssd.run.cost import costs, scored_artifacts
from ssd.run.tracking import Tracker

ANSWERS = ("benchmark", "model", "problem", "sample", "status", "detail", "tokens", "answer")
"""Columns of the table of graded answers."""


def score_name(benchmark: str, arm: str, k: int) -> str:
    """The name of a score: `eval/humaneval/tuned/pass@1`."""
    return f"eval/{benchmark}/{arm}/pass@{k}"


def track(run: Run, scores: Scores) -> None:
    """Log the scores to the run folder's metrics file and to W&B,
    with a table of graded answers."""
    metrics = flat_metrics(scores)
    with Tracker(run, "evaluate", fingerprint(scores_json(scores)), run.folder) as tracker:
        tracker.log(metrics)
        tracker.summary(metrics | headline(run, scores))
        tracker.table("answers", ANSWERS, answer_rows(run, scores))


def flat_metrics(scores: Scores) -> dict[str, float]:
    """Metric names and values, such as `eval/humaneval/tuned/pass@1` and
    `eval/humaneval/tuned_minus_base/pass@1/low`."""
    metrics: dict[str, float] = {}
    for scored in scores.benchmarks:
        differences = {f"tuned_minus_{arm}": part for arm, part in scored.comparisons.items()}
        parts: Mapping[str, ModelScores | Comparison] = {**scored.models, **differences}
        for name, part in parts.items():
            place = f"eval/{scored.name}/{name}"
            for k, interval in part.pass_at.items():
                score = score_name(scored.name, name, k)
                metrics |= {
                    score if field == "value" else f"{score}/{field}": number
                    for field, number in plain(interval).items()
                    if number is not None
                }
            if isinstance(part, ModelScores):
                for field in ("mean_tokens", "fence_share", "cut_share", "distinct_programs"):
                    metrics[f"{place}/{field}"] = getattr(part, field)
                if part.lost_share is not None:
                    metrics[f"{place}/lost_share"] = part.lost_share
    return metrics


def headline(run: Run, scores: Scores) -> dict[str, float]:
    """One row of a sweep: what a run set for its training data, what its tuned model scored on its
    first benchmark by the smallest k, and what it cost. Names are flat, as W&B's parallel
    coordinates want them. `top_k` 0 keeps all; `held_out` is the chosen setting's score on the
    problems that chose it; `hours` is the report's wall time without an analysis, which runs later.
    Values that a run does not have are left out: no T_train, so no T_eff, stands for a corpus of a
    power distribution."""
    corpus = lineage.corpus(run)
    seconds = sum(cost.seconds for cost in costs(scored_artifacts(run, scores)))
    columns = {
        "top_k": corpus.inputs["truncation"]["top_k"] or 0,
        "top_p": corpus.inputs["truncation"]["top_p"],
        "lr": run.config.optimizer.lr,
        "hours": round(seconds / 3600, 4),
    }
    has_t_train = "power" not in corpus.inputs
    if has_t_train:
        columns["t_train"] = corpus.inputs["temp"]
    if corpus.done:
        columns["tokens"] = corpus.manifest()["counts"]["num_tokens"]
    (first,) = (each for each in scores.benchmarks if each.name == run.config.eval.benchmarks[0])
    if TUNED in first.models:
        tuned, k = first.models[TUNED], first.k
        gain = first.comparisons[BASE].pass_at[k]
        columns |= {
            "t_eval": tuned.setting.temp,
            f"pass@{k}": tuned.pass_at[k].value,
            "answer_tokens": tuned.mean_tokens,
            "gain": gain.value,
            "gain_low": gain.low,
            "gain_high": gain.high,
        }
        if has_t_train:
            columns["t_eff"] = columns["t_train"] * tuned.setting.temp
    held_out = scores.held_out
    return columns if held_out is None else columns | {"held_out": held_out.score.value}


def answer_rows(run: Run, scores: Scores) -> list[tuple[Any, ...]]:
    """The first answers of every arm and benchmark with their verdicts,
    `logger.num_sample_rows` in all."""
    parts = [
        (scored.name, arm, model)
        for scored in scores.benchmarks
        for arm, model in scored.models.items()
    ]
    each = -(-run.config.logger.num_sample_rows // len(parts))
    rows: list[tuple[Any, ...]] = []
    for benchmark, arm, model in parts:
        judged = stored(run.store, "verdicts", model.verdicts)
        answered = stored(run.store, "generations", model.generations)
        verdicts = read_verdicts(judged.intact(VERDICTS) / VERDICTS)
        shown = {(verdict.problem_id, verdict.sample_index) for verdict in verdicts[:each]}
        samples = read_chosen(shard_files(answered.intact(f"{SHARDS}/") / SHARDS), shown)
        texts = {(sample.prompt_id, sample.sample_index): sample.text for sample in samples}
        for verdict in verdicts[:each]:
            place = (verdict.problem_id, verdict.sample_index)
            graded = (verdict.status, verdict.detail, verdict.num_tokens)
            rows.append((benchmark, arm, *place, *graded, texts[place]))
    return rows[: run.config.logger.num_sample_rows]
