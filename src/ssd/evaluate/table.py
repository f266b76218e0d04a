"""The score table as plain text, from the contents of scores.json; narrow enough for a terminal."""

import textwrap
from collections.abc import Sequence
from typing import Any

from ssd.arms import (
    BASE,
    CHOSEN_ON_TEST,
    ISOLATION,
    RESAMPLED,
    TUNED,
    gain_sentence,
    lost_shares,
    rules,
)

WIDTH = 100
Benchmark = dict[str, Any]


def score_table(scores: dict[str, Any]) -> str:
    """Per benchmark a row per arm: its decoding, pass@k with interval, the tuned model's paired
    difference to it, answer length, fence and cut shares, distinct programs; then difficulty and
    errata groups, change on regression benchmarks, and how settings were chosen."""
    stored = scores["benchmarks"]
    main = {name: one for name, one in stored.items() if not one["regression"]}
    regression = {name: one for name, one in stored.items() if one["regression"]}
    blocks = [arm_block(main)] if main else []
    for name, one in main.items():
        if groups(one):
            blocks.append(_group_block(name, one))
    if regression:
        blocks.append(arm_block(regression, "out of domain"))
    sentences = [gain_of(name, one) for name, one in main.items()]
    notes = [
        *(sentence for sentence in sentences if sentence),
        *(note for name, one in stored.items() for note in form_notes(name, one)),
        *selection_notes(scores["selection"]),
        f"percent with 95 % intervals {RESAMPLED[scores['resample']]}; "
        "differences are paired by problem, in points",
        "tokens: mean answer length; fenced: answers with a code block; "
        "cut: stopped by the length cap; distinct: different programs per problem",
        f"code ran {isolation(scores['sandbox'])}",
    ]
    wrapped = [textwrap.fill(note, WIDTH, subsequent_indent="  ") for note in notes]
    return "\n\n".join([*blocks, "\n".join(wrapped)])


def pass_names(model: dict[str, Any]) -> list[str]:
    """`pass@1`, `pass@10` and so on, as far as a model's scores have them."""
    return [name for name in model if name.startswith("pass@")]


def percent(score: dict[str, float]) -> str:
    """`50.6 [43.3, 57.9]`"""
    return f"{100 * score['value']:.1f} [{100 * score['low']:.1f}, {100 * score['high']:.1f}]"


def signed(score: dict[str, float]) -> str:
    """`+4.2 [-1.8, +9.8] p=0.18`"""
    value, low, high = (f"{100 * score[name]:+z.1f}" for name in ("value", "low", "high"))
    p_value = score["p_value"]
    return f"{value} [{low}, {high}] " + ("p<0.001" if p_value < 0.001 else f"p={p_value:.2g}")


def decoding(model: dict[str, Any]) -> str:
    """`T=0.9 k=20 p=0.8`, and the training step where it is not the last."""
    parts = [f"T={model['temp']:g}"]
    parts += [f"k={model['top_k']}"] if model["top_k"] is not None else []
    parts += [f"p={model['top_p']:g}"] if model["top_p"] != 1 else []
    step = model["checkpoint_step"]
    return " ".join(parts + ([] if step is None else [f"step {step}"]))


def isolation(sandbox: str) -> str:
    """What kept generated code in, from the backend that a result names."""
    return ", ".join(ISOLATION.get(name, name) for name in sandbox.split(", "))


def size(name: str, one: Benchmark) -> str:
    """`lcb_v6, 131 problems x 4 answers (release_v6, 2025-02-01..2025-05-31, official grading)`"""
    problems = f"{one['num_problems']} problem{'' if one['num_problems'] == 1 else 's'}"
    if one["num_problems"] != one["num_total"]:
        problems = f"{one['num_problems']} of {one['num_total']} problems"
    answers = f"{one['num_samples']} answer{'' if one['num_samples'] == 1 else 's'}"
    facts = [one["release"], one["window"], rules(one["grading"], one["extraction"])]
    return f"{name}, {problems} x {answers} ({', '.join(fact for fact in facts if fact)})"


