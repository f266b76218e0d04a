"""The answer in words: did self-distillation help on each benchmark, how much, and how surely."""

import re

from ssd.arms import ARMS, BASE, CHOSEN_ON_TEST, SWEPT, TUNED, UNIT, counted, lost_shares
from ssd.method.intervals import Interval
from ssd.method.significance import visible_sentence
from ssd.records.benchmark_scores import BenchmarkScores, ModelScores
from ssd.records.scores import Scores
from ssd.report.render import formats
from ssd.report.render.document import Block, Finding, Listing, Paragraph, Section
from ssd.report.render.formats import p_value, percent, signed, tested
from ssd.report.run.facts import Facts

SHARE_SHIFT, LENGTH_SHIFT, LOST_SHIFT = 0.1, 0.2, 0.02
"""Changes worth a sentence: ten points in a share, a fifth in answer length."""
FLATTERED = (
    f"{CHOSEN_ON_TEST}: the scores of what was chosen are biased upwards, since the problems that "
    "chose are the ones that are reported."
)
MISSING = {
    SWEPT: "Part of a difference can be decoding: the base model under its own best decoding was "
    "not compared (eval.controls=[base_swept]).",
    UNIT: "Part can come with any fine-tuning on own samples: a model trained on its samples of "
    "temperature 1 was not compared (eval.controls=[t1]).",
}
"""The question that each missing control leaves open."""
WORDS = {
    "better": "The tuned model is better on",
    "worse": "the tuned model is worse on",
    "undecided": "undecided on",
    "base only": "only the base model was evaluated on",
}


def summary(facts: Facts) -> list[Section]:
    """The first section of a report."""
    blocks: list[Block] = []
    scores = facts.scores
    if facts.stale:
        blocks += [Paragraph("The scores below are out of date."), Listing(list(facts.stale))]
    if scores is None or not scores.main:
        blocks.append(
            Paragraph("This run has no scores, so whether self-distillation helped is not known.")
        )
    else:
        findings = [finding(benchmark) for benchmark in scores.main]
        blocks += [Paragraph(f"Did self-distillation help? {headline(findings)}"), *findings]
        if scores.selection is not None and scores.selection.mode == "test":
            blocks.append(Paragraph(FLATTERED))
    if done := what_was_done(facts):
        blocks.append(Paragraph(done))
    if notes := worth_knowing(facts):
        blocks.append(Listing(notes))
    if facts.missing:
        blocks += [Paragraph("What this report lacks:"), Listing(list(facts.missing))]
    return [Section("Summary", blocks)]


def what_was_done(facts: Facts) -> str:
    """The run in two sentences, for who has not read the paper; empty before there is a corpus."""
    config, manifest = facts.run.config, facts.corpus and facts.corpus.manifest
    if not manifest:
        return ""
    counts = manifest["counts"]
    name = "the model of the round before" if config.rounds.number > 1 else "the model"
    drew = f"{name} wrote {counted(counts['num_samples'], 'answer')}"
    if "num_prompts" in counts:
        drew += f" to {counted(counts['num_prompts'], 'prompt')}"
    how = formats.sampling(facts.sampled, facts.power)
    steps = config.train.max_steps
    return (
        "Self-distillation trains a model on its own answers, which nothing has checked. Here "
        f"{drew} ({how}) and was trained on them for {counted(steps, 'step')}. "
        "pass@k is the share of problems that k answers solve; other words are in the glossary."
    )


