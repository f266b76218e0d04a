"""A corpus on disk: lengths of all its samples, ids of those that are asked for.

N samples.
"""

import base64
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ssd.artifacts.files import sealing
from ssd.records.tables import Table, row_groups

GROUP_TOKENS = 2**18
"""Tokens of a row group, the least that is read at once: 7 ms on a core. Its entry in the footer
takes 13 KB of memory."""
CACHED_GROUPS = 8
LENGTHS = b"ssd.lengths"
"""Of the footer: tokens of prompt and completion of each sample, as 32-bit integers, compressed and
in base64. To count them from the ids would be to read all of them."""
LONGEST_TEXT = 50_000_000
"""Parquet's readers refuse a footer with a text of 100 MB."""
IDS = ("prompt_token_ids", "completion_token_ids")
TRAIN_IDS = ("train_prompt_token_ids", "train_completion_token_ids")
"""Hold what training uses instead, in all samples or in none."""


class Group(NamedTuple):
    """A row group's ids that training uses, all prompts and all completions end to end."""

    prompt_ids: Any
    """Names of the samples' prompts."""
    offsets: tuple[NDArray[np.int64], NDArray[np.int64]]
    """Where each sample's prompt, and completion, begins and ends."""
    ids: tuple[NDArray[np.int64], NDArray[np.int64]]


