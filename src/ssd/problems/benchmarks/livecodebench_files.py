"""LiveCodeBench's files: where they are, and their rows one by one.

Read directly, because the hub's loading script needs an old `datasets` and holds every hidden test
in memory at once.
"""

import base64
import binascii
import io
import json
import pickle
import zlib
from pathlib import Path
from typing import Any

from ssd.config.settings import BenchmarkFiles
from ssd.errors import DataError, one_line
from ssd.problems.benchmarks.hub_files import fetch
from ssd.problems.benchmarks.livecodebench_windows import Window

REPOSITORY = "livecodebench/code_generation_lite"
LAST_DATES = {1: "2024-03-31", 2: "2024-05-31", 3: "2024-08-31", 4: "2024-09-30", 5: "2025-01-31"}
"""The last contest date of each release: a window that begins later needs no file up to that
release, which saves gigabytes. The data card says July 2024 of the third; but it has 612 problems,
and of all that are published only 601 are that old."""


def find_files(window: Window, files: BenchmarkFiles) -> list[Path]:
    """The files that can hold problems of a window: of `eval.files.lcb`, or of the hub, fetched
    where they are not on this machine.

    Raises:
        DataError: a file is not there, or cannot be fetched.
    """
    if files.lcb is None:
        return [
            fetch(REPOSITORY, name, "eval.files.lcb=FOLDER", files.lcb_revision)
            for name in file_names(window)
        ]
    place = Path(files.lcb)
    if place.is_file():
        return [place]
    if not place.is_dir():
        raise DataError(
            f"eval.files.lcb={place} is not there: name the folder with LiveCodeBench's test.jsonl "
            "to test6.jsonl, or one such file"
        )
    return [_local(place, name) for name in file_names(window)]


def file_names(window: Window) -> list[str]:
    """`test.jsonl`, `test2.jsonl` and so on, as far as a window needs them."""
    first = window.release if window.delta else 1
    numbers = [
        number
        for number in range(first, window.release + 1)
        if number == window.release or LAST_DATES[number] >= (window.first or "")
    ]
    return ["test.jsonl" if number == 1 else f"test{number}.jsonl" for number in numbers]


def decode_tests(text: str) -> list[dict[str, Any]]:
    """Hidden tests: JSON, or JSON as a pickled string, compressed, in base64.

    Raises:
        ValueError: it is none of these, or the pickle holds anything but plain values.
    """
    try:
        tests = json.loads(text)
    except ValueError:
        try:
            raw = zlib.decompress(base64.b64decode(text, validate=True))
            tests = json.loads(PlainUnpickler(io.BytesIO(raw)).load())
        except (binascii.Error, zlib.error, pickle.UnpicklingError, EOFError, TypeError) as error:
            raise ValueError(one_line(error)) from error
    if not isinstance(tests, list) or not all(isinstance(test, dict) for test in tests):
        raise ValueError("not a list of tests")
    return tests


class PlainUnpickler(pickle.Unpickler):
    """Reads plain values only: a pickle that names a class or function could run code."""

    def find_class(self, module: str, name: str) -> Any:
        """Refuse every global."""
        raise pickle.UnpicklingError(f"the pickle asks for {module}.{name}")


def _local(folder: Path, name: str) -> Path:
    for path in (folder / name, folder / f"{name}.gz"):
        if path.is_file():
            return path
    raise DataError(
        f"eval.files.lcb={folder} has no {name}: download it from the hub's data set {REPOSITORY}"
    )
