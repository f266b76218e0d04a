"""The prompt set: rows of a packaged set, a file or a hub data set, each once, in a fixed order."""

from collections.abc import Iterable
from typing import Any

from ssd.config import DataConfig, DataSource
from ssd.errors import DataError, did_you_mean, one_line
from ssd.problems import (
    Problem,
    fixed_subset,
    packaged_problem,
    packaged_rows,
    prompt_file,
    read_jsonl,
)


def load_prompts(data: DataConfig) -> tuple[list[Problem], dict[str, int]]:
    """The problems to sample, and how many rows each step dropped.

    Returns:
        Problems in the order of the source, and counts under `rows`, `not_passed`, `duplicates`,
        `beyond_limit`.

    Raises:
        DataError: the source is unreadable, lacks a column, or leaves no prompt.
    """
    rows = _read(data)
    kept = [row for row in rows if row.get("is_passed") is True] if data.is_passed else rows
    problems = _problems(data, kept)
    unique = drop_duplicates(problems) if data.dedup else problems
    chosen = fixed_subset(unique, data.limit, key=lambda problem: problem.problem_id)
    counts = {
        "rows": len(rows),
        "not_passed": len(rows) - len(kept),
        "duplicates": len(problems) - len(unique),
        "beyond_limit": len(unique) - len(chosen),
    }
    if not chosen:
        name = data.path or data.hub_name or data.name
        raise DataError(
            f"data: {name} holds no prompts ({counts}): name another file or loosen data.is_passed"
        )
    return chosen, counts


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
    if path.suffix != ".parquet":
        return read_jsonl(path)
    import pyarrow
    import pyarrow.parquet

    try:
        rows: list[dict[str, Any]] = pyarrow.parquet.read_table(path).to_pylist()
    except pyarrow.ArrowInvalid as error:
        raise DataError(
            f"data.path={path} is no readable Parquet file ({one_line(error)})"
        ) from error
    return rows


def _read_hub(data: DataConfig) -> list[dict[str, Any]]:
    from datasets import load_dataset

    wanted = {data.id_field, data.question_field, data.starter_field, "is_passed"}
    try:
        rows = load_dataset(
            str(data.hub_name), data.hub_config, split=data.split, revision=data.revision
        )
    except (OSError, ValueError, RuntimeError) as error:
        raise DataError(
            f"data.hub_name={data.hub_name} cannot be loaded ({one_line(error)[:200]}): "
            "check data.hub_config and data.split, or download it and use data=file data.path=FILE"
        ) from error
    # Answers and tests of the data set are never read: the method sees statements only.
    return list(rows.select_columns([name for name in rows.column_names if name in wanted]))


def _problems(data: DataConfig, rows: list[dict[str, Any]]) -> list[Problem]:
    if data.source is DataSource.packaged:
        return [packaged_problem(data.name, row) for row in rows]
    problems, seen = [], set()
    for number, row in enumerate(rows):
        question = row.get(data.question_field)
        if not isinstance(question, str) or not question.strip():
            raise DataError(
                f"data: row {number + 1} has no text in data.question_field={data.question_field}; "
                f"{did_you_mean(data.question_field, list(row))}"
            )
        problem_id = str(row.get(data.id_field, number))
        if problem_id in seen:  # several rows of one problem, worded differently
            problem_id = f"{problem_id}#{number}"
        seen.add(problem_id)
        starter = row.get(data.starter_field) if data.starter_field else None
        problems.append(
            Problem(problem_id=problem_id, question=question, starter_code=starter or None)
        )
    return problems
