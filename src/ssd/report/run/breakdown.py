"""The report's parts of a gain: controls, the choice of settings, difficulty, other domains."""

from ssd.analyse.advice import advise
from ssd.arms import ARMS, BASE, TUNED, counted
from ssd.config.choices import ObjectiveType
from ssd.records.benchmark_scores import BenchmarkScores
from ssd.records.selection import Candidate, Selection
from ssd.report.render import formats
from ssd.report.render.document import Block, Code, Listing, Paragraph, Section, Table
from ssd.report.run.arms import problems
from ssd.report.run.facts import Facts
from ssd.report.run.summary import FLATTERED, elsewhere

LATER = (
    "No T_eval follows from theory: a later round is fitted to a trained model, tempered once "
    "more, and not to the base model at any temperature. eval.temps=[...] tries several."
)
NO_TARGET = (
    "No T_eval follows from theory: {} fits the model to no temperature, so there is "
    "no T_train for T_eval to multiply. eval.temps=[...] tries several."
)


def controls(facts: Facts) -> list[Section]:
    """Every arm beside the tuned model; empty if the base model is the only one."""
    compared = [benchmark for benchmark in facts.main if set(benchmark.comparisons) - {BASE}]
    if not compared:
        return []
    blocks: list[Block] = [
        Paragraph(f"On {benchmark.title}, pass@{benchmark.k}: {benchmark.gain}.")
        for benchmark in compared
        if benchmark.gain
    ]
    blocks += [_control_table(benchmark) for benchmark in compared]
    arms = {arm for benchmark in compared for arm in benchmark.models}
    blocks.append(arm_table([arm for arm in ARMS if arm in arms]))
    return [Section("Controls", blocks)]


def arm_table(arms: list[str], *, folded: bool = False) -> Table:
    """What each arm is."""
    rows = [[arm, ARMS[arm]] for arm in arms]
    return Table(
        caption="What each model is",
        columns=["Name", "Model"],
        sides="ll",
        rows=rows,
        folded=folded,
    )


def selection(facts: Facts) -> list[Section]:
    """Which problems chose the settings, what each candidate scored on them, and which temperatures
    are worth trying next."""
    chosen = facts.scores.selection if facts.scores is not None else None
    blocks: list[Block] = []
    if chosen is not None:
        blocks.append(Paragraph(_on_what(chosen)))
        blocks += [_sweep_table(model, candidates) for model, candidates in chosen.sweeps.items()]
        ids = "\n".join(f"{name}: {' '.join(names)}" for name, names in chosen.problems.items())
        blocks.append(Code(caption="The problems that chose", text=ids, folded=True))
    blocks += _advice(facts)
    return [Section("Choice of settings", blocks)] if blocks else []


def groups(facts: Facts) -> list[Section]:
    """Scores by difficulty, and without problems whose tests are known to be faulty."""
    grouped = [benchmark for benchmark in facts.main if benchmark.group_sizes]
    if not grouped:
        return []
    arms = list(dict.fromkeys(arm for benchmark in grouped for arm in benchmark.comparisons))
    rows = []
    for benchmark in grouped:
        for group, size in [(None, benchmark.num_problems), *benchmark.group_sizes.items()]:
            name = f"{benchmark.title} pass@{benchmark.k}, {group or 'all'}"
            scores = [formats.score(benchmark.score(arm, group)) for arm in (BASE, TUNED)]
            changes = [formats.tested(benchmark.change(arm, group)) for arm in arms]
            rows.append([name, f"{size:,}", *scores, *changes])
    table = Table(
        caption="Scores by difficulty and errata, with 95% intervals; each group is taken "
        "by itself, and many groups are many chances of a small p",
        columns=["Group", "Problems", "Base", "Tuned", *(f"Tuned minus {arm}" for arm in arms)],
        rows=rows,
    )
    return [Section("Difficulty and errata", [table])]


