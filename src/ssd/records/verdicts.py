"""The verdict on each answer, stored as Parquet."""

import dataclasses
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ssd.artifacts.files import read_rows, sealing, write_rows
from ssd.records.tables import joined, read_keys, shard_files

KEY = ("problem_id", "sample_index")
NO_REASONING, CLOSED, UNCLOSED = "none", "closed", "unclosed"
"""How the reasoning of an answer went; an unclosed one holds no answer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """One graded answer; `write_verdicts` and `read_verdicts` are its only doors."""

    problem_id: str
    sample_index: int
    passed: bool
    status: str
    """A status of `ssd.sandbox.endings`, `no_code`, `no_value`, or `no_tests` where the benchmark
    has none."""
    detail: str
    """The exception or limit in one line; empty where the answer passed."""
    num_tokens: int
    """Completion tokens, the stop token included."""
    finish_reason: str
    has_fence: bool
    """Whether the answer, its reasoning aside, holds two fence lines at least, or a box where it is
    a value."""
    program: str
    """Hash of the extracted code without trailing space, or of the value; empty without any. Equal
    ones have equal hashes."""
    seconds: float
    """Wall-clock seconds that running or comparing it took."""
    backend: str
    """The sandbox that it ran in; empty for a value, which none needs."""
    lost_to: str | None = None
    """The form of an answer that did not pass although its code, read leniently, does; otherwise
    empty. None if unchecked: under the lenient rule itself, and by earlier versions of this
    project."""
    reasoning: str | None = None
    """`none`, `closed` or `unclosed`; None where no marks of reasoning are known, and in verdicts
    of earlier versions of this project."""
    num_reasoning_tokens: int | None = None
    """Completion tokens of the reasoning, its close mark included; None as above."""


def write_verdicts(path: Path, verdicts: Sequence[Verdict]) -> None:
    """Write verdicts as one Parquet file, atomically."""
    write_rows(path, [dataclasses.asdict(verdict) for verdict in verdicts])


def read_verdicts(path: Path) -> list[Verdict]:
    """Verdicts of one Parquet file written by `write_verdicts`."""
    return [Verdict(**row) for row in read_rows(path)]


def verdict_keys(folder: Path) -> set[tuple[str, int]]:
    """Problem id and sample index of every verdict in a folder's files."""
    return read_keys(folder, KEY)


def join_verdicts(folder: Path, path: Path) -> dict[str, Any]:
    """Write the verdicts of a folder's files as one, by problem id and sample index, and count
    them."""
    import pyarrow.compute
    import pyarrow.parquet

    parts = [pyarrow.parquet.ParquetFile(file).read() for file in shard_files(folder)]
    table = joined(parts).sort_by([(name, "ascending") for name in KEY])
    with sealing(path) as temporary:
        pyarrow.parquet.write_table(table, temporary, compression="zstd")
    return {
        "num_problems": len(table["problem_id"].unique()),
        "num_samples": len(table),
        "num_passed": pyarrow.compute.sum(table["passed"]).as_py(),
        "statuses": dict(Counter(table["status"].to_pylist()).most_common()),
    }
