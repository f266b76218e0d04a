"""Answers from elsewhere: the files in which other tools keep what a model has answered."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ssd.artifacts.names import SHARDS
from ssd.config.choices import Extraction
from ssd.config.settings import ReasoningConfig
from ssd.errors import DataError
from ssd.problems.benchmarks.tasks import Task
from ssd.problems.extraction import final_answer, has_fences
from ssd.problems.forms import PROGRAM, Form
from ssd.problems.rows import read_jsonl
from ssd.records.tables import read_named_texts

IDS = ("task_id", "question_id", "id")
"""Fields that name a problem: EvalPlus's and HumanEval's, LiveCodeBench's, and common ones."""
PROGRAMS = ("solution", "code", "code_list")
"""Fields that hold code as it is to be run."""
TEXTS = ("output", "output_list", "text")
"""Fields that hold what a model said, from which its code is extracted."""
COMPLETION = "completion"
"""A field whose text continues a problem's prompt (HumanEval), or holds a program."""
FIELDS = *PROGRAMS, COMPLETION, f"{COMPLETION}_list", *TEXTS
NEEDED = f"a program ({', '.join(PROGRAMS)}), a completion, or a text ({', '.join(TEXTS)})"
VALUE_FIELDS = "answer", "solution", COMPLETION, *TEXTS
"""Fields that hold what a model said where answers are values: a value alone is a text too."""


@dataclass(frozen=True, slots=True)
class Answer:
    """One program or value, to be graded as it is."""

    problem_id: str
    index: int
    """Position among the answers to its problem, from 0."""
    code: str | None
    """None where an answer holds none."""


def read_answers(
    path: Path,
    tasks: Sequence[Task],
    *,
    extraction: Extraction,
    thinking: bool,
    marks: ReasoningConfig | None = None,
    form: Form = PROGRAM,
) -> list[Answer]:
    """The answers of a file to these tasks, by task and in the order of the file: JSON Lines (plain
    or gzipped), a JSON list, or a Parquet file or folder of this project. Texts of `thinking`
    models begin within their reasoning.

    Answers to other problems are left out. A note is printed about them, about programs that look
    like texts, and about problems with more answers than others.

    Raises:
        DataError: the file cannot be read, or answers none of the tasks.
    """
    find_problem = known_names([task.problem.problem_id for task in tasks])
    prompts = {task.problem.problem_id: task.prompt for task in tasks}
    codes: dict[str, list[str | None]] = {}
    unknown: list[str] = []
    fenced = 0
    fields, texts = (FIELDS, TEXTS) if form.runs else (VALUE_FIELDS, VALUE_FIELDS)
    for name, field, value in answer_fields(path, fields):
        problem = find_problem(name)
        if problem is None:
            unknown.append(name)
            continue
        if field in texts:
            answer = final_answer(value, marks, opened=thinking)
            code = form.extract(answer, form.rule(extraction))
        else:
            fenced += has_fences(value)
            code = prompts[problem] + value if field == COMPLETION else value
        codes.setdefault(problem, []).append(code)
    if unknown and not codes:
        raise DataError(
            f"none of the {len(unknown)} answers in {path} is to a problem of this benchmark "
            f"(the first is to {unknown[0]}): check --benchmark and --file"
        )
    if not codes:
        raise DataError(f"{path} holds no answer")
    notes = uneven_notes(codes)
    if unknown:
        notes.append(
            f"answers to no problem of this benchmark, left out: {len(unknown)}, "
            f"such as to {unknown[0]}"
        )
    if fenced:
        notes.append(
            f"programs with code fences, run as they are: {fenced}; name their field text to have "
            "the code extracted"
        )
    for note in notes:
        print(f"note: {path}: {note}", flush=True)
    ordered = [name for name in prompts if name in codes]
    return [Answer(name, index, code) for name in ordered for index, code in enumerate(codes[name])]


def known_names(problem_ids: Sequence[str]) -> Callable[[str], str | None]:
    """Finds a problem by its id, in upper or lower case, or by the part after its last slash."""
    whole = {name.lower(): name for name in problem_ids}
    tails = {name.rpartition("/")[2].lower(): name for name in problem_ids}
    return lambda name: whole.get(name.lower(), None if "/" in name else tails.get(name.lower()))


def uneven_notes(codes: dict[str, list[str | None]]) -> list[str]:
    """A note if some problems have more answers than others: sampling may have been cut short."""
    ((common, _),) = Counter(map(len, codes.values())).most_common(1)
    others = [name for name, listed in codes.items() if len(listed) != common]
    return others and [
        f"problems with more or fewer than the usual {common} answers: {len(others)}, "
        f"such as {others[0]} with {len(codes[others[0]])}"
    ]


def harness_answer(row: dict[str, Any], *, runs: bool) -> dict[str, Any]:
    """A row of lm-eval's `samples_*.jsonl` by the fields of other tools: the problem of its `doc`,
    or the number of it, and every response. Of programs, one without a code fence goes on where the
    prompt ends, as the harness runs it."""
    doc = row["doc"] if isinstance(row.get("doc"), dict) else {}
    name = next((doc[field] for field in IDS if field in doc), row.get("doc_id"))
    groups = [group if isinstance(group, list) else [group] for group in row["resps"]]
    texts = [text for group in groups for text in group]
    fenced = any(isinstance(text, str) and has_fences(text) for text in texts)
    return {"id": name, "output_list" if fenced or not runs else "completion_list": texts}


def answer_fields(path: Path, fields: Sequence[str]) -> Iterator[tuple[str, str, str]]:
    """Problem, field and value of every answer; of several `fields` in a row the first counts.

    Raises:
        DataError: a row lacks what an answer needs.
    """
    if path.is_dir() or path.suffix == ".parquet":
        shards = path / SHARDS if (path / SHARDS).is_dir() else path
        for problem, text in read_named_texts(shards):
            yield problem, "text", text
        return
    for number, row in enumerate(read_jsonl(path), start=1):
        if isinstance(row.get("resps"), list):
            row = harness_answer(row, runs=fields is FIELDS)
        name = next((row[field] for field in IDS if field in row), None)
        field = next((name for name in fields if name in row), None)
        if not isinstance(name, str | int) or field is None:
            raise DataError(
                f"{path}, answer {number} needs a problem ({', '.join(IDS)}) and "
                + (NEEDED if fields is FIELDS else f"a text ({', '.join(fields)})")
            )
        values = row[field] if field.endswith("_list") else [row[field]]
        if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
            raise DataError(
                f'{path}, answer {number}: {field} holds no text: write "" for an empty answer'
            )
        for value in values:
            yield str(name), field.removesuffix("_list"), value
