"""The score table as plain text, from the contents of scores.json."""

from typing import Any

ISOLATION = {
    "namespaces": "isolated by Linux namespaces",
    "process": "not isolated (eval.sandbox=none)",
}


def score_table(scores: dict[str, Any]) -> str:
    """Every benchmark's pass@k with intervals, their differences, and answer length,
    fence and cut shares."""
    names = list(
        dict.fromkeys(
            name
            for one in scores["benchmarks"].values()
            for name in pass_names(one["models"]["base"])
        )
    )
    lines = [["benchmark", "model", *names, "tokens", "fenced", "cut"]]
    for benchmark, one in scores["benchmarks"].items():
        title = benchmark
        for role, model in one["models"].items():
            shares = [
                f"{model['mean_tokens']:.0f}",
                f"{model['fence_share']:.0%}",
                f"{model['cut_share']:.0%}",
            ]
            lines.append([title, role, *(percent(model[name]) for name in names), *shares])
            title = ""
        if "difference" in one:
            lines.append(
                [
                    title,
                    "difference",
                    *(signed(one["difference"][name]) for name in names),
                    "",
                    "",
                    "",
                ]
            )
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    table = [
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    ]
    sizes = ", ".join(
        f"{benchmark} {one['num_problems']} problems x {one['num_samples']} answers"
        for benchmark, one in scores["benchmarks"].items()
    )
    notes = [
        f"percent with 95 % intervals over problems; {sizes}",
        (
            "tokens: mean answer length; fenced: answers with a code block; "
            "cut: answers stopped by the length cap"
        ),
        f"code ran {ISOLATION.get(scores['sandbox'], scores['sandbox'])}",
    ]
    return "\n".join([table[0], "-" * max(map(len, table)), *table[1:], *notes])


def pass_names(model: dict[str, Any]) -> list[str]:
    """`pass@1`, `pass@10` and so on, as far as a model's scores have them."""
    return [name for name in model if name.startswith("pass@")]


def percent(score: dict[str, float]) -> str:
    """`50.6 [43.3, 57.9]`"""
    return f"{100 * score['value']:.1f} [{100 * score['low']:.1f}, {100 * score['high']:.1f}]"


def signed(score: dict[str, float]) -> str:
    """`+4.2 [-1.8, +9.8] p=0.18`"""
    value, low, high = (f"{100 * score[name]:+.1f}" for name in ("value", "low", "high"))
    p_value = score["p_value"]
    return f"{value} [{low}, {high}] " + ("p<0.001" if p_value < 0.001 else f"p={p_value:.2g}")