def worth_knowing(facts: Facts) -> list[str]:
    """What a reader of the scores should know: the weights, cut-off samples, what the differences
    do not separate, and benchmarks out of domain."""
    scores, config = facts.scores, facts.run.config
    notes = []
    if bits := re.search(r"\.Q(\d)_\w+\.gguf$", facts.run.weights.identity):
        notes.append(
            f"The weights of {formats.model(config.model)} come from a {bits[1]}-bit file, "
            "dequantised: they are not quite the published model's."
        )
    manifest = facts.corpus and facts.corpus.manifest
    ends: dict[str, int] = (manifest or {}).get("counts", {}).get("finish_reasons", {})
    cut = ends.get("length", 0) / max(1, sum(ends.values()))
    if cut >= SHARE_SHIFT:
        cap = f" of {config.sampler.max_new_tokens:,} tokens (sampler.max_new_tokens)"
        notes.append(
            f"{100 * cut:.0f}% of the samples were cut off at the length cap"
            f"{cap if config.train.corpus is None else ''}, so that part of what was trained on is "
            "unfinished."
        )
    if scores is not None and any(benchmark.comparisons for benchmark in scores.main):
        notes += caveat(scores)
    if scores is not None:
        notes += [elsewhere(benchmark) for benchmark in scores.regression]
    return notes


def headline(findings: list[Finding]) -> str:
    """All findings in one sentence: `Better on humaneval; undecided on mbpp.`"""
    groups = {word: [item.benchmark for item in findings if item.verdict == word] for word in WORDS}
    parts = [f"{WORDS[word]} {' and '.join(names)}" for word, names in groups.items() if names]
    sentence = "; ".join(parts) + "."
    return sentence[0].upper() + sentence[1:]


def finding(benchmark: BenchmarkScores) -> Finding:
    """The verdict on one benchmark by its smallest k, against the strongest control that exists:
    decided only if paired interval and paired test exclude 0."""
    if not benchmark.comparisons:
        return Finding(benchmark=benchmark.title, verdict="base only", text=_base_only(benchmark))
    k, rival = benchmark.k, benchmark.rival
    difference = benchmark.comparisons[rival].pass_at[k]
    verdict = "undecided"
    if difference.decided:
        verdict = "better" if difference.low > 0 else "worse"
    text = _weighed(benchmark, rival, difference) + _over_base(benchmark, verdict)
    return Finding(benchmark=benchmark.title, verdict=verdict, text=text)


def caveat(scores: Scores) -> list[str]:
    """The causes that these differences do not separate, and how settings were chosen."""
    models = [benchmark.models for benchmark in scores.main if benchmark.comparisons]
    arms = {arm for by_arm in models for arm in by_arm}
    sentences = [MISSING[arm] for arm in MISSING if arm not in arms]
    same = all(by_arm[BASE].setting.decoding == by_arm[TUNED].setting.decoding for by_arm in models)
    sentences.append(
        "Base and tuned model are decoded at the same settings."
        if same
        else "Base and tuned model are decoded at different settings."
    )
    chosen = scores.selection
    if chosen is None:
        sentences.append("Settings are as configured; none was chosen by a score.")
    elif chosen.mode != "test":
        problems = " and ".join(f"{len(ids)} of {name}" for name, ids in chosen.problems.items())
        sentences.append(f"Settings were chosen on held-out problems: {problems}.")
    return sentences


def elsewhere(benchmark: BenchmarkScores) -> str:
    """The change on a benchmark out of domain."""
    if not benchmark.comparisons:
        return f"Out of domain, on {benchmark.title}, only the base model was evaluated."
    change = benchmark.difference[benchmark.k]
    shown = "a change is shown" if change.decided else "no change is shown"
    before, after = (percent(benchmark.values[arm]) for arm in (BASE, TUNED))
    return (
        f"Out of domain, on {benchmark.title}, pass@{benchmark.k} goes from {before} to {after}, "
        f"{tested(change)}: {shown}."
    )


