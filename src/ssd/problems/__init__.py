"""Problems as both sampling and evaluation read them, and the sets shipped with the project."""

import gzip
import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from ssd.config.choices import DataSource
from ssd.config.settings import DataConfig
from ssd.errors import ConfigError, DataError, did_you_mean

DATA = Path(__file__).parent.parent / "data"
MBPP_SPLITS = {
    "prompt": range(1, 11),
    "test": range(11, 511),
    "validation": range(511, 601),
    "train": range(601, 975),
}
"""Task ids of MBPP's splits (Austin et al. 2021, arXiv 2108.07732)."""

Item = TypeVar("Item")


@dataclass(frozen=True, slots=True)
class Problem:
    """A programming problem, before any prompt format."""

    problem_id: str
    question: str
    starter_code: str | None = None
    reads_stdin: bool = False


def read_jsonl(path: Path) -> list[dict[str, Any]]:
    """Rows of a JSON Lines file, gzipped or plain; or of one JSON array, as people also write them.

    Raises:
        DataError: the file is unreadable, or a line is not a JSON object
            (the message gives its number).
    """
    return [row for _, row in numbered_rows(path)]


def numbered_rows(path: Path) -> list[tuple[str, dict[str, Any]]]:
    """Rows as `read_jsonl` reads them, each with its place: `line 3`, or `item 3` of an array.

    Raises:
        DataError: as of `read_jsonl`.
    """
    opened = gzip.open if path.suffix == ".gz" else open
    rows: list[tuple[str, dict[str, Any]]] = []
    try:
        with opened(path, "rt", encoding="utf-8-sig") as file:  # Windows tools mark their files
            for number, line in enumerate(file, start=1):
                if not rows and line.lstrip().startswith("["):
                    return _array_rows(path, line + file.read())
                if line.strip():
                    place = f"line {number}"
                    rows.append((place, _object(path, place, _json(path, place, line))))
    except (OSError, UnicodeDecodeError, EOFError) as error:
        raise DataError(f"{path} cannot be read ({error})") from error
    return rows


def _array_rows(path: Path, text: str) -> list[tuple[str, dict[str, Any]]]:
    items = enumerate(_json(path, "its array", text), start=1)
    return [(f"item {number}", _object(path, f"item {number}", item)) for number, item in items]


def _json(path: Path, place: str, text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DataError(
            f"{path}, {place} is not JSON ({error}): mend or remove that line"
        ) from error


def _object(path: Path, place: str, value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise DataError(f"{path}, {place} is not a JSON object: mend or remove that line")
    return value


def packaged_file(name: str) -> Path:
    """The shipped file of a packaged set.

    Raises:
        ConfigError: there is no such set.
    """
    path = DATA / f"{name}.jsonl.gz"
    if not path.is_file():
        known = [file.name.removesuffix(".jsonl.gz") for file in DATA.glob("*.jsonl.gz")]
        raise ConfigError(f"data.name: no packaged set '{name}'; {did_you_mean(name, known)}")
    return path


def prompt_file(data: DataConfig) -> Path:
    """The file that a packaged or local prompt set is read from.

    Raises:
        ConfigError: there is no such packaged set.
        DataError: there is no such file.
    """
    if data.source is DataSource.packaged:
        return packaged_file(data.name)
    path = Path(str(data.path))
    if not path.is_file():
        raise DataError(f"data.path={path} is no file: name a .jsonl, .json, .parquet or .csv file")
    return path


def packaged_rows(name: str, split: str) -> list[dict[str, Any]]:
    """Raw rows of one split of a packaged set.

    Raises:
        ConfigError: the set or the split does not exist.
    """
    rows = read_jsonl(packaged_file(name))
    if name not in ("mbpp", "mbpp_sanitized"):
        if split != "test":
            raise ConfigError(f"data.split: {name} has no split '{split}'; known: test")
        return rows
    if split not in MBPP_SPLITS:
        raise ConfigError(
            f"data.split: {name} has no split '{split}'; {did_you_mean(split, list(MBPP_SPLITS))}"
        )
    return [row for row in rows if row["task_id"] in MBPP_SPLITS[split]]


def packaged_problem(name: str, row: dict[str, Any]) -> Problem:
    """One row of a packaged set as a problem; MBPP shows its tests, as its authors' prompt does."""
    if name in ("mbpp", "mbpp_sanitized"):
        tests = "\n".join(row["test_list"])
        text = row["text"] if name == "mbpp" else row["prompt"]
        question = f"{text}\nYour code should pass these tests:\n\n{tests}"
        return Problem(problem_id=f"{name}/{row['task_id']}", question=question)
    if name == "mbpp_plus":  # the prompt is a docstring: the task, and its tests
        text = row["prompt"].strip().strip('"').strip()
        return Problem(problem_id=row["task_id"], question=text)
    question = (
        "Complete this Python code and return the whole of it:\n"
        f"```python\n{row['prompt'].rstrip()}\n```"
    )
    return Problem(problem_id=row["task_id"], question=question)


def fixed_subset(items: list[Item], limit: int | None, key: Callable[[Item], str]) -> list[Item]:
    """`limit` items chosen by the hash of their keys, in their own order: the same ones in every
    run, and a smaller subset lies inside a larger one."""
    if limit is None or limit >= len(items):
        return items
    ranked = sorted(items, key=lambda item: hashlib.sha256(key(item).encode()).digest())
    chosen = {key(item) for item in ranked[:limit]}
    return [item for item in items if key(item) in chosen]
