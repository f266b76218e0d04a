"""Scores of graded answers from elsewhere, of which some problems may have more than others."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ssd.arms import VALUE_RULES, counted
from ssd.config.choices import Extraction
from ssd.evaluate.scores import ArmArrays
from ssd.evaluate.table import aligned, isolation, percent, signed
from ssd.evaluate.verdict_lines import stem, verdict_of
from ssd.problems.benchmarks.tasks import Benchmark
from ssd.records.verdicts import Verdict

NO_ANSWER = "no_answer"
RESAMPLES = 10_000


def with_missing(verdicts: list[Verdict], scored: Sequence[str], k: int) -> list[Verdict]:
    """The verdicts on the problems that count, with failed ones added for problems without an
    answer, as many as pass@k needs."""
    counted, answered = set(scored), {verdict.problem_id for verdict in verdicts}
    empty = {"passed": False, "status": NO_ANSWER, "detail": "", "program": "", "seconds": 0.0}
    return [verdict for verdict in verdicts if verdict.problem_id in counted] + [
        verdict_of({**empty, "task_id": name, "sample_index": index, "sandbox": ""})
        for name in scored
        if name not in answered
        for index in range(k)
    ]


def summary(
    benchmark: Benchmark, verdicts: dict[Path, list[Verdict]], k: list[int], extraction: Extraction
) -> str:
    """The scores as a table, with the notes that belong to them."""
    # As stored: some programs may have run before this command, in another sandbox.
    backends = {verdict.backend for rows in verdicts.values() for verdict in rows} - {""}
    ran = f"; code ran {isolation(', '.join(sorted(backends)))}" if backends else ""
    names = distinct_names(list(verdicts))
    rng = np.random.default_rng(0)
    arms = {path: ArmArrays.of_uneven(rows, k) for path, rows in verdicts.items()}
    first, *others = arms
    header = ["", *(f"pass@{at}" for at in k)]
    header += [f"{names[first]} minus it, pass@{at}" for at in k if others]
    rows = [header]
    for path, arm in arms.items():
        scores = arm.intervals()
        changes = {} if path == first else arms[first].minus(arm, RESAMPLES, rng).pass_at
        row = [names[path], *(percent(scores[at]) for at in k)]
        row += [signed(changes.get(at)) for at in k if others]
        rows.append(row)
    statuses = [
        f"{names[path]}: "
        + ", ".join(f"{n} {s}" for s, n in Counter(v.status for v in listed).most_common())
        for path, listed in verdicts.items()
    ]
    rule = benchmark.form.rule_name(extraction)
    read = VALUE_RULES.get(rule, f"{extraction.value} extraction")
    facts = [benchmark.release, benchmark.window, f"{benchmark.grading} grading"]
    return "\n".join([
        f"{benchmark.name}, {size(verdicts)} "
        f"({', '.join(fact for fact in facts if fact)}; texts: {read})",
        aligned(rows), "", *statuses,
        f"percent with 95 % intervals over problems{ran}",
    ])  # fmt: skip


def size(verdicts: dict[Path, list[Verdict]]) -> str:
    """`164 problems x 1 to 10 answers`"""
    numbers = [
        number
        for rows in verdicts.values()
        for number in Counter(v.problem_id for v in rows if v.status != NO_ANSWER).values()
    ]
    fewest, most = min(numbers), max(numbers)
    num_problems = len({verdict.problem_id for rows in verdicts.values() for verdict in rows})
    least = "" if fewest == most else f"{fewest} to "
    return f"{counted(num_problems, 'problem')} x {least}{counted(most, 'answer')}"


def distinct_names(paths: Sequence[Path]) -> dict[Path, str]:
    """The files' names, with their folders if two names are equal."""
    names = {path: stem(path) for path in paths}
    return names if len(set(names.values())) == len(paths) else {path: str(path) for path in paths}
