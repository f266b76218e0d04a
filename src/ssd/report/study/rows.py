"""A study's runs as a table: the settings that differ, and the scores. Imports no matplotlib."""

from collections.abc import Callable, Sequence
from typing import Any

from ssd.arms import BASE, TUNED
from ssd.artifacts.fingerprints import dotted, plain
from ssd.config.choices import Norm
from ssd.config.run_name import between, shared_parts
from ssd.method.decoding import Setting
from ssd.records.benchmark_scores import BenchmarkScores
from ssd.report.render import formats
from ssd.report.render.document import Table
from ssd.report.render.markdown import markdown_table
from ssd.report.run.facts import Facts
from ssd.report.run.settings import objective_words
from ssd.report.study.collection import Study, Unfinished, reported, run_names

CHOICE_FLATTERS = (
    "Choosing a row by these scores selects on the test problems, so the chosen row's score is "
    "biased upwards: confirm it on problems that had no part in the choice."
)
HELD_OUT, REPORTED = "Held-out", "Reported"
"""The columns that rows are sorted by."""
RIVAL = "minus strongest rival"
OUTCOME = "T_eval"
"""The column of a value that most runs choose themselves, so it does not name a run."""
NOT_METHOD = (
    "run_name", "study", "output_dir", "stages", "plan", "analyse", "report", "logger", "hardware",
    "recipe", "rounds.count", "rounds.max_drop", "eval.files", "eval.workers", "eval.shard_size",
    "sampler.shard_size",
)  # fmt: skip
"""Settings that change no score."""
MAX_OTHER = 4
"""Columns for differing settings that have no column of their own; more are named in a sentence."""
Column = tuple[str, Callable[[Facts], str]]


def known_columns() -> list[Column]:
    """Settings with a column or a line of their own, in this order."""
    return [
        ("Model", lambda facts: formats.model(facts.run.config.model)),
        ("T_train", _t_train),
        ("Truncation", lambda facts: formats.truncation(facts.sampled)),
        ("Objective", _objective),
        ("Learning rate", lambda facts: f"{facts.run.config.optimizer.lr:g}"),
        ("Steps", lambda facts: f"{facts.run.config.train.max_steps:,}"),
        ("Seed", lambda facts: str(facts.run.config.seed)),
        (OUTCOME, lambda facts: formats.tuned_temp(facts.main, facts.run.config.eval.temp)),
        ("Truncation at evaluation", lambda facts: formats.truncation(_tuned(facts))),
        ("Step", _step),
    ]


COVERED = (
    "model", "sampler.temp", "truncation", "objective", "optimizer.lr", "train.max_steps",
    "train.corpus", "sampler.power", "seed", "eval.temp", "eval.temps", "eval.truncation",
    "eval.truncations", "eval.checkpoint_step", "eval.checkpoint_steps", "eval.base_temp",
    "eval.base_truncation",
)  # fmt: skip
"""Settings that `known_columns` show, or that the scores' own columns do."""


def varying(runs: Sequence[Facts]) -> list[Column]:
    """A column for everything that differs between the runs."""
    columns = [
        column for column in known_columns() if len({column[1](facts) for facts in runs}) > 1
    ]
    return columns + [(name, _setting(name)) for name in other_settings(runs)[:MAX_OTHER]]


def shared(runs: Sequence[Facts]) -> list[list[str]]:
    """Name and value of every column whose value does not differ."""
    differing = {title for title, _ in varying(runs)}
    return [[title, of(runs[0])] for title, of in known_columns() if title not in differing]


def other_settings(runs: Sequence[Facts]) -> list[str]:
    """Dotted settings beside those of `known_columns` that differ between the runs."""
    flat = [method_settings(facts) for facts in runs]
    names = dict.fromkeys(name for settings in flat for name in settings)
    return [
        name
        for name in names
        if not _below(name, COVERED) and len({str(settings.get(name)) for settings in flat}) > 1
    ]


def method_settings(facts: Facts) -> dict[str, Any]:
    """A run's settings by dotted name, without those that change no score."""
    settings = dotted(plain(facts.run.config))
    return {name: value for name, value in settings.items() if not _below(name, NOT_METHOD)}


def _below(name: str, prefixes: Sequence[str]) -> bool:
    return any(name == prefix or name.startswith(f"{prefix}.") for prefix in prefixes)


def short_names(names: Sequence[str]) -> list[str]:
    """Run names without the overrides that all of them share."""
    common = shared_parts(names)
    short = [
        between(name).join(part for part in name.split(between(name)) if part not in common)
        for name in names
    ]
    alone = len(short) > 1 and all(short) and len(set(short)) == len(short)
    return short if alone else list(names)


def labels(runs: Sequence[Facts]) -> list[str]:
    """The label of a run outside its own row: its number in the table of runs, with the settings
    that differ, or with its name if these do not distinguish the runs."""
    columns = [column for column in varying(runs) if column[0] != OUTCOME]
    names = short_names(list(run_names([facts.run.folder for facts in runs]).values()))
    texts = [", ".join(f"{title} {of(facts)}" for title, of in columns) for facts in runs]
    distinct = len(set(texts)) == len(texts) and all(texts)
    return [f"{n}: {text}" for n, text in enumerate(texts if distinct else names, 1)]


def without_row(study: Study) -> list[Unfinished]:
    """The unfinished runs without scores in the table, one entry per run."""
    rows = set(run_names([facts.run.folder for facts in study.runs]).values())
    return list({run.name: run for run in study.unfinished if run.name not in rows}.values())


