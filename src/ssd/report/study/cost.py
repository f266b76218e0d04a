"""The cost of a study: wall time per stage, of each run and of all, shared artifacts counted
once."""

from collections import Counter
from collections.abc import Sequence

from ssd.report.render import formats
from ssd.report.render.document import Block, Paragraph, Section, Table
from ssd.report.run.facts import run_costs
from ssd.report.study.collection import Study
from ssd.report.study.rows import labels
from ssd.run.cost import Cost

KINDS = {
    "corpus": "Sampling",
    "checkpoint": "Training",
    "generations": "Answers",
    "verdicts": "Grading",
    "analysis": "Analysis",
}
"""Column by kind of artifact."""


def costs(study: Study) -> list[Section]:
    """A row per run, and the totals with and without counting shared artifacts once."""
    runs = [run_costs(facts) for facts in study.runs]
    kinds = [kind for kind in KINDS if any(cost.kind == kind for run in runs for cost in run)]
    names = labels(study.runs)
    every = [cost for run in runs for cost in run]
    rows = [
        [name, *_durations(run, kinds)] for name, run in zip(names, runs, strict=True)
    ]  # fmt: skip
    rows.append(["All rows added up", *_durations(every, kinds)])
    rows.append(["Spent, shared artifacts once", *_durations(list(dict.fromkeys(every)), kinds)])
    uses = Counter(every)
    saved = sum((count - 1) * cost.seconds for cost, count in uses.items())
    num_shared = sum(count > 1 for count in uses.values())
    text = (
        "Wall time of the processes that made each artifact, the controls' included. "
        f"{num_shared} of {len(uses)} artifacts are used by several runs, which saved "
        f"{formats.duration(saved)}."
    )
    blocks: list[Block] = [
        Paragraph(text),
        Table(
            caption="Wall time by run, as if it had been made alone",
            columns=["Run", *(KINDS[kind] for kind in kinds), "Together"],
            rows=rows,
        ),
    ]
    return [Section("Cost", blocks)]


def _durations(run: Sequence[Cost], kinds: Sequence[str]) -> list[str]:
    seconds = [sum(cost.seconds for cost in run if cost.kind == kind) for kind in kinds]
    return [formats.duration(seconds) if seconds else "-" for seconds in (*seconds, sum(seconds))]
