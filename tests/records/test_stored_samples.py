"""Samples that are larger than memory: read, ordered and written a part at a time."""

import random
from pathlib import Path

import numpy as np
import pyarrow.parquet
import pytest

from ssd.records.samples import Sample, read_samples, write_samples
from ssd.records.stored import LENGTHS, StoredSamples, in_groups, writing_samples
from ssd.records.tables import (
    ORDERING,
    common_schema,
    ordered_tables,
    read_chosen,
    read_keys,
    read_outline,
    sample_counts,
    shard_files,
)
from ssd.sample.corpus import write_corpus


def drawn(number: int, **changes: object) -> Sample:
    rng = random.Random(number)
    fields = {
        "prompt_id": f"p{number // 3}",
        "sample_index": number % 3,
        "seed": number,
        "prompt_token_ids": [rng.randrange(50) for _ in range(rng.randint(1, 6))],
        "completion_token_ids": [rng.randrange(50) for _ in range(rng.randint(0, 9))],
        "text": "x" * rng.randint(0, 5),
        "finish_reason": rng.choice(["stop", "length"]),
    }
    return Sample(**{**fields, **changes})  # type: ignore[arg-type]


def store(folder: Path, samples: list[Sample], shard_size: int = 4) -> list[Sample]:
    """Shards with the samples in no order; returns them in order."""
    mixed = random.Random(0).sample(samples, len(samples))
    for start in range(0, len(mixed), shard_size):
        write_samples(folder / f"{start:05d}.parquet", mixed[start : start + shard_size])
    return read_samples(folder)


@pytest.mark.parametrize("part_bytes", [2**26, 700, 1])
def test_shards_are_put_in_order_whether_or_not_they_fit_into_one_part(
    tmp_path: Path, part_bytes: int
) -> None:
    samples = store(tmp_path / "shards", [drawn(number) for number in range(40)])
    (tmp_path / ORDERING).mkdir()
    (tmp_path / ORDERING / "000000000").write_text("what a killed process left")
    tables = [*ordered_tables(tmp_path / "shards", np.ones(40, dtype=bool), tmp_path, part_bytes)]
    assert (len(tables) > 1) is (part_bytes < 2**26)
    assert [Sample(**row) for table in tables for row in table.to_pylist()] == samples
    assert not (tmp_path / ORDERING).exists()


@pytest.mark.parametrize("part_bytes", [2**26, 700])
def test_only_wanted_samples_are_put_in_order(tmp_path: Path, part_bytes: int) -> None:
    samples = store(tmp_path / "shards", [drawn(number) for number in range(40)])
    as_stored = [s for path in shard_files(tmp_path / "shards") for s in read_samples(path)]
    keep = np.array([bool(sample.text) for sample in as_stored])
    tables = ordered_tables(tmp_path / "shards", keep, tmp_path, part_bytes)
    kept = [row["seed"] for table in tables for row in table.to_pylist()]
    assert kept == [sample.seed for sample in samples if sample.text]


def test_shards_need_not_agree_on_the_type_of_what_they_hold_none_of(tmp_path: Path) -> None:
    silent, spoken = drawn(0, completion_token_ids=[]), drawn(1, logprobs=[-0.5])
    write_samples(tmp_path / "shards" / "0.parquet", [silent])
    write_samples(tmp_path / "shards" / "1.parquet", [spoken])
    (table,) = ordered_tables(tmp_path / "shards", np.ones(2, dtype=bool), tmp_path)
    assert [Sample(**row) for row in table.to_pylist()] == [silent, spoken]


def test_a_small_corpus_is_the_file_that_earlier_versions_wrote(tmp_path: Path) -> None:
    samples = store(tmp_path / "shards", [drawn(number) for number in range(40)])
    counts = write_corpus(tmp_path, np.ones(40, dtype=bool))
    write_samples(tmp_path / "before.parquet", samples)
    before, after = (tmp_path / name for name in ("before.parquet", "corpus.parquet"))
    assert after.read_bytes() == before.read_bytes()
    assert counts["num_tokens"] == sum(len(sample.completion_token_ids) for sample in samples)
    assert counts["num_samples"] == 40


