"""What the parts of a training target do (drawn tokens, the temperature, the truncation), from runs
of a study that differ in their objective alone. Imports no matplotlib.
"""

from collections.abc import Sequence
from typing import Any

from ssd.arms import TUNED
from ssd.config.choices import ObjectiveType
from ssd.errors import SSDError, one_line
from ssd.evaluate.paired import paired_runs
from ssd.method.decoding import Decoding
from ssd.report.render import formats
from ssd.report.render.document import Block, Paragraph, Section, Table
from ssd.report.run.facts import Facts
from ssd.report.study.collection import Study
from ssd.report.study.rows import method_settings

HARD, SOFT, TEMPERATURE, TRUNCATION = "hard", "soft", "temperature", "truncation"
STEPS = (
    (HARD, SOFT, "drawn tokens, in the place of the distribution they are drawn from"),
    (SOFT, TRUNCATION, "the temperature, added to the truncation"),
    (SOFT, TEMPERATURE, "the truncation, added to the temperature"),
)
"""Pairs of targets that differ in one part, the one with the part first."""


def role(facts: Facts) -> str | None:
    """Which parts of the method a run's target has; None for any other target."""
    objective, drawn, aim = facts.run.config.objective, facts.sampled, facts.fitted
    if facts.power is not None:  # whole answers are chosen: no distribution of tokens is behind it
        return None
    if objective.type is ObjectiveType.cross_entropy:
        return HARD
    if aim is None or objective.soft_weight != 1 or not objective.special_tokens:
        return None
    if aim == drawn:
        return SOFT
    halves = {
        Decoding(drawn.temp): TEMPERATURE,
        Decoding(1.0, drawn.top_k, drawn.top_p): TRUNCATION,
    }
    return halves.get(aim)


def target_parts(study: Study) -> list[Section]:
    """A row for each part that two runs of the study differ in, per benchmark; none without such
    runs."""
    rows: list[list[str]] = []
    missing: list[str] = []
    for runs in _alike(study.runs):
        for having, lacking, part in STEPS:
            if having in runs and lacking in runs:
                try:
                    rows += _rows(part, runs[having], runs[lacking])
                except SSDError as error:
                    missing.append(f"Not compared, {part}: {one_line(error)}.")
    if not rows and not missing:
        return []
    text = (
        "Runs that share contexts and steps and differ in their objective alone, each with the "
        "decoding it chose. Where an interval contains 0, the part did nothing that shows here."
    )
    table = Table(
        caption="What each part of the target does, tuned model minus tuned model, paired by "
        "problem, in points with 95% intervals; p-values are not adjusted for their number",
        columns=["Part", "Benchmark", "With it", "Without it", "Change"],
        sides="llrrr",
        rows=rows,
    )
    blocks: list[Block] = [Paragraph(text), *([table] if rows else [])]
    return [Section("Parts of the target", [*blocks, *map(Paragraph, missing)])]


def _alike(runs: Sequence[Facts]) -> list[dict[str, Facts]]:
    """Runs by role, in groups that nothing but the objective tells apart."""
    groups: dict[tuple[Any, ...], dict[str, Facts]] = {}
    for facts in runs:
        name = role(facts)
        if name is not None:
            shared = {
                key: str(value)
                for key, value in method_settings(facts).items()
                if key == "objective.norm" or not key.startswith("objective.")
            }
            groups.setdefault(tuple(sorted(shared.items())), {}).setdefault(name, facts)
    return list(groups.values())


def _rows(part: str, having: Facts, lacking: Facts) -> list[list[str]]:
    compared = paired_runs({"with": having.run.folder, "without": lacking.run.folder}, TUNED)
    return [
        [
            part,
            f"{scored.title} pass@{scored.k}",
            formats.score(scored.score("with")),
            formats.score(scored.score("without")),
            formats.tested(scored.comparisons["without"].pass_at[scored.k]),
        ]
        for scored in compared
    ]
