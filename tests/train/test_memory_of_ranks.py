"""What a training holds of its corpus: lengths of all samples, ids of those of its next step."""

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest

from ssd.run import Run, lineage

PEAK = """
from pathlib import Path
print([l for l in Path("/proc/self/status").read_text().splitlines() if "VmHWM" in l][0].split()[1])
"""
TRAIN = """
import sys
from pathlib import Path
from ssd.run import load_run
from ssd.train.trainer import train
train(load_run(Path(sys.argv[1])))
"""
CORPUS = """
import sys
from pathlib import Path
import numpy as np
from ssd.sample.corpus import write_corpus
write_corpus(Path(sys.argv[1]), np.ones(int(sys.argv[2]), dtype=bool), part_bytes=2**22)
"""
TOKENS = 500
FEW, MANY = 4_200, 16_800
BOUND = 30
"""MiB. The ids that are more are 49 as an array, and as lists of Python many times as much."""


def peak_mib(code: str, *arguments: str) -> float:
    """The most memory that a process with this code holds."""
    command = [sys.executable, "-c", code + PEAK, *arguments]
    # Arrow's own allocator keeps what is freed, by turns more and less.
    environment = {**os.environ, "ARROW_DEFAULT_MEMORY_POOL": "system"}
    ended = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert ended.returncode == 0, ended.stderr
    return int(ended.stdout.split()[-1]) / 2**10


def answers(first: int, count: int, ids: tuple[int, int]) -> pyarrow.Table:
    rng = np.random.default_rng(first)

    def lists(length: int) -> pyarrow.Array:
        values = rng.integers(*ids, count * length // 10).repeat(10)
        return pyarrow.ListArray.from_arrays(np.arange(count + 1, dtype=np.int32) * length, values)

    return pyarrow.table(
        {
            "prompt_id": [f"p{number}" for number in range(first, first + count)],
            "sample_index": np.zeros(count, dtype=np.int64),
            "seed": np.zeros(count, dtype=np.int64),
            "prompt_token_ids": lists(10),
            "completion_token_ids": lists(TOKENS),
            "text": ["a\nb"] * count,
            "finish_reason": ["stop"] * count,
            "train_prompt_token_ids": pyarrow.nulls(count),
        }
    )


def write(path: Path, tables: list[pyarrow.Table]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with pyarrow.parquet.ParquetWriter(path, tables[0].schema) as writer:
        for table in tables:
            writer.write_table(table)


@pytest.mark.slow
def test_training_on_four_times_as_many_samples_takes_no_more_memory(
    make_run: Callable[..., Run], tmp_path: Path
) -> None:
    peaks = []
    for count in (FEW, MANY):
        run = make_run(
            "train.max_steps=2", "train.global_batch_size=2", "train.seq_len=1024",
            "analyse.live_points=0", f"output_dir={tmp_path}/{count}", name=str(count),
        )  # fmt: skip
        corpus = lineage.corpus(run)
        parts = [answers(first, 600, (0, 256)) for first in range(0, count, 600)]
        with corpus.writing() as folder:
            write(folder / "corpus.parquet", parts)
            corpus.finish(started=time.time(), counts={"num_samples": count})
        peaks.append(peak_mib(TRAIN, str(run.folder)))
    assert peaks[1] - peaks[0] < BOUND


def test_a_corpus_of_four_times_as_many_samples_is_written_in_no_more_memory(
    tmp_path: Path,
) -> None:
    peaks = []
    for count in (FEW, MANY):
        folder = tmp_path / str(count)
        for first in range(0, count, 600):
            write(folder / "shards" / f"{first:05d}.parquet", [answers(first, 600, (300, 9000))])
        peaks.append(peak_mib(CORPUS, str(folder), str(count)))
    assert peaks[1] - peaks[0] < BOUND