def regression(facts: Facts) -> list[Section]:
    """The change on benchmarks out of domain."""
    watched = facts.scores.regression if facts.scores is not None else ()
    if not watched:
        return []
    blocks: list[Block] = [Paragraph(" ".join(elsewhere(benchmark) for benchmark in watched))]
    rows = [
        [
            f"{benchmark.title} pass@{k}, {arm}",
            formats.score(benchmark.models[arm].pass_at[k]),
            formats.score(benchmark.models[TUNED].pass_at[k]),
            formats.tested(comparison.pass_at[k]),
            formats.tokens(comparison.mean_tokens),
            problems(benchmark),
        ]
        for benchmark in watched
        for arm, comparison in benchmark.comparisons.items()
        for k in comparison.pass_at
    ]
    if rows:
        blocks.append(
            Table(
                caption="Change out of domain, tuned minus the other model, with 95% intervals",
                columns=["Against", "It", "Tuned", "Change", "Tokens", "Problems"],
                rows=rows,
            )
        )
    return [Section("Out of domain", blocks)]


def _control_table(benchmark: BenchmarkScores) -> Table:
    rows = []
    for arm, model in benchmark.models.items():
        change = benchmark.comparisons.get(arm)
        for k, score in model.pass_at.items():
            name = arm if len(model.pass_at) == 1 else f"{arm}, pass@{k}"
            tested = formats.tested(change.pass_at[k] if change else None)
            longer = formats.tokens(change.mean_tokens) if change and k == benchmark.k else "-"
            decoding = formats.decoding(model.setting)
            rows.append([name, formats.score(score), tested, longer, decoding])
    metric = ", ".join(f"pass@{k}" for k in next(iter(benchmark.models.values())).pass_at)
    return Table(
        caption=f"{benchmark.title}, {metric}: the tuned model beside every control, its paired "
        "difference to each in percentage points and in tokens of mean answer length, with 95% "
        "intervals",
        columns=["Model", "Score", "Tuned minus it", "Tokens", "Decoding"],
        sides="lrrrl",
        rows=rows,
    )


def _on_what(chosen: Selection) -> str:
    counts = " and ".join(
        f"{counted(len(ids), 'problem')} of {name}" for name, ids in chosen.problems.items()
    )
    if chosen.mode == "test":
        return f"{FLATTERED} They are {counts}."
    return (
        f"Settings were chosen on {counts}, which have no part in the scores above. Each interval "
        "is its own candidate's: the best of many looks better than it is, so what was chosen is "
        "scored again on other problems."
    )


def _advice(facts: Facts) -> list[Block]:
    """Untried temperatures of the tuned model that are worth a try, by theory alone: one run has
    too few points for a fit."""
    scores = facts.scores
    if scores is None or not any(TUNED in benchmark.models for benchmark in scores.main):
        return []
    tried = [scored.models[TUNED].setting for scored in scores.main if TUNED in scored.models]
    swept = scores.selection.sweeps.get(TUNED, ()) if scores.selection is not None else ()
    tried_temps = [how.temp for how in (*tried, *(candidate.setting for candidate in swept))]
    base_temp = facts.run.config.eval.base_temp
    if facts.fitted is None:
        if facts.run.config.rounds.number > 1:
            return [Paragraph(LATER)]
        is_tail = facts.run.config.objective.type is ObjectiveType.tail
        cause = "objective=tail" if is_tail else "a corpus of a power distribution"
        return [Paragraph(NO_TARGET.format(cause))]
    suggestions = advise(facts.fitted, base_temp=base_temp, fit=None, tried_temps=tried_temps)
    if not suggestions:
        return []
    temps = ",".join(f"{advice.temp:g}" for advice in suggestions)
    return [
        Paragraph(
            f"T_eval worth trying next for the tuned model (eval.temps=[{temps}]; no sampling or "
            "training is repeated):"
        ),
        Listing([f"{advice.temp:g}: {advice.reason}" for advice in suggestions]),
    ]


def _sweep_table(model: str, candidates: tuple[Candidate, ...]) -> Table:
    rows = [
        [
            formats.decoding(candidate.setting),
            formats.score(candidate.score),
            f"{candidate.num_problems:,}",
            "chosen" if candidate.chosen else "-",
        ]
        for candidate in candidates
    ]
    return Table(
        caption=f"Candidates for {ARMS.get(model, model)}: pass@1 on the problems that chose, with "
        "95% intervals",
        columns=["Setting", "pass@1", "Problems", "Choice"],
        sides="lrrl",
        rows=rows,
    )
