"""Rows of JSON Lines files and JSON arrays, and subsets that stay the same."""

import gzip
import hashlib
import json
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

from ssd.errors import DataError, one_line

Item = TypeVar("Item")
Row = dict[str, Any]
MEND = "mend or remove that line"


def read_jsonl(path: Path) -> list[Row]:
    """Rows of a JSON Lines file, gzipped or plain; or of one JSON array, as people also write them;
    or of a Parquet file, as the hub writes them.

    Raises:
        DataError: the file is unreadable, or a line is not a JSON object
            (the message gives its number).
    """
    return [row for _, row in numbered_rows(path)]


def numbered_rows(path: Path, remedy: str = MEND) -> Iterator[tuple[str, Row]]:
    """Rows as `read_jsonl` reads them, one at a time, each with its place: `line 3`, or `item 3` of
    an array.

    Args:
        remedy: what to do about a line that is no JSON object.

    Raises:
        DataError: as of `read_jsonl`.
    """
    if path.suffix == ".parquet":
        yield from ((f"row {n}", row) for n, row in enumerate(_parquet(path), start=1))
        return
    opened = gzip.open if path.suffix == ".gz" else open
    begins = True
    try:
        with opened(path, "rt", encoding="utf-8-sig") as file:  # Windows tools mark their files
            for number, line in enumerate(file, start=1):
                if begins and line.lstrip().startswith("["):
                    items = _json(path, "its array", line + file.read(), remedy)
                    for index, item in enumerate(items, start=1):
                        yield f"item {index}", _object(path, f"item {index}", item, remedy)
                elif line.strip():
                    begins = False
                    place = f"line {number}"
                    yield place, _object(path, place, _json(path, place, line, remedy), remedy)
    except (OSError, UnicodeDecodeError, EOFError, zlib.error) as error:
        raise DataError(f"{path} cannot be read ({error}): check it, or fetch it again") from error


def _parquet(path: Path) -> list[Row]:
    import pyarrow
    import pyarrow.parquet

    try:
        rows: list[Row] = pyarrow.parquet.read_table(path).to_pylist()
    except (OSError, pyarrow.ArrowInvalid) as error:
        raise DataError(f"{path} is no readable Parquet file ({one_line(error)})") from error
    return rows


def _json(path: Path, place: str, text: str, remedy: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}, {place} is not JSON ({error}): {remedy}") from error


def _object(path: Path, place: str, value: Any, remedy: str) -> Row:
    if not isinstance(value, dict):
        raise DataError(f"{path}, {place} is not a JSON object: {remedy}")
    return value


def fixed_subset(items: list[Item], limit: int | None, key: Callable[[Item], str]) -> list[Item]:
    """`limit` items chosen by the hash of their keys, in their own order: the same ones in every
    run, and a smaller subset lies inside a larger one."""
    if limit is None or limit >= len(items):
        return items
    ranked = sorted(items, key=lambda item: place_of(key(item)))
    members = {key(item) for item in ranked[:limit]}
    return [item for item in items if key(item) in members]


def place_of(name: str) -> bytes:
    """By which something of this name comes before others in a fixed subset."""
    return hashlib.sha256(name.encode()).digest()
