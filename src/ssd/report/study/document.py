"""The report of a study by sections: what came out, the runs, temperatures, controls, cost.

A section is a function from a study to its sections, none where it has nothing to say. A new one is
named in `SECTIONS`, at its place in the report.
"""

import shlex
from collections import Counter
from collections.abc import Callable, Sequence

from ssd.arms import ARMS, BASE, TUNED, counted, gain_parts
from ssd.records.benchmark_scores import BenchmarkScores
from ssd.report.render import formats
from ssd.report.render.document import Block, Code, Document, Listing, Paragraph, Section, Table
from ssd.report.run.breakdown import arm_table
from ssd.report.run.facts import run_costs
from ssd.report.run.summary import FLATTERED, finding
from ssd.report.study.collection import Study, reported, run_names
from ssd.report.study.plane import temperatures
from ssd.report.study.rounds import rounds
from ssd.report.study.rows import (
    HELD_OUT,
    MAX_OTHER,
    RIVAL,
    benchmark_names,
    difference,
    labels,
    other_settings,
    scores_by_name,
    shared,
    sorting,
    sorting_score,
    varying,
    without_row,
)
from ssd.report.study.targets import target_parts
from ssd.run.cost import Cost

KINDS = {
    "corpus": "Sampling",
    "checkpoint": "Training",
    "generations": "Answers",
    "verdicts": "Grading",
    "analysis": "Analysis",
}
"""The cost table's column by kind of artifact."""


def document(study: Study) -> Document:
    """Everything about a study, what came out first."""
    makers = SECTIONS if study.runs else (summary,)
    return Document(
        title=f"Study {study.name}",
        subtitle="Simple self-distillation: several runs side by side.",
        sections=[section for make in makers for section in make(study)],
    )


def summary(study: Study) -> list[Section]:
    """How many runs there are, the best of them with its findings, and what is missing."""
    states = Counter(run.state for run in study.unfinished)
    missing = ", ".join(f"{count} {state}" for state, count in states.items())
    scored = f"{counted(len(study.runs), 'run')} with scores"
    blocks: list[Block] = [Paragraph(f"{scored}{missing and f'; {missing}'}.")]
    if study.runs:
        blocks += _best(study)
    if study.unfinished:
        blocks += [
            Paragraph(
                "Unfinished, failed, or not to be compared; the command that started a run, given "
                "again, repeats only what is missing:"
            ),
            Listing([f"{run.name}: {run.state}. {run.reason}" for run in study.unfinished]),
        ]
    return [Section("Summary", blocks)]


def table_of_runs(study: Study) -> list[Section]:
    """A row per run: the settings that differ, every score, the difference to the rivals, cost;
    then those that have no scores."""
    runs = study.runs
    columns, names = varying(runs), run_names([facts.run.folder for facts in runs]).values()
    benchmarks = benchmark_names(runs)
    titles = [title for title, _ in columns] + [HELD_OUT]
    titles += [
        f"{name} {what}" for name in benchmarks for what in ("base", "tuned", "minus base", RIVAL)
    ]
    rows = []
    for number, (facts, name) in enumerate(zip(runs, names, strict=True), 1):
        scored = scores_by_name(facts)
        cells = [cell for title in benchmarks for cell in _scores(scored, title)]
        seconds = formats.duration(sum(cost.seconds for cost in run_costs(facts)))
        settings = [of(facts) for _, of in columns]
        rows.append([str(number), *settings, sorting_score(facts), *cells, seconds, name])
    for run in without_row(study):
        rows.append([run.state, *["-"] * (len(titles) + 1), run.name])
    blocks: list[Block] = [
        Table(
            caption="Runs of this study: scores in percent, differences in percentage points, "
            "paired by problem, all with 95% intervals",
            columns=["No.", *titles, "Wall time", "Run"],
            sides="l" + "r" * (len(titles) + 1) + "l",
            rows=rows,
        ),
        *(Paragraph(text) for text in sorting(runs)),
    ]
    blocks += [
        Paragraph(f"Run {number}: {facts.approximation}.")
        for number, facts in enumerate(runs, 1)
        if facts.approximation is not None
    ]
    unseen = other_settings(runs)[MAX_OTHER:]
    if unseen:
        blocks.append(Paragraph(f"These settings differ as well: {', '.join(unseen)}."))
    return [Section("Runs", blocks)]


