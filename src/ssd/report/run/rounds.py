"""The report's section on rounds: how scores and answers go on from round to round."""

from collections.abc import Mapping, Sequence

from ssd.arms import BASE
from ssd.config.choices import TrainFrom
from ssd.report.render import formats
from ssd.report.render.document import Block, Figure, Paragraph, Section, Table
from ssd.report.run.facts import Facts
from ssd.report.run.figures import Course, draw_courses
from ssd.report.run.watch import RoundRow, answer_words, cells, key, last_fall, round_rows

REPEATED = (
    "Repeated fine-tuning on a model's own outputs mostly decays (arXiv 2605.01130), so what shows "
    "that answers become alike, fewer distinct programs or less entropy at forks, stands beside "
    "the scores."
)


def rounds(facts: Facts) -> list[Section]:
    """Scores over rounds, what is watched for collapse, and what the rule says; nothing where there
    is one round."""
    if not facts.rounds:
        return []
    settings = facts.run.config
    rows = round_rows(facts.rounds, settings.analyse)
    blocks: list[Block] = [
        Paragraph(f"{progress(facts)} {REPEATED}"),
        rounds_figure({"": rows}),
        rounds_table("", rows, facts),
        Paragraph(columns(rows)),
    ]
    return [Section("Rounds", blocks)]


def progress(facts: Facts) -> str:
    """How many rounds there are, what they train from and on, and why the last one was the last."""
    settings, number = facts.run.config.rounds, len(facts.rounds)
    samples = "the samples of all rounds so far" if settings.accumulate else "its own samples"
    start = (
        "the base model" if settings.train_from is TrainFrom.base else "the model that drew them"
    )
    text = (
        f"{number} of {settings.count} rounds: each after the first samples from the model that "
        f"the one before has trained, and trains {start} on {samples}."
    )
    last = last_fall(facts.rounds)
    if settings.max_drop is None:
        return f"{text} No rule stops them (rounds.max_drop)."
    if last is None:
        return text
    sentence = last.sentence(settings.max_drop)
    stops = ", so it was the last" if last.exceeds(settings.max_drop) else ""
    return f"{text} {sentence[0].upper()}{sentence[1:]}{stops}."


def rounds_figure(runs: Mapping[str, Sequence[RoundRow]]) -> Figure:
    """pass@k over rounds of each model of some runs, which all begin with their base model.

    Args:
        runs: rows by name; the name of a single one is empty.
    """
    benchmarks = dict.fromkeys(
        name for rows in runs.values() for row in rows for name in row.scores
    )
    panels: dict[str, list[Course]] = {name: [] for name in benchmarks}
    told = []
    for number, (label, rows) in enumerate(runs.items()):
        for model in dict.fromkeys(row.model for row in rows if row.model != BASE):
            name = f"{label}, {model}" if label else model
            for benchmark, courses in panels.items():
                scores = {
                    row.round: row.scores[benchmark]
                    for row in rows
                    if row.model in (BASE, model) and benchmark in row.scores
                }
                courses.append(Course(label=name, model=model, run=number, scores=scores))
                values = ", ".join(formats.percent(score.value) for score in scores.values())
                told.append(f"{benchmark}, {name}: {values}")
    return Figure(
        name="rounds",
        caption="Scores over rounds, with 95% intervals; round 0 is the base model.",
        alt=f"pass@k by round, from round 0. {'; '.join(told)}.",
        drawing=draw_courses(panels),
    )


def columns(rows: Sequence[RoundRow]) -> str:
    """What the table's columns mean."""
    text = key(rows)
    return f"{text[0].upper()}{text[1:]}."


def rounds_table(label: str, rows: Sequence[RoundRow], facts: Facts) -> Table:
    """The models of all rounds of one run, whose name stands in the caption."""
    titles, texts = cells(rows, answer_words(facts.rounds))
    sides = "".join("l" if title in ("round", "model") else "r" for title in titles)
    caption = f"The models of every round{label and ' of '}{label}"
    return Table(caption=caption, columns=titles, sides=sides, rows=texts)