def test_lengths_and_ids_are_those_of_the_samples_in_however_many_row_groups(
    tmp_path: Path,
) -> None:
    samples = store(tmp_path / "shards", [drawn(number) for number in range(40)])
    lengths = [[len(ids) for ids in sample.training_ids()] for sample in samples]
    schema = common_schema(shard_files(tmp_path / "shards"))
    for num_tokens in (1, 30, 10_000):
        path = tmp_path / f"{num_tokens}.parquet"
        with writing_samples(path, schema) as writer:
            for table in ordered_tables(tmp_path / "shards", np.ones(40, dtype=bool), tmp_path):
                for group in in_groups(table, num_tokens):
                    writer.write(group)
        stored = StoredSamples(path)
        several = stored.files[0].num_row_groups > 1
        assert several is (num_tokens < 10_000)
        assert (LENGTHS in (stored.files[0].metadata.metadata or {})) is several
        assert stored.lengths().tolist() == lengths
        assert [*stored.prompt_ids()] == [sample.prompt_id for sample in samples]
        for row in random.Random(0).sample(range(40), 40):
            assert [ids.tolist() for ids in stored.ids(row)] == [*samples[row].training_ids()]
            assert stored.prompt_id(row) == samples[row].prompt_id
        highest = [max(*prompt, *answer, 0) for prompt, answer in map(Sample.training_ids, samples)]
        reaching = [row for row, _ in stored.reaching(45)]
        assert reaching == [row for row, token_id in enumerate(highest) if token_id >= 45]
        assert not [*stored.reaching(50)]


def test_what_training_uses_instead_is_what_is_read(tmp_path: Path) -> None:
    samples = [
        drawn(n, train_prompt_token_ids=[n, 60], train_completion_token_ids=[70]) for n in range(3)
    ]
    write_samples(tmp_path / "corpus.parquet", samples)
    stored = StoredSamples(tmp_path / "corpus.parquet")
    assert stored.lengths().tolist() == [[2, 1]] * 3
    assert [ids.tolist() for ids in stored.ids(2)] == [[2, 60], [70]]
    assert [row for row, _ in stored.reaching(70)] == [0, 1, 2]


def test_a_group_without_a_number_says_nothing_of_its_highest(tmp_path: Path) -> None:
    write_samples(tmp_path / "corpus.parquet", [drawn(0, completion_token_ids=[])])
    stored = StoredSamples(tmp_path / "corpus.parquet")
    assert [ids.tolist() for ids in stored.ids(0)] == [drawn(0).prompt_token_ids, []]
    assert not [*stored.reaching(50)]


def test_columns_tell_what_is_there_without_the_ids(tmp_path: Path) -> None:
    samples = store(tmp_path / "shards", [drawn(number) for number in range(10)])
    keys = [(sample.prompt_id, sample.sample_index) for sample in samples]
    assert read_keys(tmp_path / "shards") == {*keys}
    assert read_keys(tmp_path / "nothing") == set()
    files = shard_files(tmp_path / "shards")
    assert read_chosen(files, keys[4:6]) == samples[4:6]
    counts = sample_counts(read_outline(files))
    assert counts["num_tokens"] == sum(len(sample.completion_token_ids) for sample in samples)
    assert sum(counts["finish_reasons"].values()) == counts["num_samples"] == 10


def test_a_corpus_of_an_earlier_version_is_read(tmp_path: Path) -> None:
    sample = drawn(1)
    write_samples(tmp_path / "new.parquet", [sample])
    table = pyarrow.parquet.read_table(tmp_path / "new.parquet")
    older = table.drop_columns(["train_prompt_token_ids", "train_completion_token_ids"])
    older = older.append_column("logprob_sum", pyarrow.array([-1.0]))
    (tmp_path / "shards").mkdir()
    pyarrow.parquet.write_table(older, tmp_path / "shards" / "0.parquet")
    stored = StoredSamples(tmp_path / "shards" / "0.parquet")
    assert [ids.tolist() for ids in stored.ids(0)] == [*sample.training_ids()]
    (ordered,) = ordered_tables(tmp_path / "shards", np.ones(1, dtype=bool), tmp_path)
    assert [Sample(**row) for row in ordered.to_pylist()] == [sample]