def controls(study: Study) -> list[Section]:
    """Every arm of every run that has one beyond base and tuned model, and what a gain consists
    of."""
    compared = [
        (f"{label}, {scored.name}" if len(scores_by_name(facts)) > 1 else label, scored)
        for facts, label in zip(study.runs, labels(study.runs), strict=True)
        for scored in scores_by_name(facts).values()
        if set(scored.comparisons) - {BASE}
    ]
    if not compared:
        text = (
            "No run has controls, so what a gain owes to decoding, and to any fine-tuning on own "
            "samples, is not known (experiment=controls has them)."
        )
        return [Section("Controls", [Paragraph(text)])]
    arms = [arm for arm in ARMS if any(arm in scored.models for _, scored in compared)]
    rows = [
        [name, *(formats.score(scored.score(arm)) for arm in arms)] for name, scored in compared
    ]
    blocks: list[Block] = [
        Table(caption="Scores of every arm, with 95% intervals", columns=["Run", *arms], rows=rows),
        *_parts(compared),
        arm_table(arms, folded=True),
    ]
    return [Section("Controls", blocks)]


def costs(study: Study) -> list[Section]:
    """A row per run, and the totals with and without counting shared artifacts once."""
    runs = [run_costs(facts) for facts in study.runs]
    kinds = [kind for kind in KINDS if any(cost.kind == kind for run in runs for cost in run)]
    every = [cost for run in runs for cost in run]
    names = labels(study.runs)
    rows = [[name, *_durations(run, kinds)] for name, run in zip(names, runs, strict=True)]
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
    table = Table(
        caption="Wall time by run, as if it had been made alone",
        columns=["Run", *(KINDS[kind] for kind in kinds), "Together"],
        rows=rows,
    )
    return [Section("Cost", [Paragraph(text), table])]


def how(study: Study) -> list[Section]:
    """What all runs share, and the command of each."""
    blocks: list[Block] = []
    same = shared(study.runs)
    if same:
        caption = "Settings that all runs share" if len(study.runs) > 1 else "Settings"
        blocks.append(Table(caption=caption, columns=["Setting", "Value"], sides="ll", rows=same))
    names = run_names([facts.run.folder for facts in study.runs])
    commands = [
        f"# {names[facts.run.folder]}\n{shlex.join(facts.command)}"
        for facts in study.runs
        if facts.command is not None
    ]
    if commands:
        text = "\n".join(commands)
        blocks.append(Code(caption="The exact command of each run", text=text, folded=True))
    return [Section("Settings and provenance", blocks)]


SECTIONS: tuple[Callable[[Study], list[Section]], ...] = (
    summary, table_of_runs, target_parts, rounds, temperatures, controls, costs, how,
)  # fmt: skip


def _best(study: Study) -> list[Block]:
    """The first row in words, and what it was chosen by."""
    facts = study.runs[0]
    label = labels(study.runs)[0] if len(study.runs) > 1 else facts.run.config.run_name
    chosen, shown = facts.held_out, reported(facts)
    if chosen is not None:
        setting = formats.decoding(chosen.setting)
        text = (
            f"The best by held-out score is run {label}; decoded at {setting} it passes "
            f"{formats.score(chosen.score)} of the {chosen.num_problems} problems that chose. "
            "On the reported problems:"
        )
    elif shown is not None:
        text = f"The best by reported score is run {label}; it passes {formats.score(shown)}."
    else:
        return [Paragraph("No run has a tuned model's score.")]
    findings = [finding(scored) for scored in scores_by_name(facts).values()]
    blocks: list[Block] = [Paragraph(text), *findings]
    selection = facts.scores.selection if facts.scores is not None else None
    if selection is not None and selection.mode == "test":
        blocks.append(Paragraph(FLATTERED))
    if chosen is None:
        blocks += [Paragraph(text) for text in sorting(study.runs)]
    return blocks


def _parts(compared: Sequence[tuple[str, BenchmarkScores]]) -> list[Block]:
    """The parts of each gain over the base model, for runs with controls."""
    parted = [(name, gain_parts(scored.values)) for name, scored in compared]
    causes = list(dict.fromkeys(part.cause for _, parts in parted for part in parts))
    rows = []
    for name, parts in parted:
        gains = {part.cause: part.gain for part in parts}
        if gains:
            cells = [formats.signed(gains[cause]) if cause in gains else "-" for cause in causes]
            rows.append([name, formats.signed(sum(gains.values())), *cells])
    if not rows:
        return []
    return [
        Table(
            caption="What each gain over the base model consists of, in percentage points",
            columns=["Run", "Gain", *(f"by {cause}" for cause in causes)],
            rows=rows,
        )
    ]


def _scores(scored: dict[str, BenchmarkScores], name: str) -> list[str]:
    """Base, tuned, their difference, and that to the strongest rival."""
    benchmark = scored.get(name)
    if benchmark is None:
        return ["-"] * 4
    return [
        *(formats.score(benchmark.score(arm)) for arm in (BASE, TUNED)),
        formats.change(benchmark.change(BASE)),
        difference(benchmark) if benchmark.comparisons else "-",
    ]


def _durations(run: Sequence[Cost], kinds: Sequence[str]) -> list[str]:
    seconds = [sum(cost.seconds for cost in run if cost.kind == kind) for kind in kinds]
    return [formats.duration(seconds) if seconds else "-" for seconds in (*seconds, sum(seconds))]