class StoredSamples:
    """The samples of some Parquet files of one kind, one after the other, by position, as training
    uses them."""

    def __init__(self, *paths: Path) -> None:
        import pyarrow.parquet

        self.files = [pyarrow.parquet.ParquetFile(path) for path in paths]
        self.groups = [
            (file, number) for file in self.files for number in range(file.metadata.num_row_groups)
        ]
        sizes = [file.metadata.row_group(number).num_rows for file, number in self.groups]
        self.starts = np.cumsum([0, *sizes])
        self.group = lru_cache(maxsize=CACHED_GROUPS)(self._read_group)
        schema = self.files[0].schema_arrow
        rendered = TRAIN_IDS[0] in schema.names and not pyarrow.types.is_null(
            schema.field(TRAIN_IDS[0]).type
        )
        self.columns = TRAIN_IDS if rendered else IDS

    def __len__(self) -> int:
        return int(self.starts[-1])

    def lengths(self) -> NDArray[np.int32]:
        """(N, 2) tokens of prompt and completion."""
        return np.concatenate([self._lengths(file) for file in self.files])

    def prompt_id(self, row: int) -> str:
        """The name of a sample's prompt."""
        group, place = self._locate(row)
        return str(group.prompt_ids[place].as_py())

    def prompt_ids(self) -> Iterator[str]:
        """Of every sample."""
        for file in self.files:
            for table in row_groups(file, ("prompt_id",)):
                yield from table["prompt_id"].to_pylist()

    def ids(self, row: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Token ids of a sample's prompt and completion: views of memory that is not to be changed,
        never rendered again."""
        group, place = self._locate(row)
        prompt, completion = (
            ids[offsets[place] : offsets[place + 1]]
            for ids, offsets in zip(group.ids, group.offsets, strict=True)
        )
        return prompt, completion

    def reaching(self, token_id: int) -> Iterator[tuple[int, NDArray[np.int64]]]:
        """Samples with a token id of `token_id` or above, with all their ids. Row groups whose
        statistics exclude one are not read."""
        for number, start in enumerate(self.starts[:-1]):
            if self._highest(number) < token_id:
                continue
            for row in range(start, self.starts[number + 1]):
                ids = np.concatenate(self.ids(row))
                if len(ids) and ids.max() >= token_id:
                    yield row, ids

    def _lengths(self, file: Any) -> NDArray[np.int32]:
        footer = file.metadata.metadata or {}
        if LENGTHS in footer:
            return decoded(footer[LENGTHS])
        tables = row_groups(file, self.columns)
        return np.concatenate([token_counts(table, self.columns) for table in tables])

    def _highest(self, number: int) -> float:
        """The largest id of a row group, infinite where its statistics do not say."""
        file, place = self.groups[number]
        group = file.metadata.row_group(place)
        columns = [group.column(index) for index in range(group.num_columns)]
        statistics = [
            column.statistics
            for column in columns
            if column.path_in_schema.partition(".")[0] in self.columns
        ]
        if not all(part is not None and part.has_min_max for part in statistics):
            return np.inf
        return float(max(part.max for part in statistics))

    def _locate(self, row: int) -> tuple[Group, int]:
        number = int(np.searchsorted(self.starts, row, side="right")) - 1
        return self.group(number), row - int(self.starts[number])

    def _read_group(self, number: int) -> Group:
        file, place = self.groups[number]
        table = file.read_row_group(place, columns=["prompt_id", *self.columns])
        prompts, completions = (flat(table[name]) for name in self.columns)
        return Group(table["prompt_id"], (prompts[0], completions[0]), (prompts[1], completions[1]))


def flat(column: Any) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Offsets and values of a column of lists of integers."""
    import pyarrow

    lists = column.combine_chunks().cast(pyarrow.list_(pyarrow.int64()))
    offsets = lists.offsets.to_numpy()
    return offsets - offsets[0], lists.flatten().to_numpy()


def with_train_ids(
    table: Table, prompts: Sequence[list[int]], completions: Sequence[list[int]]
) -> Table:
    """A table of samples with the ids that training uses instead of those drawn."""
    import pyarrow

    lists = pyarrow.list_(pyarrow.int64())
    for name, ids in zip(TRAIN_IDS, (prompts, completions), strict=True):
        place = table.schema.get_field_index(name)
        table = table.set_column(place, name, pyarrow.array(ids, type=lists))
    return table


def token_counts(table: Table, columns: tuple[str, str] = IDS) -> NDArray[np.int32]:
    """(N, 2) tokens of prompt and completion of a table's samples."""
    import pyarrow.compute

    lengths = [pyarrow.compute.list_value_length(table[name]).to_numpy() for name in columns]
    return np.stack(lengths, axis=1).astype(np.int32)


def encoded(lengths: NDArray[np.int32]) -> bytes:
    """As text, which is what other readers of Parquet expect in a footer."""
    return base64.b64encode(zlib.compress(lengths.astype("<i4").tobytes()))


def decoded(text: bytes) -> NDArray[np.int32]:
    """What `encoded` was given, (N, 2)."""
    return np.frombuffer(zlib.decompress(base64.b64decode(text)), dtype="<i4").reshape(-1, 2)


class SampleWriter:
    """A Parquet file of samples that grows by tables."""

    def __init__(self, writer: Any, columns: tuple[str, str]) -> None:
        self.writer = writer
        self.columns = columns
        self.lengths: list[NDArray[np.int32]] = []

    def write(self, table: Table) -> None:
        """Append a row group."""
        self.writer.write_table(table)
        self.lengths.append(token_counts(table, self.columns))


@contextmanager
def writing_samples(path: Path, schema: Any) -> Iterator[SampleWriter]:
    """Write samples as one Parquet file, atomically, a row group at a time."""
    import pyarrow
    import pyarrow.parquet

    rendered = not pyarrow.types.is_null(schema.field(TRAIN_IDS[0]).type)
    with (
        sealing(path) as temporary,
        pyarrow.parquet.ParquetWriter(temporary, schema, compression="zstd") as writer,
    ):
        samples = SampleWriter(writer, TRAIN_IDS if rendered else IDS)
        yield samples
        if len(samples.lengths) > 1:  # one row group is soon counted
            text = encoded(np.concatenate(samples.lengths))
            if len(text) < LONGEST_TEXT:
                writer.add_key_value_metadata({LENGTHS.decode(): text.decode()})


def in_groups(table: Table, num_tokens: int = GROUP_TOKENS) -> Iterator[Table]:
    """A table in pieces of `num_tokens` tokens, or little more."""
    totals = np.cumsum(token_counts(table).sum(axis=1, dtype=np.int64))
    start = 0
    while start < len(table):
        before = totals[start - 1] if start else 0
        end = int(np.searchsorted(totals, before + num_tokens)) + 1
        yield table.slice(start, end - start)
        start = end
