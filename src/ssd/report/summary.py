"""The answer in words: did self-distillation help on each benchmark, how much, and how surely."""

from ssd.report.document import Block, Finding, Listing, Paragraph, Section
from ssd.report.facts import Facts
from ssd.report.formats import p_value, percent, signed
from ssd.report.scores import BenchmarkScores

FEW_PROBLEMS = 30
"""Below this a percentile bootstrap over problems gives intervals
that are noticeably too narrow."""
SHARE_SHIFT, LENGTH_SHIFT = 0.1, 0.2
"""Changes worth a sentence: ten points in a share, a fifth in answer length."""
CAVEAT = (
    "Base and tuned model are decoded at their own configured settings, so part of a difference "
    "can be decoding: neither settings selected on held-out problems nor decoding controls are "
    "part of this comparison yet."
)
WORDS = {
    "better": "The tuned model is better on",
    "worse": "the tuned model is worse on",
    "undecided": "undecided on",
    "base only": "only the base model was evaluated on",
}


def summary(facts: Facts) -> Section:
    """The first section of a report."""
    blocks: list[Block] = []
    benchmarks = facts.scores.benchmarks if facts.scores is not None else ()
    if facts.stale:
        blocks += [Paragraph("The scores below are out of date."), Listing(list(facts.stale))]
    if benchmarks:
        findings = [finding(benchmark) for benchmark in benchmarks]
        blocks += [Paragraph(headline(findings)), *findings]
        if any(benchmark.difference for benchmark in benchmarks):
            blocks.append(Paragraph(caveat(benchmarks)))
    else:
        blocks.append(
            Paragraph("This run has no scores, so whether self-distillation helped is not known.")
        )
    if facts.missing:
        blocks += [Paragraph("What this report lacks:"), Listing(list(facts.missing))]
    return Section("Summary", blocks)


def headline(findings: list[Finding]) -> str:
    """All findings in one sentence: `Better on humaneval; undecided on mbpp.`"""
    groups = {word: [item.benchmark for item in findings if item.verdict == word] for word in WORDS}
    parts = [f"{WORDS[word]} {' and '.join(names)}" for word, names in groups.items() if names]
    sentence = "; ".join(parts) + "."
    return sentence[0].upper() + sentence[1:]


def finding(benchmark: BenchmarkScores) -> Finding:
    """The verdict on one benchmark by its smallest k:
    decided only where paired interval and paired test exclude 0."""
    if not benchmark.difference:
        return Finding(benchmark=benchmark.name, verdict="base only", text=_base_only(benchmark))
    k = min(benchmark.difference)
    difference = benchmark.difference[k]
    base, tuned = (percent(benchmark.models[role].pass_at[k].value) for role in ("base", "tuned"))
    problems, chance = _problems(benchmark), p_value(difference.p_value)
    interval = (
        "the 95% interval of the paired difference, "
        f"{signed(difference.low)} to {signed(difference.high)} points,"
    )
    goes = f"pass@{k} goes from {base} to {tuned} ({signed(difference.value)} points)"
    if difference.value == 0:
        goes = f"pass@{k} stays at {base}"
    verdict = "undecided"
    if difference.decided:
        verdict, verb = ("better", "rises") if difference.low > 0 else ("worse", "falls")
        text = (
            f"pass@{k} {verb} from {base} to {tuned}, by {abs(100 * difference.value):.1f} points; "
            f"{interval} excludes 0 ({problems}{chance and f', {chance}'})."
        )
    elif difference.degenerate:
        text = (
            f"{goes}, and every resample of the {problems} gives the same difference: "
            "the interval has no width and does not say how sure this is."
        )
    elif difference.excludes_zero:
        text = (
            f"{goes}; {interval} excludes 0, "
            f"but the paired test of the {problems} does not reject 0 ({chance})."
        )
    else:
        visible = f"{50 * (difference.high - difference.low):.0f} points"
        text = (
            f"{goes}, but {interval} contains 0{chance and f' ({chance})'}. "
            f"{problems} can only show differences above about {visible}."
        )
    narrow = benchmark.num_problems < FEW_PROBLEMS and not difference.degenerate
    few = (
        f" With fewer than {FEW_PROBLEMS} problems these intervals tend to be too narrow."
        if narrow
        else ""
    )
    return Finding(benchmark=benchmark.name, verdict=verdict, text=text + few)


def caveat(benchmarks: tuple[BenchmarkScores, ...]) -> str:
    """What these differences do not separate."""
    compared = [benchmark.models for benchmark in benchmarks if benchmark.difference]
    same = all(models["base"].decoding == models["tuned"].decoding for models in compared)
    return CAVEAT + (
        " In this run both use the same settings." if same else " In this run the settings differ."
    )


def shifts(benchmark: BenchmarkScores) -> list[str]:
    """Changes of form that a change of score may come from: length, code fences,
    cut-off answers."""
    if "tuned" not in benchmark.models:
        return []
    base, tuned = benchmark.models["base"], benchmark.models["tuned"]
    found = []
    if abs(tuned.mean_tokens - base.mean_tokens) > LENGTH_SHIFT * max(base.mean_tokens, 1):
        found.append(
            f"the mean answer goes from {base.mean_tokens:.0f} to {tuned.mean_tokens:.0f} tokens"
        )
    for name, before, after in (
        ("answers with a code fence", base.fence_share, tuned.fence_share),
        ("answers cut off by the length cap", base.cut_share, tuned.cut_share),
    ):
        if abs(after - before) >= SHARE_SHIFT:
            found.append(f"{name} go from {percent(before)} to {percent(after)}")
    return [f"On {benchmark.name}, {item}: part of the difference may be form." for item in found]


def _problems(benchmark: BenchmarkScores) -> str:
    answers = (
        "one answer each" if benchmark.num_samples == 1 else f"{benchmark.num_samples} answers each"
    )
    return (
        f"{benchmark.num_problems} problem{'' if benchmark.num_problems == 1 else 's'} "
        f"with {answers}"
    )


def _base_only(benchmark: BenchmarkScores) -> str:
    scores = [
        f"pass@{k} is {percent(item.value)}" for k, item in benchmark.models["base"].pass_at.items()
    ]
    return (
        f"{', '.join(scores)} for the base model over {_problems(benchmark)}; "
        "there is no tuned model to compare."
    )
