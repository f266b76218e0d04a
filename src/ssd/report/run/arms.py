"""The report's scores: pass@k with intervals, the answers' form, and the figure of all arms."""

from ssd.arms import ISOLATION, RESAMPLED, form_words
from ssd.records.benchmark_scores import BenchmarkScores
from ssd.records.scores import Scores
from ssd.report.render import formats
from ssd.report.render.document import Block, Figure, Listing, Paragraph, Section, Table
from ssd.report.run.facts import Facts
from ssd.report.run.figures import draw_form, draw_pass_curves, draw_scores
from ssd.report.run.summary import shifts

ROLES = ("base", "tuned")


def scores(facts: Facts) -> list[Section]:
    """The score section, or none where there are no scores."""
    if facts.scores is None or not facts.scores.benchmarks:
        return []
    benchmarks = facts.scores.benchmarks
    main = facts.scores.main or benchmarks
    blocks: list[Block] = [
        _score_table(main, facts.scores),
        _score_figure(main),
        *_curve_figure(main),
        _answer_table(benchmarks),
        *_reasoning_table(benchmarks),
        _form_figure(benchmarks),
    ]
    notes = [note for benchmark in benchmarks for note in shifts(benchmark)]
    if notes:
        blocks.append(Listing(notes))
    blocks += [_status_table(benchmarks), _benchmark_table(benchmarks)]
    if facts.scores.sandbox:
        backends = facts.scores.sandbox.split(", ")
        ran = ", ".join(ISOLATION.get(name, f"in the sandbox {name}") for name in backends)
        blocks.append(Paragraph(f"Generated programs ran {ran}."))
    return [Section("Scores", blocks)]


def problems(benchmark: BenchmarkScores) -> str:
    """`123 of 164 (test)`: problems that are reported, and what part they are."""
    counted = f"{benchmark.num_problems:,}"
    if benchmark.num_total != benchmark.num_problems:
        counted += f" of {benchmark.num_total:,}"
    return f"{counted} ({benchmark.split})"


def _score_table(benchmarks: tuple[BenchmarkScores, ...], stored: Scores) -> Table:
    rows = []
    for benchmark in benchmarks:
        for k in benchmark.models["base"].pass_at:
            models = [benchmark.models.get(role) for role in ROLES]
            cells = [formats.score(model.pass_at[k] if model else None) for model in models]
            cells.append(formats.change(benchmark.difference.get(k)))
            rows.append([f"{benchmark.title} pass@{k}", *cells, problems(benchmark)])
    return Table(
        caption=f"pass@k with 95% intervals {RESAMPLED[stored.resample]}; the difference is tuned "
        "minus base in percentage points, paired by problem",
        columns=["Benchmark", "Base", "Tuned", "Difference", "Problems (split)"],
        rows=rows,
    )


def _answer_table(benchmarks: tuple[BenchmarkScores, ...]) -> Table:
    rows = [
        [
            f"{benchmark.title}, {arm}",
            f"{model.mean_tokens:.1f}",
            formats.percent(model.fence_share),
            formats.percent(model.cut_share),
            "-" if model.lost_share is None else formats.percent(model.lost_share),
            f"{model.distinct_programs:.2f}",
            formats.decoding(model.setting),
        ]
        for benchmark in benchmarks
        for arm, model in benchmark.models.items()
    ]
    words = form_words(benchmark.extraction for benchmark in benchmarks)
    return Table(
        caption=f"The form of the answers (length in tokens, shares with {words.form}, cut off by "
        f"the length cap, and wrong for their form alone, different {words.nouns} per problem), "
        "and how they were decoded",
        columns=[
            "Model",
            "Mean length",
            f"With {words.short}",
            "Cut off",
            "Lost to form",
            words.nouns.capitalize(),
            "Decoding",
        ],
        sides="lrrrrrl",
        rows=rows,
    )


def _reasoning_table(benchmarks: tuple[BenchmarkScores, ...]) -> list[Table]:
    rows = [
        [
            f"{benchmark.title}, {arm}",
            formats.percent(facts.closed_share),
            formats.percent(facts.cut_share),
            f"{facts.mean_tokens:.1f}",
        ]
        for benchmark in benchmarks
        for arm, model in benchmark.models.items()
        if (facts := model.reasoning) is not None
    ]
    caption = (
        "The reasoning of the answers: shares that closed it and that the length cap cut off "
        "within it, and its mean length in tokens; an answer whose reasoning never closes has no "
        f"{form_words(benchmark.extraction for benchmark in benchmarks).part}"
    )
    columns = ["Model", "Closed", "Cut off within", "Mean length"]
    return [Table(caption=caption, columns=columns, sides="lrrr", rows=rows)] if rows else []


