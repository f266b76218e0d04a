"""The report's scores: pass@k with intervals, the answers' form, and the figure of both models."""

from ssd.report import formats
from ssd.report.document import Block, Figure, Listing, Paragraph, Section, Table
from ssd.report.facts import Facts
from ssd.report.figures import scores_png
from ssd.report.scores import BenchmarkScores
from ssd.report.summary import shifts

ROLES = ("base", "tuned")
ISOLATION = {
    "namespaces": "inside Linux namespaces",
    "process": "without isolation (eval.sandbox=none)",
}


def scores(facts: Facts) -> list[Section]:
    """The score section, or none where there are no scores."""
    if facts.scores is None or not facts.scores.benchmarks:
        return []
    benchmarks = facts.scores.benchmarks
    blocks: list[Block] = [
        _score_table(benchmarks),
        _score_figure(benchmarks),
        _answer_table(benchmarks),
    ]
    notes = [note for benchmark in benchmarks for note in shifts(benchmark)]
    if notes:
        blocks.append(Listing(notes))
    blocks.append(_status_table(benchmarks))
    sandbox = facts.scores.sandbox
    blocks.append(
        Paragraph(
            f"Generated programs were graded {ISOLATION.get(sandbox, f'in the sandbox {sandbox}')}."
        )
    )
    return [Section("Scores", blocks)]


def _score_table(benchmarks: tuple[BenchmarkScores, ...]) -> Table:
    rows = []
    for benchmark in benchmarks:
        for k in benchmark.models["base"].pass_at:
            models = [benchmark.models.get(role) for role in ROLES]
            cells = [formats.score(model.pass_at[k]) if model else "-" for model in models]
            difference = (
                formats.change(benchmark.difference[k]) if k in benchmark.difference else "-"
            )
            problems = f"{benchmark.num_problems:,} ({benchmark.split})"
            rows.append([f"{benchmark.name} pass@{k}", *cells, difference, problems])
    return Table(
        caption="pass@k with 95% intervals; the difference is tuned minus base "
        "in percentage points, paired by problem",
        columns=["Benchmark", "Base", "Tuned", "Difference", "Problems (split)"],
        align="lrrrr",
        rows=rows,
    )


def _answer_table(benchmarks: tuple[BenchmarkScores, ...]) -> Table:
    rows = [
        [
            f"{benchmark.name}, {role}",
            f"{model.mean_tokens:.1f}",
            formats.percent(model.fence_share),
            formats.percent(model.cut_share),
            f"{model.temp:g}",
            formats.truncation(model.top_k, model.top_p),
        ]
        for benchmark in benchmarks
        for role, model in benchmark.models.items()
    ]
    return Table(
        caption="The form of the answers (length in tokens, shares with a code fence and cut off "
        "by the length cap), and how they were decoded",
        columns=["Model", "Mean length", "With fence", "Cut off", "T", "Truncation"],
        align="lrrrrl",
        rows=rows,
    )


def _status_table(benchmarks: tuple[BenchmarkScores, ...]) -> Table:
    models = [
        (f"{item.name}, {role}", model)
        for item in benchmarks
        for role, model in item.models.items()
    ]
    found = dict.fromkeys(status for _, model in models for status in model.statuses)
    statuses = sorted(found, key=lambda status: status != "passed")
    return Table(
        caption="How the graded programs ended",
        columns=["Model", *statuses],
        align="l" + "r" * len(statuses),
        rows=[
            [name, *(str(model.statuses.get(status, 0)) for status in statuses)]
            for name, model in models
        ],
    )


def _score_figure(benchmarks: tuple[BenchmarkScores, ...]) -> Figure:
    values = []
    for benchmark in benchmarks:
        for role, model in benchmark.models.items():
            values += [
                f"{benchmark.name} pass@{k} {role} {formats.score(item)}"
                for k, item in model.pass_at.items()
            ]
        for k, item in benchmark.difference.items():
            values.append(f"{benchmark.name} pass@{k} difference {formats.change(item)} points")
    return Figure(
        name="scores",
        caption="pass@k of base and tuned model, and their paired difference; "
        "bars are 95% intervals.",
        alt=f"Dot plot with interval bars. {'; '.join(values)}.",
        png=scores_png(benchmarks),
    )
