"""The model card of every exported checkpoint: what it is, how it was made, what it scores.

A README.md in the hub's format in the exported `model/` and `adapter/`. Two runs that share a
checkpoint write the same file: the later report's stands, and it names its run.
"""

import shlex
from pathlib import Path

from ssd.arms import ARMS, TUNED, UNIT
from ssd.artifacts.files import write_text
from ssd.artifacts.names import ADAPTER, CARD, MODEL
from ssd.report.exports.card_metadata import metadata, prompts
from ssd.report.exports.card_usage import base_name, decoding
from ssd.report.render import formats
from ssd.report.render.document import Block, Code, Document, Listing, Paragraph, Section, Table
from ssd.report.render.markdown import markdown
from ssd.report.run.checkpoints import Export, exports
from ssd.report.run.facts import Facts
from ssd.report.run.settings import round_words, settings
from ssd.report.run.summary import FLATTERED, finding
from ssd.run import lineage

LIMITS = (
    "Its training data are the base model's own answers, and nothing checked them: wrong and "
    "cut-off answers were trained on like right ones.",
    "Safety, bias and behaviour outside these benchmarks were not evaluated. What the base model's "
    "own card says of its limits holds here too.",
    "A score holds for the decoding beside it; other temperatures and truncations can do better or "
    "worse.",
)
CITATION = """@misc{zhang2026ssd,
  title={Embarrassingly Simple Self-Distillation Improves Code Generation},
  author={Ruixiang Zhang and Richard He Bai and Huangjie Zheng and Navdeep Jaitly
          and Ronan Collobert and Yizhe Zhang},
  year={2026},
  eprint={2604.01193},
  archivePrefix={arXiv}
}"""


def write_cards(facts: Facts) -> list[Path]:
    """Write a README.md into every exported `model/` and `adapter/` of the run: of its final model,
    of earlier steps that are reported, and of the control `t1`. Left alone is a README.md that the
    checkpoint's manifest vouches for, as older exports of adapters have.

    Returns:
        The files written.

    Raises:
        ArtifactError: a folder cannot be written.
    """
    written = []
    for export in exports(facts):
        for part in (MODEL, ADAPTER):
            path = export.folder / part / CARD
            if path.parent.is_dir() and not _vouched_for(export, path):
                write_text(path, card(export, part))
                written.append(path)
    return written


def card(export: Export, part: str) -> str:
    """The text of a card: YAML metadata, then Markdown.

    Args:
        part: `model` for a whole checkpoint, `adapter` for an adapter alone.
    """
    return f"---\n{metadata(export, part)}\n---\n\n{markdown(_document(export, part))}"


def _vouched_for(export: Export, path: Path) -> bool:
    checkpoint = lineage.checkpoint(export.facts.run)
    files = checkpoint.manifest()["files"] if checkpoint.done else {}
    return (
        path.is_relative_to(checkpoint.folder) and str(path.relative_to(checkpoint.folder)) in files
    )


def _document(export: Export, part: str) -> Document:
    config = export.facts.run.config
    shown = [block for section in settings(export.facts) for block in section.blocks]
    sizes = "; ".join(f"{scored.title}, {scored.problems}" for scored, _ in export.scored)
    small = [f"The evaluation is small: {sizes}."] if sizes else []
    name = base_name(export.facts).rsplit("/", 1)[-1]
    role = "Control of a self-distillation" if export.model == UNIT else "Simple self-distillation"
    return Document(
        title=f"{role} of {name}",
        subtitle=f"Written by the report of run {config.title}, study {config.study}.",
        sections=[
            Section("What this is", [*_what(export), *_carried(export, part)]),
            Section("Scores", _scores(export)),
            Section("How to decode it", decoding(export, part)),
            Section("Data", _data(export.facts)),
            Section("Settings", [block for block in shown if isinstance(block, Table)]),
            Section("Limits", [Listing([*LIMITS, *small])]),
            Section("How it was made", _provenance(export)),
            Section("Citation", [Code(caption="The method's paper", text=CITATION)]),
        ],
    )


