"""Samples as Arrow tables: files that are larger than memory pass through it a part at a time."""

import dataclasses
import shutil
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from ssd.records.samples import Sample

Table = Any
"""A `pyarrow.Table`; pyarrow is imported where it is used, because commands that read no samples
start without it."""
FIELDS = dataclasses.fields(Sample)
Key = tuple[str, int]
KEY = ("prompt_id", "sample_index")
COLUMNS = tuple(field.name for field in FIELDS)
DRAWN = tuple(field.name for field in FIELDS if field.default is dataclasses.MISSING)
"""Those that every sample has."""
PART_BYTES = 2**26
"""Of samples that are sorted at once, in memory; several copies of them exist meanwhile."""
ORDERING = ".ordering"
"""Holds samples on their way from shards to their order, and is gone once they are there."""


def shard_files(folder: Path) -> list[Path]:
    """The Parquet files of a folder, in an order that stays."""
    return sorted(folder.glob("*.parquet"))


def read_tables(files: Iterable[Path], columns: Sequence[str] = COLUMNS) -> Iterator[Table]:
    """The row groups of files of samples, as stored; columns that a file lacks are left out."""
    import pyarrow.parquet

    for path in files:
        with pyarrow.parquet.ParquetFile(path) as file:
            yield from row_groups(file, columns)


def row_groups(file: Any, columns: Sequence[str]) -> Iterator[Table]:
    """The row groups of an open `ParquetFile`."""
    present = [name for name in columns if name in file.schema_arrow.names]
    for number in range(file.num_row_groups):
        yield file.read_row_group(number, columns=present)


def iterate_samples(files: Iterable[Path], columns: Sequence[str] = COLUMNS) -> Iterator[Sample]:
    """Every sample in some files, as stored. Fields that are not asked for have their default."""
    for table in read_tables(files, columns):
        for row in table.to_pylist():
            yield Sample(**row)


def num_rows(files: Iterable[Path]) -> int:
    """Samples in some files, from their footers."""
    import pyarrow.parquet

    return sum(pyarrow.parquet.read_metadata(path).num_rows for path in files)


def read_keys(folder: Path, names: Sequence[str] = KEY) -> set[Key]:
    """Prompt id and sample index, by the columns that hold them, of every row in a folder's
    files."""
    tables = read_tables(shard_files(folder), names)
    return {key for table in tables for key in keys_of(table, names)}


def keys_of(table: Table, names: Sequence[str] = KEY) -> Iterator[Key]:
    """The same of every row of a table."""
    return zip(*(table[name].to_pylist() for name in names), strict=True)


def read_texts(folder: Path) -> Iterator[str]:
    """The text of every sample in a folder's files, as stored."""
    for table in read_tables(shard_files(folder), ("text",)):
        yield from table["text"].to_pylist()


def read_named_texts(path: Path) -> Iterator[tuple[str, str]]:
    """Prompt id and text of every sample in a file, in its order; or in a folder's files, by prompt
    id and sample index. No token ids are read."""
    files = shard_files(path) if path.is_dir() else [path]
    table = joined(list(read_tables(files, (*KEY, "text"))))
    for batch in (in_order(table) if path.is_dir() else table).to_batches(max_chunksize=1024):
        yield from zip(batch["prompt_id"].to_pylist(), batch["text"].to_pylist(), strict=True)


def joined(tables: Sequence[Table]) -> Table:
    """Tables as one; a column that holds nothing but nulls in some has the type of the others."""
    import pyarrow

    return pyarrow.concat_tables(tables, promote_options="permissive")


def in_order(table: Table) -> Table:
    """A table of samples by prompt id and sample index."""
    import pyarrow.compute

    keys = [(name, "ascending") for name in KEY]
    return table.combine_chunks().take(
        pyarrow.compute.sort_indices(table.select(KEY), sort_keys=keys)
    )


def outline(table: Table) -> Table:
    """Key, finish reason and number of completion tokens of every sample."""
    import pyarrow.compute

    lengths = pyarrow.compute.list_value_length(table["completion_token_ids"])
    return table.select([*KEY, "finish_reason"]).append_column("num_tokens", lengths.cast("int64"))


def read_outline(files: Iterable[Path]) -> Table:
    """The outline of all samples in some files, by prompt id and sample index."""
    columns = (*KEY, "finish_reason", "completion_token_ids")
    return in_order(joined([outline(table) for table in read_tables(files, columns)]))


def read_lengths(files: Iterable[Path]) -> Iterator[tuple[Key, int]]:
    """The key of every sample in some files, as stored, and its completion tokens."""
    for table in map(outline, read_tables(files, (*KEY, "finish_reason", "completion_token_ids"))):
        yield from zip(keys_of(table), table["num_tokens"].to_pylist(), strict=True)


def read_chosen(files: Iterable[Path], keys: Collection[Key]) -> list[Sample]:
    """The samples with these keys, by prompt id and sample index, without log-probabilities."""
    chosen = set(keys)
    samples = [
        Sample(**row)
        for table in read_tables(files, DRAWN)
        for row in table.filter([key in chosen for key in keys_of(table)]).to_pylist()
    ]
    return sorted(samples, key=lambda sample: (sample.prompt_id, sample.sample_index))


