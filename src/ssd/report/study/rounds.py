"""A study's section on rounds: the scores of every run that repeats the method, round by round."""

from ssd.report.render.document import Block, Listing, Section
from ssd.report.run.rounds import progress, rounds_figure, rounds_table
from ssd.report.run.watch import round_rows
from ssd.report.study.collection import Study
from ssd.report.study.rows import labels


def rounds(study: Study) -> list[Section]:
    """A curve for each model of each run that has rounds, the control's beside the tuned model's,
    and their numbers; nothing where no run has."""
    several = len(study.runs) > 1
    repeated = {
        label if several else "": facts
        for facts, label in zip(study.runs, labels(study.runs), strict=True)
        if facts.rounds
    }
    if not repeated:
        return []
    rows = {
        label: round_rows(facts.rounds, facts.run.config.analyse)
        for label, facts in repeated.items()
    }
    told = [f"{label}{label and ': '}{progress(facts)}" for label, facts in repeated.items()]
    blocks: list[Block] = [Listing(told), rounds_figure(list(rows.items()))]
    blocks += [rounds_table(label, rows[label], facts) for label, facts in repeated.items()]
    return [Section("Rounds", blocks)]
