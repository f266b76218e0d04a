"""The artifacts behind a run: what each took, how much of that was there before, and the command
and libraries that made them."""

import shlex
from datetime import datetime

from ssd.arms import counted
from ssd.report.render import formats
from ssd.report.render.document import Block, Code, Paragraph, Section, Table
from ssd.report.run.facts import (
    Facts,
    Manifest,
    StageResult,
    later_artifacts,
    made_artifacts,
    run_costs,
)
from ssd.run.cost import scored_artifacts

TOKENS = ("num_tokens", "num_positions")
"""Counts of a manifest that are tokens: drawn ones, or positions read."""


def cost(facts: Facts) -> list[Section]:
    """A row per finished artifact, and their sum; empty if none is finished. An artifact that two
    models share, as `base` and a `base_swept` that chose the same setting, is counted once."""
    first = {result.fingerprint: result for result in reversed(facts.results)}
    finished = [
        (result, result.manifest)
        for result in facts.results
        if result.manifest is not None and first[result.fingerprint] is result
    ]
    others = [cost for cost in run_costs(facts) if cost.fingerprint not in first]
    if not finished and not others:
        return []
    rows = [_row(facts, result, manifest) for result, manifest in finished]
    total = sum(manifest["wall_seconds"] for _, manifest in finished)
    own = {artifact.fingerprint for artifact in scored_artifacts(facts.run, facts.scores)}
    later = {artifact.fingerprint for artifact in later_artifacts(facts)} - own
    for name, of_later in (
        ("Answers and verdicts that chose the settings", False), ("The later rounds", True),
    ):  # fmt: skip
        part = [cost for cost in others if (cost.fingerprint in later) is of_later]
        seconds = sum(cost.seconds for cost in part)
        total += seconds
        if part:
            label = f"{name} ({counted(len(part), 'artifact')})"
            rows.append([label, formats.duration(seconds), "-", "-"])
    blocks: list[Block] = [
        Paragraph(_sum(facts, [manifest for _, manifest in finished], total) + _starts(facts)),
        Table(
            caption="Wall time of the process that made each artifact; tokens drawn by sampling "
            "and answers, with loss over all epochs in training, and read by the analysis",
            columns=["Artifact", "Wall time", "Tokens", "Made by"],
            sides="lrrl",
            rows=rows,
        ),
    ]
    return [Section("Cost", blocks)]


def _row(facts: Facts, result: StageResult, manifest: Manifest) -> list[str]:
    tokens = _tokens(manifest)
    return [
        result.label,
        formats.duration(manifest["wall_seconds"]),
        "-" if tokens is None else f"{tokens:,}",
        {None: "-", True: "reused", False: "this run"}[_reused(facts, manifest)],
    ]


def _tokens(manifest: Manifest) -> int | None:
    counts: dict[str, int] = manifest["counts"]
    if "num_loss_tokens" in counts:
        return round(counts["num_loss_tokens"] * counts.get("epochs", 1))
    return next((counts[name] for name in TOKENS if name in counts), None)


def _reused(facts: Facts, manifest: Manifest) -> bool | None:
    """Whether an artifact was there when the run was last started; None where that is unknown."""
    if facts.launched is None:
        return None
    # Manifests count whole seconds.
    return datetime.fromisoformat(manifest["finished"]).timestamp() < int(facts.launched)


def _sum(facts: Facts, manifests: list[Manifest], total: float) -> str:
    text = f"Together {formats.duration(total)}"
    if facts.launched is None or not total:
        return f"{text}."
    before = sum(manifest["wall_seconds"] for manifest in manifests if _reused(facts, manifest))
    if not before:
        return f"{text}, nothing reused from earlier runs."
    return f"{text}, {formats.percent(before / total)} of it reused from earlier runs."


def _starts(facts: Facts) -> str:
    """How often an engine was started for this run's artifacts, and the time that took; empty if
    manifests do not say."""
    seconds = [
        start
        for artifact in {artifact.folder: artifact for artifact in made_artifacts(facts)}.values()
        if artifact.done and (start := artifact.manifest().get("engine_start_seconds"))
    ]
    if not seconds:
        return ""
    times = "once" if len(seconds) == 1 else f"{len(seconds)} times"
    return f" An engine was started {times}, which took {formats.duration(sum(seconds))} of it."


def provenance(facts: Facts) -> list[Section]:
    """Command, artifacts and library versions."""
    blocks: list[Block] = []
    if facts.command is not None:
        caption = "The exact command that reproduces this run"
        blocks.append(Code(caption=caption, text=shlex.join(facts.command)))
    if facts.results:
        blocks.append(_artifact_table(facts.results))
    versions = [[library, ", ".join(own)] for library, own in libraries(facts.results).items()]
    if versions:
        caption = "Library versions, several where artifacts were made with different ones"
        blocks.append(
            Table(
                caption=caption,
                columns=["Library", "Version"],
                sides="ll",
                rows=versions,
                folded=True,
            )
        )
    return [Section("Provenance", blocks or [Paragraph("Nothing is recorded yet.")])]


def _artifact_table(results: list[StageResult]) -> Table:
    return Table(
        caption="Artifacts, each by the fingerprint of all it depends on",
        columns=["Artifact", "Fingerprint", "Finished"],
        sides="lll",
        rows=[
            [
                result.label,
                result.fingerprint,
                result.manifest["finished"] if result.manifest is not None else "unfinished",
            ]
            for result in results
        ],
        folded=True,
    )


def libraries(results: list[StageResult]) -> dict[str, list[str]]:
    """Every version of each library that the artifacts were made with."""
    versions: dict[str, set[str]] = {}
    for result in results:
        for library, version in (result.manifest or {}).get("libraries", {}).items():
            versions.setdefault(library, set()).add(version)
    return {library: sorted(own) for library, own in versions.items()}