def _benchmark_table(benchmarks: tuple[BenchmarkScores, ...]) -> Table:
    rows = [
        [
            benchmark.name,
            benchmark.release or "-",
            benchmark.window or "-",
            problems(benchmark),
            str(benchmark.num_samples),
            f"{benchmark.grading}; {benchmark.extraction.replace('_', ' ')}",
        ]
        for benchmark in benchmarks
    ]
    part = form_words(benchmark.extraction for benchmark in benchmarks).part
    return Table(
        caption="What was scored: without release, window and count a score means little",
        columns=["Benchmark", "Release", "Window", "Problems", "Answers each", f"Grading; {part}"],
        sides="lllrrl",
        rows=rows,
    )


def _status_table(benchmarks: tuple[BenchmarkScores, ...]) -> Table:
    models = [
        (f"{item.title}, {role}", model)
        for item in benchmarks
        for role, model in item.models.items()
    ]
    ended = dict.fromkeys(status for _, model in models for status in model.statuses)
    words = form_words(benchmark.extraction for benchmark in benchmarks)
    statuses = sorted(ended, key=lambda status: status != "passed")
    return Table(
        caption=f"How the graded {words.nouns} ended",
        columns=["Model", *statuses],
        rows=[
            [name, *(str(model.statuses.get(status, 0)) for status in statuses)]
            for name, model in models
        ],
        folded=True,
    )


def _score_figure(benchmarks: tuple[BenchmarkScores, ...]) -> Figure:
    values = []
    for benchmark in benchmarks:
        for arm, model in benchmark.models.items():
            values += [
                f"{benchmark.title} pass@{k} {arm} {formats.score(item)}"
                for k, item in model.pass_at.items()
            ]
        for arm, comparison in benchmark.comparisons.items():
            values += [
                f"{benchmark.title} pass@{k} tuned minus {arm} {formats.change(item)} points"
                for k, item in comparison.pass_at.items()
            ]
    return Figure(
        name="scores",
        caption="pass@k of every model, and the tuned model's paired difference to each; "
        "bars are 95% intervals.",
        alt=f"Dot plot with interval bars. {'; '.join(values)}.",
        drawing=draw_scores(benchmarks),
    )


def _curve_figure(benchmarks: tuple[BenchmarkScores, ...]) -> list[Figure]:
    """The curves of benchmarks with several answers per problem."""
    curved = [
        benchmark
        for benchmark in benchmarks
        if benchmark.num_samples > 1 and all(model.curve for model in benchmark.models.values())
    ]
    if not curved:
        return []
    values = [
        f"{benchmark.title} {arm} "
        + ", ".join(
            f"{formats.percent(model.curve[k - 1])} at k {k}" for k in (1, len(model.curve))
        )
        for benchmark in curved
        for arm, model in benchmark.models.items()
    ]
    return [
        Figure(
            name="pass_curves",
            caption="pass@k over k by the unbiased estimator, up to the answers per problem. "
            "Intervals stand in the table above; towards the right end fewer draws lie behind "
            "a point.",
            alt=f"Line plot. {'; '.join(values)}.",
            drawing=draw_pass_curves(curved),
        )
    ]


def _form_figure(benchmarks: tuple[BenchmarkScores, ...]) -> Figure:
    values = [
        f"{benchmark.title} {arm} {model.mean_tokens:.1f} tokens, "
        f"{formats.percent(model.fence_share)} with a {benchmark.words.short}, "
        f"{formats.percent(model.cut_share)} cut off"
        for benchmark in benchmarks
        for arm, model in benchmark.models.items()
    ]
    return Figure(
        name="form",
        caption="Form of the answers by model: mean length in tokens, shares with "
        f"{form_words(benchmark.extraction for benchmark in benchmarks).form} and "
        "cut off by the length cap.",
        alt=f"Dot plots. {'; '.join(values)}.",
        drawing=draw_form(benchmarks),
    )