def sample_counts(outline: Table) -> dict[str, Any]:
    """Size of a set of samples, in completion tokens too, and why they ended."""
    import pyarrow.compute

    num_tokens = pyarrow.compute.sum(outline["num_tokens"]).as_py()
    return {
        "num_samples": len(outline),
        "num_tokens": num_tokens,
        "mean_tokens": round(num_tokens / len(outline), 1),
        "finish_reasons": dict(Counter(outline["finish_reason"].to_pylist())),
    }


def ordered_tables(
    folder: Path, keep: NDArray[np.bool_], scratch: Path, part_bytes: int = PART_BYTES
) -> Iterator[Table]:
    """The samples of a folder's files by prompt id and sample index, since shards hold them in the
    order in which they ended: tables of about `part_bytes`, with all of `COLUMNS`.

    Samples that do not fit into one part go through files below `scratch`, one for each part.

    Args:
        keep: (N,) whether a sample, as stored, is wanted.
    """
    parts = scratch / ORDERING
    shutil.rmtree(parts, ignore_errors=True)  # of a killed process
    files = shard_files(folder)
    places = _places(files)
    part_rows = max(1, len(places) * part_bytes // max(sum(map(_num_bytes, files)), 1))
    schema = common_schema(files)
    tables = _kept(files, keep, schema)
    if part_rows >= len(places):
        yield in_order(joined([table for table, _ in tables]))
        return
    parts.mkdir()
    for table, rows in _gathered(tables, part_bytes):
        _distribute(table, places[rows] // part_rows, parts)
    for path in sorted(parts.iterdir()):
        yield in_order(_read_part(path))
        path.unlink()
    parts.rmdir()


def common_schema(files: Sequence[Path]) -> Any:
    """A schema of `COLUMNS` that takes the samples of all files."""
    import pyarrow.parquet

    # Corpora of earlier versions have a column more, `logprob_sum`; nothing has read it.
    nothing = pyarrow.schema([(name, pyarrow.null()) for name in COLUMNS])
    schemas = {pyarrow.parquet.read_schema(path) for path in files}
    merged = pyarrow.unify_schemas([nothing, *schemas], promote_options="permissive")
    return pyarrow.schema([(name, _as_made(merged.field(name).type)) for name in COLUMNS])


def _as_made(kind: Any) -> Any:
    """A type as lists of Python have it: read from Parquet, the items of lists are called
    elements, and what is written from it is another file, byte for byte."""
    import pyarrow

    return pyarrow.list_(_as_made(kind.value_type)) if pyarrow.types.is_list(kind) else kind


def _num_bytes(path: Path) -> int:
    """What a file's samples take in memory, about: numbers have 8 bytes there."""
    import pyarrow.parquet

    footer = pyarrow.parquet.read_metadata(path)
    columns = (
        footer.row_group(number).column(index)
        for number in range(footer.num_row_groups)
        for index in range(footer.num_columns)
    )
    return sum(max(8 * column.num_values, column.total_uncompressed_size) for column in columns)


def _places(files: Sequence[Path]) -> NDArray[np.int64]:
    """(N,) where each stored sample comes in the order."""
    import pyarrow.compute

    keys = joined(list(read_tables(files, KEY)))
    order = pyarrow.compute.sort_indices(keys, sort_keys=[(name, "ascending") for name in KEY])
    places = np.empty(len(order), dtype=np.int64)
    places[order.to_numpy()] = np.arange(len(order))
    return places


def _kept(
    files: Sequence[Path], keep: NDArray[np.bool_], schema: Any
) -> Iterator[tuple[Table, NDArray[np.int64]]]:
    """Wanted samples with their positions among all, as stored."""
    start = 0
    empty = schema.empty_table()
    for table in read_tables(files):
        wanted = keep[start : start + len(table)]
        whole = joined([empty, table]).cast(schema)
        yield whole.filter(wanted), start + np.flatnonzero(wanted)
        start += len(table)


def _gathered(
    tables: Iterable[tuple[Table, NDArray[np.int64]]], num_bytes: int
) -> Iterator[tuple[Table, NDArray[np.int64]]]:
    """Neighbours together, as many as reach `num_bytes`."""
    waiting: list[tuple[Table, NDArray[np.int64]]] = []
    for table, rows in tables:
        waiting.append((table, rows))
        if sum(part.nbytes for part, _ in waiting) >= num_bytes:
            yield joined([part for part, _ in waiting]), np.concatenate([r for _, r in waiting])
            waiting = []
    if waiting:
        yield joined([part for part, _ in waiting]), np.concatenate([r for _, r in waiting])


def _distribute(table: Table, parts: NDArray[np.int64], folder: Path) -> None:
    """Append each row to the file of its part: a file is several Arrow streams end to end, because
    there may be more parts than files may be open."""
    import pyarrow

    options = pyarrow.ipc.IpcWriteOptions(compression="zstd")
    # Once for all parts: to take rows from a table in pieces is to copy the table.
    table = table.combine_chunks().take(np.argsort(parts, kind="stable"))
    present, starts = np.unique(np.sort(parts), return_index=True)
    for part, start, end in zip(present, starts, [*starts[1:], len(table)], strict=True):
        with (
            (folder / f"{part:09d}").open("ab") as file,
            pyarrow.ipc.new_stream(file, table.schema, options=options) as stream,
        ):
            stream.write_table(table.slice(start, end - start))


def _read_part(path: Path) -> Table:
    import pyarrow

    tables = []
    with path.open("rb") as file:
        end = path.stat().st_size
        while file.tell() < end:
            tables.append(pyarrow.ipc.open_stream(file).read_all())
    return cast(Table, pyarrow.concat_tables(tables))