def _what(export: Export) -> list[Block]:
    facts = export.facts
    how, power = facts.sampled, facts.power
    sampled = f"sampled at temperature {how.temp:g}, truncation {formats.truncation(how)}"
    method = "simple self-distillation (arXiv 2604.01193)"
    if power is not None:
        sampled = f"drawn by {formats.sampling(how, power)}"
        method = "self-distillation on a power of its own distribution (arXiv 2605.04542)"
    blocks: list[Block] = [
        Paragraph(
            f"This is {base_name(facts)}, fine-tuned with plain cross-entropy on its own raw "
            f"answers, {sampled}. That is {method}: no "
            "verifier, no teacher, no reward."
        )
    ]
    if export.model == UNIT:
        blocks.append(
            Paragraph(
                "It is a control, not a result: on samples of temperature 1 without truncation the "
                "expected gradient is zero, so what it gains over the base model comes with any "
                "fine-tuning on own samples. It is there for the run's tuned model to be compared "
                "with."
            )
        )
    rounds = facts.run.config.rounds
    if rounds.number > 1:
        blocks.append(Paragraph(f"It comes from a later round, {round_words(rounds)}."))
    if export.step is not None:
        last = facts.run.config.train.max_steps
        blocks.append(
            Paragraph(f"It is the model after {export.step:,} of {last:,} optimizer steps.")
        )
    return blocks


def _carried(export: Export, part: str) -> list[Block]:
    """Which tensors are the base's own because transformers does not load them."""
    checkpoint = export.facts.checkpoint
    manifest = checkpoint.manifest if checkpoint is not None else None
    record = manifest.get("export_check", {}) if manifest is not None else {}
    names = record.get("carried_over", [])
    if part != MODEL or not names:
        return []
    return [
        Paragraph(
            "Tensors of the base that training does not load are here unchanged: "
            f"{len(names):,}, the first of them {', '.join(names[:3])}."
        )
    ]


def _scores(export: Export) -> list[Block]:
    scores = export.facts.scores
    if scores is None or not export.scored:
        return [Paragraph("This checkpoint has no scores.")]
    blocks: list[Block] = []
    if export.model == TUNED:
        blocks += [finding(benchmark) for benchmark in scores.main]
    blocks.append(_table(export))
    blocks.append(
        Paragraph(
            "Percent, and percentage points, with 95% intervals; differences are paired by problem."
        )
    )
    if scores.selection is not None and scores.selection.mode == "test":
        blocks.append(Paragraph(FLATTERED))
    elif scores.selection is not None:
        blocks.append(
            Paragraph("Decoding and step were chosen on held-out problems, which are not reported.")
        )
    return blocks


def _table(export: Export) -> Table:
    rows = [
        [
            f"{benchmark.title} ({benchmark.problems})",
            ARMS[arm],
            formats.decoding(model.setting),
            f"pass@{k} {formats.score(interval)}",
            formats.tested(comparison.pass_at[k] if comparison else None),
        ]
        for benchmark, _ in export.scored
        for arm, model in benchmark.models.items()
        for comparison in [benchmark.comparisons.get(arm)]
        for k, interval in model.pass_at.items()
    ]
    return Table(
        caption="Every model that was compared",
        columns=["Benchmark", "Model", "Decoding", "Score", "Tuned model minus it"],
        sides="lllll",
        rows=rows,
    )


def _data(facts: Facts) -> list[Block]:
    manifest = facts.corpus.manifest if facts.corpus is not None else None
    if manifest is None:
        return [Paragraph("The corpus that it was trained on is no longer there.")]
    counts, data = manifest["counts"], prompts(facts)
    number = facts.run.config.rounds.number
    drew = "the base model" if number == 1 else f"the model of round {number - 1}"
    cut = counts["finish_reasons"].get("length", 0) / max(counts["num_samples"], 1)
    return [
        Paragraph(
            f"{counts['num_samples']:,} answers of {drew} to {counts['num_prompts']:,} "
            f"prompts ({data.get('hub_name') or data['name']}), {counts['num_tokens']:,} tokens. "
            f"{formats.percent(counts['fence_share'])} have a code fence, {formats.percent(cut)} "
            "were cut off by the length cap. They are unverified: no answer was run, graded or "
            "chosen by whether it is right."
        )
    ]


def _provenance(export: Export) -> list[Block]:
    facts = export.facts
    blocks: list[Block] = []
    if facts.command is not None:
        blocks.append(Code(caption="The command of the run", text=shlex.join(facts.command)))
    manifest = facts.checkpoint.manifest if facts.checkpoint is not None else None
    corpus = facts.corpus.fingerprint if facts.corpus is not None else "unknown"
    blocks.append(
        Paragraph(
            f"Base weights {facts.run.weights.identity}, corpus {corpus}, checkpoint "
            f"{lineage.checkpoint(facts.run).fingerprint}."
        )
    )
    if manifest is not None:
        versions = [f"{name} {version}" for name, version in manifest["libraries"].items()]
        blocks.append(Paragraph(f"Trained with {', '.join(versions)}."))
    return blocks
