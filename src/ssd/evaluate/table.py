"""The score table as plain text; narrow enough for a terminal."""

import textwrap
from collections.abc import Sequence

from ssd.arms import (
    ARMS,
    BASE,
    CHOSEN_ON_TEST,
    ISOLATION,
    RESAMPLED,
    SAME,
    TUNED,
    counted,
    form_words,
    lost_shares,
    rules,
)
from ssd.method.decoding import Setting
from ssd.method.intervals import Interval
from ssd.records.benchmark_scores import BenchmarkScores
from ssd.records.scores import Scores
from ssd.records.selection import Selection

WIDTH = 100


def score_table(scores: Scores) -> str:
    """Per benchmark a row per arm: its decoding, pass@k with interval, the tuned model's paired
    difference to it, answer length, fence and cut shares, distinct programs; then difficulty and
    errata groups, change on regression benchmarks, and how settings were chosen."""
    blocks = [arm_block(scores.main)] if scores.main else []
    blocks += [_group_block(scored) for scored in scores.main if scored.group_sizes]
    if scores.regression:
        blocks.append(arm_block(scores.regression, "out of domain"))
    notes = [
        *(f"{scored.name} pass@{scored.k}: {scored.gain}" for scored in scores.main if scored.gain),
        *(note for scored in scores.benchmarks for note in form_notes(scored)),
        *(note for scored in scores.benchmarks for note in reasoning_notes(scored)),
        *decoding_notes(scores.benchmarks),
        *selection_notes(scores.selection),
        f"percent with 95 % intervals {RESAMPLED[scores.resample]}; "
        "differences are paired by problem, in points",
        *control_notes(scores.benchmarks),
        form_key(scores.benchmarks),
        *([f"code ran {isolation(scores.sandbox)}"] if scores.sandbox else []),
    ]
    return "\n\n".join([*blocks, wrapped(notes)])


def control_notes(benchmarks: Sequence[BenchmarkScores]) -> list[str]:
    """What the controls among the arms are."""
    shown = {arm for scored in benchmarks for arm in scored.models}
    words = [f"{arm} is {ARMS[arm]}" for arm in ARMS if arm in shown - {BASE, TUNED}]
    return [f"controls: {'; '.join(words)}"] if words else []


def form_key(benchmarks: Sequence[BenchmarkScores]) -> str:
    """What the columns of form mean on these benchmarks."""
    words = form_words(scored.extraction for scored in benchmarks)
    return (
        f"tokens: mean answer length; {words.key}; cut: stopped by the length cap; "
        f"distinct: different {words.nouns} per problem"
    )


def wrapped(notes: Sequence[str]) -> str:
    """One paragraph per note, as wide as the table."""
    return "\n".join(textwrap.fill(note, WIDTH, subsequent_indent="  ") for note in notes)


def percent(score: Interval) -> str:
    """`50.6 [43.3, 57.9]`"""
    return f"{100 * score.value:.1f} [{100 * score.low:.1f}, {100 * score.high:.1f}]"


def signed(change: Interval | None) -> str:
    """`+4.2 [-1.8, +9.8] p=0.18`; empty where nothing was compared."""
    if change is None or change.p_value is None:
        return ""
    value, low, high = (f"{100 * share:+z.1f}" for share in (change.value, change.low, change.high))
    chance = "p<0.001" if change.p_value < 0.001 else f"p={change.p_value:.2g}"
    return f"{value} [{low}, {high}] {chance}"


def decoding(setting: Setting) -> str:
    """`T=0.9 k=20 p=0.8`, and the training step where it is not the last."""
    parts = [f"T={setting.temp:g}"]
    parts += [f"k={setting.top_k}"] if setting.top_k is not None else []
    parts += [f"p={setting.top_p:g}"] if setting.top_p != 1 else []
    step = setting.checkpoint_step
    return " ".join(parts + ([] if step is None else [f"step {step}"]))


def isolation(sandbox: str) -> str:
    """How generated code was isolated, by the backend that a result names."""
    return ", ".join(ISOLATION.get(name, name) for name in sandbox.split(", "))


def size(scored: BenchmarkScores) -> str:
    """`lcb_v6, 131 problems x 4 answers (release_v6, 2025-02-01..2025-05-31, official grading)`"""
    answers = counted(scored.num_samples, "answer")
    facts = [scored.release, scored.window, rules(scored.grading, scored.extraction)]
    rules_text = ", ".join(fact for fact in facts if fact)
    return f"{scored.name}, {scored.problems} x {answers} ({rules_text})"


