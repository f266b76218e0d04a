"""A study's section on rounds: the scores of every run that repeats the method, round by round."""

from ssd.report.render.document import Block, Listing, Paragraph, Section
from ssd.report.run.rounds import columns, progress, rounds_figure, rounds_table
from ssd.report.run.watch import round_rows
from ssd.report.study.collection import Study
from ssd.report.study.rows import labels


def rounds(study: Study) -> list[Section]:
    """A curve for each model of each run that has rounds, the control's beside the tuned model's,
    and their numbers; nothing where no run has."""
    repeated = {
        f"run {number}": (label, facts)
        for number, (facts, label) in enumerate(
            zip(study.runs, labels(study.runs), strict=True), start=1
        )
        if facts.rounds
    }
    if not repeated:
        return []
    rows = {
        run: round_rows(facts.rounds, facts.run.config.analyse)
        for run, (_, facts) in repeated.items()
    }
    told = [f"Run {label}: {progress(facts)}" for label, facts in repeated.values()]
    blocks: list[Block] = [Listing(told), rounds_figure(rows)]
    blocks.append(Paragraph(columns([row for of_run in rows.values() for row in of_run])))
    blocks += [rounds_table(run, rows[run], facts) for run, (_, facts) in repeated.items()]
    return [Section("Rounds", blocks)]
