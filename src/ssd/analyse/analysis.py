"""The stage: the probe set under every model, one after the other, and the artifact.

A model's file is written when it has been measured, so an analysis that was stopped goes on with
the next model; the base model is then read once more, because its states define every target.
"""

import gc
import math
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ssd.analyse.forward import States, load_network, read_states
from ssd.analyse.measure import measure
from ssd.analyse.probe import read_probe, token_texts, vocabulary_texts
from ssd.analyse.summary import ALL, KindRow, kind_table
from ssd.arms import BASE, TUNED
from ssd.artifacts.files import explained
from ssd.artifacts.names import REPORT_PAGE
from ssd.artifacts.seals import drop_damaged
from ssd.artifacts.store import Artifact
from ssd.config.settings import TruncationConfig
from ssd.errors import ArtifactError
from ssd.models.chat import load_tokenizer
from ssd.models.vocabulary import unnamed_ids
from ssd.models.weights import model_length
from ssd.records.analysis import (
    Positions,
    ProbeSample,
    positions_file,
    read_analysis,
    read_positions,
    write_positions,
    write_probe,
)
from ssd.records.samples import Sample
from ssd.run import Run, evidence, lineage, protocol
from ssd.run.lineage import require_tokenizer
from ssd.run.tracking import Tracker
from ssd.runtime.progress import silence_loading_bars

MEANS = ("entropy", "kept_mass", "cross_entropy")
"""Of these the manifest has each model's mean."""


def analyse(run: Run) -> None:
    """Write the run's analysis and print a summary; does nothing if the analysis is finished.

    Raises:
        ArtifactError: the checkpoint is not finished, or there are no answers and no corpus to
            read.
        DataError: the completions are not in the model's tokens, or none has a token.
        ModelError: a model's logits are not its head applied to its body.
    """
    steps = evidence.reported_steps(run)
    if TUNED in protocol.models(run) and TUNED not in steps:
        missing = lineage.checkpoint(run).folder
        raise ArtifactError(
            f"{missing} holds no finished checkpoint: run ssd train {run.folder} first, "
            "or leave train out of stages to analyse the base model alone"
        )
    analysis = evidence.analysis(run, steps)
    with analysis.writing() as folder, explained(folder):
        if analysis.done:
            print(f"up to date: {folder}", flush=True)
            return
        _write(run, analysis, steps)
        # Not left to the times of files: a clock can go back.
        (run.folder / REPORT_PAGE).unlink(missing_ok=True)
    content = read_analysis(analysis.intact())
    rows = kind_table(content, run.config.analyse, np.random.default_rng(run.config.seed))
    metrics = flat_metrics(rows)
    with Tracker(run, "analyse", analysis.fingerprint, run.folder) as tracker:
        tracker.log(metrics)
        tracker.summary(metrics)
    print(f"\n{in_short(rows, len(content.samples))}\n", flush=True)


def _write(run: Run, analysis: Artifact, steps: dict[str, int | None]) -> None:
    started = time.time()
    settings, folder = run.config.analyse, analysis.folder
    probe = evidence.probe(run)
    if not probe.done:
        raise ArtifactError(
            f"{probe.folder} is unfinished: sample first, with ssd sample {run.folder}, "
            "or name completions with analyse.probe"
        )
    require_tokenizer(run, probe, "analyse.probe")
    longest = model_length(lineage.model_folder(run, BASE))
    samples = read_probe(probe, settings.num_samples, settings.max_tokens, longest)
    silence_loading_bars()
    positions, costs = measure_models(run, steps, samples, folder, analysis.inputs)
    tokenizer = load_tokenizer(run.weights.path)
    shown = {int(token) for part in positions.values() for token in np.unique(part.top_ids)}
    texts = [
        ProbeSample(
            prompt_id=sample.prompt_id,
            sample_index=sample.sample_index,
            tokens=token_texts(tokenizer, sample.completion_token_ids),
        )
        for sample in samples
    ]
    write_probe(folder, texts, vocabulary_texts(tokenizer, shown))
    counts = {
        "num_samples": len(samples),
        "num_positions": len(positions[BASE].token_id),
        "models": {model: means(part) for model, part in positions.items()},
    }
    analysis.finish(started=started, counts=counts, costs=costs)


def measure_models(
    run: Run,
    steps: dict[str, int | None],
    samples: list[Sample],
    folder: Path,
    inputs: dict[str, Any],
) -> tuple[dict[str, Positions], dict[str, dict[str, float]]]:
    """Every model's positions, read from its file in `folder` if there is one, and the cost of the
    models measured in this process: `read_seconds`, `measure_seconds`, and `identity_error`, the
    difference in nats between the cross-entropy and the sum of its terms."""
    positions: dict[str, Positions] = {}
    costs: dict[str, dict[str, float]] = {}
    base: States | None = None
    ids = unnamed_ids(lineage.model_folder(run, BASE))
    unnamed = torch.tensor(ids) if ids else None
    drop_damaged(folder)
    missing = [model for model in steps if not positions_file(folder, model).is_file()]
    for model, step in steps.items():
        path = positions_file(folder, model)
        if model in missing or (model == BASE and missing):
            started = time.monotonic()
            network = load_network(run, model, step)
            states = read_states(network, samples, f"reading with {model}")
            del network
            gc.collect()
            torch.cuda.empty_cache()
            base = base or states
            costs[model] = {"read_seconds": round(time.monotonic() - started, 2)}
        if model in missing:
            assert base is not None
            started = time.monotonic()
            model_positions, error = measure(
                states,
                base,
                samples,
                temp=inputs["temp"],
                truncation=TruncationConfig(**inputs["truncation"]),
                eval_truncation=TruncationConfig(**inputs["eval_truncation"]),
                label=f"measuring {model}",
                unnamed=unnamed,
            )
            write_positions(path, model_positions)
            seconds = round(time.monotonic() - started, 2)
            costs[model] |= {"measure_seconds": seconds, "identity_error": error}
        positions[model] = read_positions(path)
    return positions, costs


def means(positions: Positions) -> dict[str, float | None]:
    """A model's means over all positions; None where there is no target."""
    values = {name: float(getattr(positions, name).mean()) for name in MEANS}
    return {name: None if math.isnan(value) else value for name, value in values.items()}


def flat_metrics(by_kind: dict[str, KindRow]) -> dict[str, float]:
    """Metric names and values: `analysis/lock/share`, `analysis/tuned/entropy`, and by kind
    `analysis/tuned/fork/entropy`; NaN values are left out."""
    rows = by_kind.values()
    metrics = {f"analysis/{row.kind}/share": row.share.value for row in rows if row.kind != ALL}
    for row in rows:
        for model, measures in row.means.items():
            place = model if row.kind == ALL else f"{model}/{row.kind}"
            metrics |= {f"analysis/{place}/{name}": value for name, value in measures.items()}
    return {name: value for name, value in metrics.items() if not math.isnan(value)}


def in_short(rows: dict[str, KindRow], num_samples: int) -> str:
    """One line about what was read, and one for each kind of position."""
    lines = [f"analysis of {rows[ALL].count:,} positions in {num_samples} completions"]
    for row in (row for row in rows.values() if row.count):
        line = f"{row.kind:6}{row.share.value:5.0%}  entropy {row.means[BASE]['entropy']:.3f} base"
        for model, changes in row.changes.items():
            change = changes["entropy"]
            line += f", {model} {change.value:+.4f} [{change.low:+.4f}, {change.high:+.4f}]"
        lines.append(line)
    return "\n".join(lines)
