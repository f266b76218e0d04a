"""Rows of JSON Lines files and JSON arrays, and subsets that stay the same."""

import gzip
import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from ssd.errors import DataError

Item = TypeVar("Item")


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


def fixed_subset(items: list[Item], limit: int | None, key: Callable[[Item], str]) -> list[Item]:
    """`limit` items chosen by the hash of their keys, in their own order: the same ones in every
    run, and a smaller subset lies inside a larger one."""
    if limit is None or limit >= len(items):
        return items
    ranked = sorted(items, key=lambda item: hashlib.sha256(key(item).encode()).digest())
    chosen = {key(item) for item in ranked[:limit]}
    return [item for item in items if key(item) in chosen]
