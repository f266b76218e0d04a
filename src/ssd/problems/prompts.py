"""The prompt set: rows of a packaged set, a file or a hub data set, each once, in a fixed order."""

import csv
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from ssd.artifacts.files import refusal
from ssd.artifacts.places import hub_folder
from ssd.config.choices import DataSource
from ssd.config.settings import DataConfig
from ssd.errors import DataError, did_you_mean, one_line
from ssd.problems.problem import PACKAGED, Problem, packaged_rows, prompt_file
from ssd.problems.rows import fixed_subset, read_jsonl

USUAL_FIELDS = (
    "question", "prompt", "instruction", "problem", "query", "messages", "conversations", "text",
)  # fmt: skip
"""Columns in which people keep questions, for the remedy of an error."""
MOST_CHARACTERS = 2**31 - 1
"""Longest cell of a CSV file; Python's own limit is 131,072."""


def load_prompts(data: DataConfig) -> tuple[list[Problem], dict[str, int]]:
    """The problems to sample, and how many rows each step dropped.

    Returns:
        Problems in the order of the source, and counts under `rows`, `not_passed`, `duplicates`,
        `beyond_limit`.

    Raises:
        DataError: the source is unreadable, lacks a column, or leaves no prompt.
    """
    rows = _read(data)
    passed = [row for row in rows if row.get("is_passed") is True] if data.is_passed else rows
    problems = _problems(data, passed)
    unique = drop_duplicates(problems) if data.dedup else problems
    subset = fixed_subset(unique, data.limit, key=lambda problem: problem.problem_id)
    counts = {
        "rows": len(rows),
        "not_passed": len(rows) - len(passed),
        "duplicates": len(problems) - len(unique),
        "beyond_limit": len(unique) - len(subset),
    }
    if not subset:
        name = data.path or data.hub_name or data.name
        raise DataError(
            f"data: {name} holds no prompts ({counts}): name another file or loosen data.is_passed"
        )
    return subset, counts


def drop_duplicates(problems: Iterable[Problem]) -> list[Problem]:
    """The first of every group of problems whose statements are equal up to white space
    (paper, section 3)."""
    first: dict[str, Problem] = {}
    for problem in problems:
        first.setdefault(" ".join(problem.question.split()), problem)
    return list(first.values())


def _read(data: DataConfig) -> list[dict[str, Any]]:
    if data.source is DataSource.packaged:
        return packaged_rows(data.name, data.split)
    if data.source is DataSource.hub:
        return _read_hub(data)
    path = prompt_file(data)
    return _read_csv(path) if path.suffix == ".csv" else read_jsonl(path)


def _read_csv(path: Path) -> list[dict[str, Any]]:
    csv.field_size_limit(MOST_CHARACTERS)
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            return list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"data.path={path} is no readable CSV file ({one_line(error)})") from error


def _read_hub(data: DataConfig) -> list[dict[str, Any]]:
    from datasets import load_dataset

    columns = {data.id_field, data.question_field, data.starter_field, "is_passed"}
    try:
        rows = load_dataset(
            str(data.hub_name), data.hub_config, split=data.split, revision=data.revision
        )
    except (OSError, ValueError, RuntimeError) as error:
        reason = refusal(error, hub_folder()) if isinstance(error, OSError) else None
        if reason is not None:
            raise DataError(f"data.hub_name={data.hub_name}: {reason}") from error
        raise DataError(
            f"data.hub_name={data.hub_name} cannot be loaded ({one_line(error)[:200]}): "
            "check data.hub_config and data.split, or download it and use data=file data.path=FILE"
        ) from error
    # Answers and tests of the data set are never read: the method sees statements only.
    return list(rows.select_columns([name for name in rows.column_names if name in columns]))


def _problems(data: DataConfig, rows: list[dict[str, Any]]) -> list[Problem]:
    if data.source is DataSource.packaged:
        return [PACKAGED[data.name](row) for row in rows]
    problems, ids = [], set()
    for number, row in enumerate(rows):
        question = question_text(row, data.question_field)
        if question is None:
            raise DataError(
                f"data: row {number + 1} has no text in data.question_field={data.question_field}; "
                f"{_remedy(row, data.question_field)}"
            )
        problem_id = str(row.get(data.id_field, number))
        if problem_id in ids:  # several rows of one problem, worded differently
            problem_id = f"{problem_id}#{number}"
        ids.add(problem_id)
        starter = row.get(data.starter_field) if data.starter_field else None
        if not isinstance(starter, str | None):
            raise DataError(
                f"data: row {number + 1} has {starter!r:.40} in data.starter_field="
                f"{data.starter_field}, which is no text: mend it, or set data.starter_field=null"
            )
        problems.append(
            Problem(problem_id=problem_id, question=question, starter_code=starter or None)
        )
    return problems


def question_text(row: dict[str, Any], field: str) -> str | None:
    """The question of a row: the text of a column, with Alpaca's `input` below its `instruction`;
    from a column with chat messages, the user's first message. None if the column has neither."""
    value = row.get(field)
    if isinstance(value, list) and all(isinstance(turn, dict) for turn in value):
        # `from` and `value` are ShareGPT's names.
        turns = [
            (t.get("role") or t.get("from"), t.get("content") or t.get("value")) for t in value
        ]
        value = next((text for role, text in turns if role in ("user", "human")), None)
    if not isinstance(value, str) or not value.strip():
        return None
    more = row.get("input") if field == "instruction" else None
    return f"{value}\n\n{more}" if isinstance(more, str) and more.strip() else value


def _remedy(row: dict[str, Any], field: str) -> str:
    """Which column to name instead: a known one that holds a question, or one spelled alike."""
    readable = next((name for name in USUAL_FIELDS if question_text(row, name) is not None), None)
    if readable is not None:
        return f"{readable} has some: add data.question_field={readable}"
    return f"name the column as data.question_field; {did_you_mean(field, list(row))}"