def groups(one: Benchmark) -> dict[str, int]:
    """Problems by difficulty, and without errata, as far as scores have such groups."""
    stored = next(iter(one["models"].values())).get("groups", {})
    return {name: group["num_problems"] for name, group in stored.items()}


def gain_of(name: str, one: Benchmark) -> str:
    """What a benchmark's gain consists of, in words; empty without controls."""
    metric = pass_names(next(iter(one["models"].values())))[0]
    values = {arm: model[metric]["value"] for arm, model in one["models"].items()}
    whole = one["comparisons"].get(BASE, {}).get(metric)
    certain = whole is not None and whole["low"] > 0 and whole["p_value"] < 0.05
    sentence = gain_sentence(values, certain=certain)
    return sentence and f"{name} {metric}: {sentence}"


def form_notes(name: str, one: Benchmark) -> list[str]:
    """How many answers of each arm fail for their form alone; nothing where none does."""
    losses = []
    for arm, model in one["models"].items():
        shares = model.get("lost_to_form") or {}
        losses += [f"{arm} {lost_shares(shares)}"] if any(shares.values()) else []
    lost = f"{name}: answers wrong for the form of their code alone: {'; '.join(losses)}"
    return [lost] if losses else []


def selection_notes(selection: dict[str, Any] | None) -> list[str]:
    """Which problems chose decoding and checkpoint; nothing where nothing was chosen."""
    if selection is None:
        return []
    problems = " and ".join(f"{len(ids)} of {name}" for name, ids in selection["problems"].items())
    among = ", ".join(f"{model} among {len(tried)}" for model, tried in selection["sweeps"].items())
    if selection["mode"] == "test":
        return [
            f"{CHOSEN_ON_TEST}: {problems}; {among} settings; "
            "the scores of what was chosen are biased upwards"
        ]
    return [f"settings chosen on held-out problems, {problems}; {among} settings"]


def arm_block(benchmarks: dict[str, Benchmark], corner: str = "", reference: str = TUNED) -> str:
    """A table of all arms, with a line over each benchmark's rows; `reference` is what every arm is
    compared with."""
    models = [model for one in benchmarks.values() for model in one["models"].values()]
    several = any(len(pass_names(model)) > 1 for model in models)
    metric = "pass@k" if several else pass_names(models[0])[0]
    compared = any(one["comparisons"] for one in benchmarks.values())
    header = [corner, "decoding", metric, *([f"{reference} minus it"] if compared else [])]
    rows: list[list[str] | str] = [[*header, "tokens", "fenced", "cut", "distinct"]]
    for name, one in benchmarks.items():
        rows.append(size(name, one))
        for arm, model in one["models"].items():
            for index, at in enumerate(pass_names(model)):
                score = f"{at.removeprefix('pass'):>3} {percent(model[at])}"
                change = one["comparisons"].get(arm, {}).get(at)
                row = [arm, decoding(model)] if index == 0 else ["", ""]
                row.append(score if several else percent(model[at]))
                row += ([signed(change) if change else ""]) if compared else []
                rows.append(row + (_form(model) if index == 0 else [""] * 4))
    return aligned(rows)


def _form(model: dict[str, Any]) -> list[str]:
    return [
        f"{model['mean_tokens']:.0f}",
        f"{model['fence_share']:.0%}",
        f"{model['cut_share']:.0%}",
        f"{model['distinct_programs']:.1f}",
    ]


def _group_block(name: str, one: Benchmark) -> str:
    metric = pass_names(next(iter(one["models"].values())))[0]
    compared = bool(one["comparisons"])
    rows: list[list[str] | str] = [
        [name, "problems", "", metric, *(["tuned minus it"] if compared else [])]
    ]
    for group, num_problems in groups(one).items():
        title = [group, str(num_problems)]
        for arm, model in one["models"].items():
            change = one["comparisons"].get(arm, {}).get("groups", {}).get(group)
            row = [*title, arm, percent(model["groups"][group][metric])]
            rows.append(row + ([signed(change[metric]) if change else ""] if compared else []))
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
