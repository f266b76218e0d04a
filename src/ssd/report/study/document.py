"""The report of a study by sections: what came out, the runs, temperatures, controls, cost.

A section is a function from a study to its sections, none where it has nothing to say. A new one is
named in `SECTIONS`, at its place in the report.
"""

import shlex
from collections import Counter
from collections.abc import Callable, Sequence

from ssd.arms import ARMS, BASE, TUNED, Part, counted, gain_parts
from ssd.records.benchmark_scores import BenchmarkScores
from ssd.report.render import formats
from ssd.report.render.document import Block, Code, Document, Listing, Paragraph, Section, Table
from ssd.report.run.breakdown import arm_table
from ssd.report.run.facts import Facts, run_costs
from ssd.report.run.glossary import words
from ssd.report.run.summary import FLATTERED, finding, headline
from ssd.report.study.collection import Study, reported, run_names
from ssd.report.study.plane import temperatures
from ssd.report.study.rounds import rounds
from ssd.report.study.rows import (
    HELD_OUT,
    MAX_OTHER,
    RIVAL,
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
SCORES = ("Benchmark", "Base", "Tuned", "Minus base", f"{RIVAL[0].upper()}{RIVAL[1:]}")
"""Columns of the table of runs."""


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
    """A row per run and benchmark: the settings that differ, every score, the difference to the
    rivals; then those that have no scores, and the folder of each run."""
    runs = study.runs
    columns, names = varying(runs), run_names([facts.run.folder for facts in runs]).values()
    titles = [*(title for title, _ in columns), HELD_OUT, *SCORES]
    rows = []
    for number, facts in enumerate(runs, 1):
        settings = [of(facts) for _, of in columns]
        rows += [
            [str(number), *settings, sorting_score(facts), *_scores(scored)]
            for scored in scores_by_name(facts).values()
        ]
    absent = without_row(study)
    rows += [[f"{run.state}: {run.name}", *["-"] * len(titles)] for run in absent]
    numbered = [[str(number), name] for number, name in enumerate(names, 1)]
    sides = "l" * (1 + len(columns)) + "rlrrrr"
    blocks: list[Block] = [
        Table(
            caption="Runs of this study: scores in percent, differences in percentage points, "
            "paired by problem, all with 95% intervals",
            columns=["No.", *titles],
            sides=sides,
            rows=rows,
        ),
        *(Paragraph(text) for text in sorting(runs)),
        Table(
            caption="The folder of each run",
            columns=["No.", "Run"],
            sides="ll",
            rows=numbered,
            folded=True,
        ),
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


def glossary(study: Study) -> list[Section]:
    """What the words mean."""
    return [words()]


SECTIONS: tuple[Callable[[Study], list[Section]], ...] = (
    summary, table_of_runs, target_parts, rounds, temperatures, controls, costs, how, glossary,
)  # fmt: skip


def _best(study: Study) -> list[Block]:
    """The first row in words, and what it was chosen by."""
    facts = study.runs[0]
    every = labels(study.runs) if len(study.runs) > 1 else [facts.run.config.run_name]
    chosen, shown = facts.held_out, reported(facts)
    if chosen is None and shown is None:
        return [Paragraph("No run has a tuned model's score.")]
    tied = [label for run, label in zip(study.runs, every, strict=True) if _ties(run, facts)]
    if chosen is not None:
        kind, passed = "held-out", (
            f"{formats.score(chosen.score)} of the {chosen.num_problems} problems that chose"
        )  # fmt: skip
    else:
        kind, passed = "reported", formats.score(shown)
    if len(tied) > 1:
        text = (
            f"No run stands out: {len(tied)} runs share the highest {kind} score, {passed} "
            f"(runs {'; '.join(tied)}). On the reported problems:"
        )
        verdicts = [
            f"{label}: {headline([finding(scored) for scored in scores_by_name(run).values()])}"
            for run, label in zip(study.runs, every, strict=True)
            if _ties(run, facts)
        ]
        return [Paragraph(text), Listing(verdicts)]
    at = "" if chosen is None else f"decoded at {formats.decoding(chosen.setting)} "
    text = f"The best by {kind} score is run {every[0]}; {at}it passes {passed}."
    if chosen is not None:
        text += " On the reported problems:"
    findings = [finding(scored) for scored in scores_by_name(facts).values()]
    blocks: list[Block] = [Paragraph(text), *findings]
    selection = facts.scores.selection if facts.scores is not None else None
    if selection is not None and selection.mode == "test":
        blocks.append(Paragraph(FLATTERED))
    if chosen is None:
        blocks += [Paragraph(text) for text in sorting(study.runs)]
    return blocks


def _ties(one: Facts, other: Facts) -> bool:
    """Whether two runs have the same score of the kind that rows are sorted by."""
    if (one.held_out is None) is not (other.held_out is None):
        return False
    scores = [
        reported(facts) if facts.held_out is None else facts.held_out.score
        for facts in (one, other)
    ]
    return None not in scores and len({score.value for score in scores if score is not None}) == 1


def _parts(compared: Sequence[tuple[str, BenchmarkScores]]) -> list[Block]:
    """The parts of each gain over the base model, for runs with controls, one a row."""
    rows = []
    for name, scored in compared:
        parts = gain_parts(scored.values)
        if parts:
            rows.append([name, "the whole gain", "tuned minus base", _tested(scored, None)])
        rows += [
            [name, f"by {part.cause}", f"{part.upper} minus {part.lower}", _tested(scored, part)]
            for part in parts
        ]
    if not rows:
        return []
    return [
        Table(
            caption="What each gain over the base model consists of, in percentage points with 95% "
            "intervals; where one contains 0, the part is not shown to be there",
            columns=["Run", "Part", "Which is", "Points"],
            sides="lllr",
            rows=rows,
        )
    ]


def _tested(scored: BenchmarkScores, part: Part | None) -> str:
    """A part of the gain, or the whole of it; scores of earlier versions hold the interval of the
    last part only."""
    interval = scored.change(BASE) if part is None else scored.part_intervals.get(part.upper)
    if interval is None and part is not None:
        answers = {scored.models[arm].generations for arm in (part.lower, part.upper)}
        why = "the same answers" if len(answers) == 1 else "no interval"
        return f"{formats.signed(part.gain)} ({why})"
    return formats.tested(interval)


def _scores(scored: BenchmarkScores) -> list[str]:
    """The cells of `SCORES`."""
    return [
        scored.name,
        *(formats.score(scored.score(arm)) for arm in (BASE, TUNED)),
        formats.change(scored.change(BASE)),
        difference(scored) if scored.comparisons else "-",
    ]


def _durations(run: Sequence[Cost], kinds: Sequence[str]) -> list[str]:
    seconds = [sum(cost.seconds for cost in run if cost.kind == kind) for kind in kinds]
    return [formats.duration(seconds) if seconds else "-" for seconds in (*seconds, sum(seconds))]
