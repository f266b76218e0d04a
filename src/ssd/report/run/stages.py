"""The report's training and sampling sections, from the two stages' manifests and metrics."""

import math
import statistics
from typing import Any

from ssd.report.render import formats
from ssd.report.render.document import Block, Figure, Paragraph, Section, Table
from ssd.report.run.facts import Facts
from ssd.report.run.figures import CURVES, draw_training

CORPUS_COUNTS = {
    "num_prompts": "Prompts",
    "skipped_long_prompts": "Prompts skipped as too long",
    "num_drawn": "Samples drawn",
    "num_samples": "Samples kept",
    "duplicates": "Repeated prompts dropped",
    "num_tokens": "Tokens",
    "mean_tokens": "Mean tokens per sample",
}
POWER_COUNTS = {
    "num_candidates": "Candidates drawn",
    "candidates_per_prompt": "Candidates per prompt",
    "effective_size": "Effective sample size, median of all weighings",
    "effective_size_low": "The same, 10th percentile",
    "effective_size_end": "The same at the end, median of prompts",
    "resamplings": "Resamplings per prompt on the way, mean",
    "log_weight_error": "Most that a log-weight could be off for unlikely tokens, nats",
    "chosen_logprob": "Mean log-probability of a sample under the model, nats",
}
POWER_SHARES = {
    "largest_share": "Share of a prompt's largest weight at the end, median",
    "cut_share": "Candidates cut off by the length cap (they count for the tokens they have)",
    "repeated_share": "Samples that repeat another of their prompt",
}
CHECKPOINT_COUNTS = {
    "num_steps": "Optimizer steps",
    "epochs": "Epochs",
    "num_samples": "Samples",
    "skipped_long_samples": "Samples skipped as too long",
    "skipped_unnamed_ids": "Samples skipped for ids that no token has",
    "truncated_samples": "Samples cut off as too long",
    "num_loss_tokens": "Tokens with loss",
    "num_parameters": "Parameters",
    "num_trainable": "Parameters trained",
    "peak_memory_gib": "Peak memory (on a GPU: of tensors), GiB",
}


def training(facts: Facts) -> list[Section]:
    """Curves and counts of training, however far it has come; nothing where it has not begun."""
    manifest = facts.checkpoint.manifest if facts.checkpoint is not None else None
    steps = [line for line in facts.metrics if "step" in line and "train/loss" in line]
    if manifest is None and not steps:
        return []
    blocks: list[Block] = []
    if manifest is None:
        whole = facts.run.config.train.max_steps
        blocks.append(Paragraph(f"Unfinished: {len(steps)} of {whole} steps so far."))
    if steps:
        blocks += [Paragraph(_course(steps)), _curves(steps)]
    if manifest is not None:
        rows = _rows(manifest["counts"], CHECKPOINT_COUNTS)
        if "export_check" in manifest:
            largest = manifest["export_check"]["max_logit_difference"]
            rows.append(["Largest logit change by export", f"{largest:.3g}"])
            carried = manifest["export_check"].get("carried_over")
            if carried:
                rows.append(["Tensors of the base carried over unchanged", f"{len(carried):,}"])
        blocks.append(Table(caption="What was trained", columns=["Quantity", "Value"], rows=rows))
    return [Section("Training", blocks)]


def sampling(facts: Facts) -> list[Section]:
    """How many samples were drawn, dropped and kept, and how they ended;
    nothing before the corpus is finished."""
    manifest = facts.corpus.manifest if facts.corpus is not None else None
    if manifest is None:
        return []
    counts = manifest["counts"]
    rows = _rows(counts, CORPUS_COUNTS)
    if "fence_share" in counts:
        rows.append(["With a code fence", formats.percent(counts["fence_share"])])
    if manifest.get("tokens_per_second"):
        rows.append(["Tokens per second", formats.number(manifest["tokens_per_second"])])
    blocks: list[Block] = [Table(caption="The corpus", columns=["Quantity", "Value"], rows=rows)]
    if (sentence := facts.approximation) is not None:
        chosen = _rows(counts["power"], POWER_COUNTS)
        chosen += [
            [label, formats.percent(counts["power"][key])] for key, label in POWER_SHARES.items()
        ]
        caption = "How the samples were chosen from candidates, by importance weights"
        blocks.insert(0, Paragraph(f"{sentence[0].upper()}{sentence[1:]}."))
        blocks.append(Table(caption=caption, columns=["Quantity", "Value"], rows=chosen))
    if counts.get("dropped"):
        dropped, caption = counts["dropped"], "Samples dropped by each filter"
        blocks.append(_shares(caption, "Filter", dropped, counts["num_drawn"]))
    if counts.get("finish_reasons"):
        reasons = counts["finish_reasons"]
        caption = "How the samples ended (length: cut off by the length cap)"
        blocks.append(_shares(caption, "Finish reason", reasons, sum(reasons.values())))
    return [Section("Sampling", blocks)]


def _curves(steps: list[dict[str, Any]]) -> Figure:
    ranges = []
    for key, label in CURVES.items():
        values = [line[key] for line in steps if key in line]
        if values:
            ranges.append(f"{label} from {values[0]:.3g} to {values[-1]:.3g}")
    return Figure(
        name="training",
        caption="Loss, learning rate and gradient norm over optimizer steps.",
        alt=f"Line plots over {len(steps)} optimizer steps: {'; '.join(ranges)}.",
        drawing=draw_training(steps),
    )


def _course(steps: list[dict[str, Any]]) -> str:
    """Where the loss started and ended, how many steps went wrong, and how fast it went."""
    losses = [line["train/loss"] for line in steps if math.isfinite(line["train/loss"])]
    sentences = []
    if losses:
        tenth = max(1, len(losses) // 10)
        first, last = statistics.fmean(losses[:tenth]), statistics.fmean(losses[-tenth:])
        over = "the first and last tenth of the steps" if tenth > 1 else "the first and last step"
        sentences.append(f"The loss goes from {first:.3f} to {last:.3f} ({over}).")
    if len(losses) < len(steps):
        sentences.append(
            f"{len(steps) - len(losses)} of {len(steps)} steps have a loss that is not finite."
        )
    speeds, fills = (
        [line[key] for line in steps if key in line]
        for key in ("train/tokens_per_second", "train/fill")
    )
    if speeds:
        sentences.append(
            f"The median speed is {formats.number(statistics.median(speeds))} tokens per second."
        )
    if fills:
        padding = formats.percent(1 - statistics.fmean(fills))
        sentences.append("No padding." if padding == "0.0%" else f"{padding} of it was padding.")
    return " ".join(sentences)


def _shares(caption: str, name: str, counts: dict[str, int], total: int) -> Table:
    rows = [
        [item, f"{count:,}", formats.percent(count / total) if total else "-"]
        for item, count in counts.items()
    ]
    return Table(caption=caption, columns=[name, "Samples", "Share"], rows=rows)


def _rows(counts: dict[str, Any], labels: dict[str, str]) -> list[list[str]]:
    return [[label, formats.number(counts[key])] for key, label in labels.items() if key in counts]