def study_table(study: Study) -> str:
    """The runs as a compact table for a terminal, what it is sorted by, and what is unfinished."""
    parts = [markdown_table(compact(study))] if study.runs else ["No run has scores yet."]
    if study.runs:
        parts.append(
            "Scores and differences in percent and percentage points, with 95% intervals; "
            "differences are paired, against the strongest rival: base, unless another is named."
        )
        parts += sorting(study.runs)
    if study.unfinished:
        entries = [f"- {run.name}: {run.state}. {run.reason}" for run in study.unfinished]
        parts.append("Unfinished, failed, or not to be compared:\n\n" + "\n".join(entries))
    return "\n\n".join(parts)


def sorting(runs: Sequence[Facts]) -> list[str]:
    """The order of the rows, and the conclusions that a choice allows."""
    if len(runs) < 2:
        return []
    chosen = [facts for facts in runs if facts.held_out is not None]
    if not chosen:
        return [
            f"Sorted by {REPORTED.lower()} score, since no run chose on held-out problems "
            f"(eval.temps=[...] does). {CHOICE_FLATTERS}"
        ]
    rest = ""
    if len(chosen) < len(runs):
        rest = (
            f" The {len(runs) - len(chosen)} run(s) without a choice on held-out problems follow, "
            f"by reported score. {CHOICE_FLATTERS}"
        )
    return [
        f"Sorted by the column {HELD_OUT}: pass@1 of the chosen setting on the held-out problems. "
        "The first row is the best of several there, and looks better than it is; the other scores "
        f"are on other problems, and choosing a row by {HELD_OUT} leaves them unbiased.{rest}"
    ]


def compact(study: Study) -> Table:
    """Settings that differ, the score that sorts, and one score and difference per benchmark. Runs
    have numbers where their settings tell them apart, as in a sweep, and names where they do not;
    the rows of unfinished runs have names and no scores."""
    runs = study.runs
    columns, benchmarks = varying(runs), benchmark_names(runs)
    settings = [[of(facts) for _, of in columns] for facts in runs]
    numbered = bool(columns) and len(set(map(tuple, settings))) == len(runs)
    held_out = any(facts.held_out is not None for facts in runs)
    # A single benchmark's own column shows the reported score.
    titles = [HELD_OUT] if held_out else [REPORTED] if len(benchmarks) > 1 else []
    absent = without_row(study)
    names = list(run_names([facts.run.folder for facts in runs]).values())
    names = short_names([*names, *(run.name for run in absent)])
    rows = []
    for number, (facts, values) in enumerate(zip(runs, settings, strict=True)):
        row = [str(number + 1) if numbered else names[number], *values]
        row += [sorting_score(facts)] if titles else []
        scored = scores_by_name(facts)
        for benchmark in benchmarks:
            row += _tuned_and_difference(scored.get(benchmark))
        rows.append(row)
    heads = [head for name in benchmarks for head in (f"{name} tuned", RIVAL)]
    width = len(columns) + len(titles) + len(heads)
    for run, name in zip(absent, names[len(runs) :], strict=True):
        rows.append([name, *["-"] * (width - 1), run.state])
    return Table(
        caption="Runs of this study",
        columns=["Run", *(title for title, _ in columns), *titles, *heads],
        rows=rows,
    )


def sorting_score(facts: Facts) -> str:
    """The score that a row is sorted by: held-out, or reported if nothing was held out."""
    chosen, shown = facts.held_out, reported(facts)
    if chosen is not None:
        return formats.score(chosen.score)
    return "-" if shown is None else f"reported {formats.score(shown)}"


def benchmark_names(runs: Sequence[Facts]) -> list[str]:
    """Every main benchmark of any run."""
    return list(dict.fromkeys(name for facts in runs for name in scores_by_name(facts)))


def scores_by_name(facts: Facts) -> dict[str, BenchmarkScores]:
    """A run's main benchmarks."""
    return {scored.name: scored for scored in facts.main}


def difference(benchmark: BenchmarkScores) -> str:
    """The tuned model minus its strongest rival, who is named where it is not the base model."""
    rival = benchmark.rival
    text = formats.change(benchmark.change(rival))
    return text if rival == BASE else f"{text} {rival}"


def _tuned_and_difference(benchmark: BenchmarkScores | None) -> list[str]:
    if benchmark is None or TUNED not in benchmark.models:
        return ["-", "-"]
    k = benchmark.k
    score = formats.percent(benchmark.models[TUNED].pass_at[k].value)
    shown = score if k == 1 else f"{score} (pass@{k})"
    return [shown, difference(benchmark) if benchmark.comparisons else "-"]


def _setting(name: str) -> Callable[[Facts], str]:
    def of(facts: Facts) -> str:
        value = dotted(plain(facts.run.config)).get(name)
        return ", ".join(map(str, value)) or "none" if isinstance(value, list) else str(value)

    return of


def _t_train(facts: Facts) -> str:
    """A power of whole answers has none: `power 4 (8 candidates)`."""
    power = facts.power
    if power is None:
        return f"{facts.sampled.temp:g}"
    return f"power {power.alpha:g} ({power.candidates} candidates)"


def _objective(facts: Facts) -> str:
    objective = facts.run.config.objective
    each = "" if objective.norm is Norm.token else f", per {objective.norm.value}"
    return objective_words(objective) + each


def _tuned(facts: Facts) -> Setting:
    """How the tuned model answered, or is configured to."""
    settings = facts.run.config.eval
    configured = Setting(
        settings.temp, settings.truncation.top_k, settings.truncation.top_p,
        settings.checkpoint_step,
    )  # fmt: skip
    scored = (scored.models[TUNED].setting for scored in facts.main if TUNED in scored.models)
    return next(scored, configured)


def _step(facts: Facts) -> str:
    step = _tuned(facts).checkpoint_step
    return "last" if step is None else f"{step:,}"