def form_notes(scored: BenchmarkScores) -> list[str]:
    """How many answers of each arm fail for their form alone; empty if none does."""
    losses = [
        f"{arm} {lost_shares(model.lost_to_form)}"
        for arm, model in scored.models.items()
        if model.lost_share
    ]
    part = scored.words.part
    lost = f"{scored.name}: answers wrong for the form of their {part} alone: {'; '.join(losses)}"
    return [lost] if losses else []


def reasoning_notes(scored: BenchmarkScores) -> list[str]:
    """How the reasoning of each arm's answers went; empty if none reasons."""
    arms = [
        f"{arm} {facts.closed_share:.0%} closed, {facts.cut_share:.0%} cut off within it, "
        f"{facts.mean_tokens:.0f} tokens"
        for arm, model in scored.models.items()
        if (facts := model.reasoning) is not None
    ]
    return [f"{scored.name}: reasoning of the answers: {'; '.join(arms)}"] if arms else []


def decoding_notes(benchmarks: Sequence[BenchmarkScores]) -> list[str]:
    """That a difference between base and tuned model is one of decoding too, and what to add."""
    found = dict.fromkeys(scored.decodings for scored in benchmarks if scored.decodings)
    return [f"{words}; eval.controls=[{SAME}] tells the two apart" for words in found]


def selection_notes(selection: Selection | None) -> list[str]:
    """Which problems chose decoding and checkpoint; nothing where nothing was chosen."""
    if selection is None:
        return []
    problems = " and ".join(f"{len(ids)} of {name}" for name, ids in selection.problems.items())
    among = ", ".join(
        f"{model} among {len(candidates)}" for model, candidates in selection.sweeps.items()
    )
    if selection.mode == "test":
        return [
            f"{CHOSEN_ON_TEST}: {problems}; {among} settings; "
            "the scores of what was chosen are biased upwards"
        ]
    return [f"settings chosen on held-out problems, {problems}; {among} settings"]


def arm_block(
    benchmarks: Sequence[BenchmarkScores], corner: str = "", reference: str = TUNED
) -> str:
    """A table of all arms, with a line over each benchmark's rows; `reference` is what every arm is
    compared with."""
    orders = [list(model.pass_at) for scored in benchmarks for model in scored.models.values()]
    several = any(len(order) > 1 for order in orders)
    compared = any(scored.comparisons for scored in benchmarks)
    header = [corner, "decoding", "pass@k" if several else f"pass@{orders[0][0]}"]
    header += [f"{reference} minus it"] if compared else []
    form = form_words(scored.extraction for scored in benchmarks).share
    rows: list[list[str] | str] = [[*header, "tokens", form, "cut", "distinct"]]
    for scored in benchmarks:
        rows.append(size(scored))
        for arm, model in scored.models.items():
            first = [arm, decoding(model.setting)]
            last = [
                f"{model.mean_tokens:.0f}",
                f"{model.fence_share:.0%}",
                f"{model.cut_share:.0%}",
                f"{model.distinct_programs:.1f}",
            ]
            change = scored.comparisons.get(arm)
            for k, score in model.pass_at.items():
                row = [*first, f"{f'@{k}':>3} {percent(score)}" if several else percent(score)]
                row += [signed(change.pass_at[k] if change else None)] if compared else []
                rows.append(row + last)
                first, last = ["", ""], [""] * 4
    return aligned(rows)


def _group_block(scored: BenchmarkScores) -> str:
    k, compared = scored.k, bool(scored.comparisons)
    header = [scored.name, "problems", "", f"pass@{k}", *(["tuned minus it"] if compared else [])]
    rows: list[list[str] | str] = [header]
    for group, num_problems in scored.group_sizes.items():
        title = [group, str(num_problems)]
        for arm, model in scored.models.items():
            row = [*title, arm, percent(model.groups[group][k])]
            rows.append(row + ([signed(scored.change(arm, group))] if compared else []))
            title = ["", ""]
    return aligned(rows)


def aligned(rows: Sequence[list[str] | str]) -> str:
    """Cells in columns under a rule; a row that is one text stands over the following ones."""
    cells = [row for row in rows if isinstance(row, list)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = [
        row
        if isinstance(row, str)
        else "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]
    return "\n".join([lines[0], "-" * (sum(widths) + 2 * (len(widths) - 1)), *lines[1:]])
