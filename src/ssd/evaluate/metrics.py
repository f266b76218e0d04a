"""What W&B and metrics.jsonl get of an evaluation: every score, the columns of a sweep, answers."""

from typing import Any

from ssd.arms import BASE, TUNED
from ssd.artifacts import fingerprint, stored
from ssd.artifacts.names import SHARDS, VERDICTS
from ssd.evaluate.table import pass_names
from ssd.records.samples import read_samples
from ssd.records.verdicts import read_verdicts
from ssd.run import Run, lineage
from ssd.run.tracking import Tracker


def track(run: Run, scores: dict[str, Any]) -> None:
    """Log the scores to the run folder's metrics file and to W&B,
    with a table of graded answers."""
    metrics = flat_metrics(scores)
    with Tracker(run, "evaluate", fingerprint(scores), run.folder) as tracker:
        tracker.log(metrics)
        tracker.summary(metrics | headline(run, scores))
        columns = (
            "benchmark",
            "model",
            "problem",
            "sample",
            "status",
            "detail",
            "tokens",
            "answer",
        )
        tracker.table("answers", columns, answer_rows(run, scores))


def flat_metrics(scores: dict[str, Any]) -> dict[str, float]:
    """Metric names and values, such as `eval/humaneval/tuned/pass@1` and
    `eval/humaneval/tuned_minus_base/pass@1/low`."""
    metrics: dict[str, float] = {}
    for benchmark, one in scores["benchmarks"].items():
        differences = {f"tuned_minus_{arm}": part for arm, part in one["comparisons"].items()}
        for part, values in {**one["models"], **differences}.items():
            for name in pass_names(values):
                for field, value in values[name].items():
                    suffix = "" if field == "value" else f"/{field}"
                    metrics[f"eval/{benchmark}/{part}/{name}{suffix}"] = value
            for name in ("mean_tokens", "fence_share", "cut_share", "distinct_programs"):
                if isinstance(values.get(name), int | float):
                    metrics[f"eval/{benchmark}/{part}/{name}"] = values[name]
            if values.get("lost_to_form") is not None:
                lost = sum(values["lost_to_form"].values())
                metrics[f"eval/{benchmark}/{part}/lost_share"] = lost
    return metrics


def headline(run: Run, scores: dict[str, Any]) -> dict[str, float]:
    """One row of a sweep: what a run set, what it scored on its first benchmark by the smallest k,
    and what it cost. Names are flat, as W&B's parallel coordinates want them: `t_train`, `t_eval`,
    `t_eff` (their product), `top_k` (0 keeps all) and `top_p` of the training data, `lr`; `pass@1`
    and `answer_tokens` of the tuned model, `gain` over the base model with its interval, `held_out`
    (the chosen setting's score on the problems that chose it); `tokens` sampled for training and
    `hours` of the artifacts' wall time. What a run has not is left out."""
    corpus = lineage.corpus(run).inputs
    columns = {
        "t_train": corpus["temp"],
        "top_k": corpus["truncation"]["top_k"] or 0,
        "top_p": corpus["truncation"]["top_p"],
        "lr": run.config.optimizer.lr,
        "hours": round(sum(wall_seconds(run, scores)) / 3600, 4),
    }
    if lineage.corpus(run).done:
        columns["tokens"] = lineage.corpus(run).manifest()["counts"]["num_tokens"]
    first = scores["benchmarks"][run.config.eval.benchmarks[0]]
    tuned = first["models"].get(TUNED)
    if tuned is not None:
        name = f"pass@{min(run.config.eval.k)}"
        gain = first["comparisons"][BASE][name]
        columns |= {
            "t_eval": tuned["temp"],
            "t_eff": columns["t_train"] * tuned["temp"],
            name: tuned[name]["value"],
            "answer_tokens": tuned["mean_tokens"],
            "gain": gain["value"],
            "gain_low": gain["low"],
            "gain_high": gain["high"],
        }
    return columns | held_out(scores)


def held_out(scores: dict[str, Any]) -> dict[str, float]:
    """`held_out`, where the tuned model's setting was chosen on held-out problems."""
    selection = scores["selection"]
    if selection is None or selection["mode"] != "heldout":
        return {}
    chosen = [cell for cell in selection["sweeps"].get(TUNED, []) if cell["chosen"]]
    return {"held_out": chosen[0]["pass@1"]["value"]} if chosen else {}


def wall_seconds(run: Run, scores: dict[str, Any]) -> list[float]:
    """What each finished artifact behind the scores took."""
    trainings = lineage.trainings(run).values()
    artifacts = [
        one for each in trainings for one in (lineage.corpus(each), lineage.checkpoint(each))
    ]
    answers = {
        (kind, model[kind])
        for one in scores["benchmarks"].values()
        for model in one["models"].values()
        for kind in ("generations", "verdicts")
    }
    artifacts += [stored(run.store, kind, name) for kind, name in sorted(answers)]
    return [one.manifest()["wall_seconds"] for one in artifacts if one.done]


def answer_rows(run: Run, scores: dict[str, Any]) -> list[tuple[Any, ...]]:
    """The first answers of every arm and benchmark with their verdicts,
    `logger.num_sample_rows` in all."""
    parts = [
        (benchmark, arm, model)
        for benchmark, one in scores["benchmarks"].items()
        for arm, model in one["models"].items()
    ]
    each = -(-run.config.logger.num_sample_rows // len(parts))
    rows: list[tuple[Any, ...]] = []
    for benchmark, arm, model in parts:
        verdicts = read_verdicts(run.store / "verdicts" / model["verdicts"] / VERDICTS)
        samples = read_samples(run.store / "generations" / model["generations"] / SHARDS)
        texts = {(sample.prompt_id, sample.sample_index): sample.text for sample in samples}
        for one in verdicts[:each]:
            place = (one.problem_id, one.sample_index)
            text = texts[place]
            rows.append((benchmark, arm, *place, one.status, one.detail, one.num_tokens, text))
    return rows[: run.config.logger.num_sample_rows]