def _weighed(benchmark: BenchmarkScores, rival: str, difference: Interval) -> str:
    """The sentences on the tuned model's difference to one arm."""
    k = benchmark.k
    start, tuned = (percent(benchmark.values[arm]) for arm in (rival, TUNED))
    if rival != BASE:
        start += f" ({_title(benchmark, rival)})"
    problems, chance = _problems(benchmark), p_value(difference.p_value)
    interval = (
        "the 95% interval of the paired difference, "
        f"{signed(difference.low)} to {signed(difference.high)} points,"
    )
    goes = f"pass@{k} goes from {start} to {tuned} ({signed(difference.value)} points)"
    if difference.value == 0:
        goes = f"pass@{k} stays at {start}"
    if difference.decided:
        return (
            f"pass@{k} {'rises' if difference.low > 0 else 'falls'} from {start} to {tuned}, "
            f"by {abs(100 * difference.value):.1f} points; "
            f"{interval} excludes 0 ({problems}{chance and f', {chance}'})."
        )
    if difference.excludes_zero:
        return (
            f"{goes}; {interval} excludes 0, "
            f"but the paired test of the {problems} does not reject 0 ({chance})."
        )
    visible = visible_sentence(
        difference.low, difference.high, benchmark.num_problems, benchmark.num_samples, k
    )
    return (
        f"{goes}. The true difference may be none: {interval} contains 0"
        f"{chance and f' ({chance})'}. {problems} {visible}."
    )


def _title(benchmark: BenchmarkScores, rival: str) -> str:
    """The name of the control in the verdict."""
    controls = {arm: value for arm, value in benchmark.values.items() if arm not in (BASE, TUNED)}
    strongest = benchmark.values[rival] == max(controls.values())
    role = "the strongest control" if strongest else "a control that it does not beat"
    return f"{rival}, {ARMS[rival]}: {role}"


def _over_base(benchmark: BenchmarkScores, verdict: str) -> str:
    """The change over the base model, when the verdict is against a control instead."""
    if benchmark.rival == BASE or BASE not in benchmark.comparisons:
        return ""
    change = benchmark.difference[benchmark.k]
    text = f" Over the base model the change is {tested(change)}"
    unearned = verdict != "better" and change.is_gain
    doubt = ": a gain that this control may explain without self-distillation"
    return text + (doubt if unearned else "") + "."


def shifts(benchmark: BenchmarkScores) -> list[str]:
    """Changes of form that a change of score may come from: length, code fences or boxes,
    cut-off answers, reasoning that is closed."""
    if "tuned" not in benchmark.models:
        return []
    base, tuned = benchmark.models["base"], benchmark.models["tuned"]
    changes = []
    if abs(tuned.mean_tokens - base.mean_tokens) > LENGTH_SHIFT * max(base.mean_tokens, 1):
        changes.append(
            f"the mean answer goes from {base.mean_tokens:.0f} to {tuned.mean_tokens:.0f} tokens"
        )
    for name, before, after in (
        (f"answers with {benchmark.words.form}", base.fence_share, tuned.fence_share),
        ("answers cut off by the length cap", base.cut_share, tuned.cut_share),
        ("answers that closed their reasoning", _closed_share(base), _closed_share(tuned)),
    ):
        if abs(after - before) >= SHARE_SHIFT:
            changes.append(f"{name} go from {percent(before)} to {percent(after)}")
    if abs((tuned.lost_share or 0.0) - (base.lost_share or 0.0)) >= LOST_SHIFT:
        changes.append(
            f"answers that fail for their form alone go from {lost_shares(base.lost_to_form)} "
            f"to {lost_shares(tuned.lost_to_form)}"
        )
    return [
        f"On {benchmark.title}, {item}: part of the difference may be form." for item in changes
    ]


def _closed_share(model: ModelScores) -> float:
    return 0.0 if model.reasoning is None else model.reasoning.closed_share


def _problems(benchmark: BenchmarkScores) -> str:
    number = benchmark.num_samples
    answers = "one answer" if number == 1 else f"{number} answers"
    return f"{counted(benchmark.num_problems, 'problem')} with {answers} each"


def _base_only(benchmark: BenchmarkScores) -> str:
    scores = [
        f"pass@{k} is {percent(item.value)}" for k, item in benchmark.models["base"].pass_at.items()
    ]
    return (
        f"{', '.join(scores)} for the base model over {_problems(benchmark)}; "
        "there is no tuned model to compare."
    )
