"""Answers that are on disk, whole or not, when a drawing goes on."""

import os
import time
from pathlib import Path

import pytest
from runs import compose_config

from ssd.artifacts.files import SEALED
from ssd.config.choices import EngineName
from ssd.generation import Request, generate_shards
from ssd.generation.engines import LazyEngine, load_engine
from ssd.method.decoding import Decoding
from ssd.models import Weights
from ssd.records.samples import Sample, read_samples
from ssd.runtime.hardware import resolve

REQUESTS = [
    Request(
        prompt_id=f"p{n}", sample_index=0, seed=n, prompt_token_ids=[65 + n, 66], max_new_tokens=6
    )
    for n in range(6)
]


def test_a_damaged_shard_of_a_half_drawn_corpus_is_drawn_again(
    tmp_path: Path, tiny_weights: Weights, capsys: pytest.CaptureFixture[str]
) -> None:
    config = compose_config("model=tiny", "hardware=cpu")

    def draw(requests: list[Request]) -> list[Sample]:
        engine = LazyEngine(
            lambda: load_engine(
                EngineName.transformers, Path(tiny_weights.path), config.model,
                resolve(config.hardware), max_model_len=64,
            )
        )  # fmt: skip
        with engine:
            generate_shards(
                tmp_path, requests, Decoding(1.0, None, 1.0), engine=engine, shard_size=2, label=""
            )
        return read_samples(tmp_path / "shards")

    whole = draw(REQUESTS)
    shards = sorted((tmp_path / "shards").glob("*.parquet"))
    assert len(whole) == 6 and len(shards) == 3
    for shard, damage in zip(shards, ("cut", "flipped"), strict=False):
        content = bytearray(shard.read_bytes())
        content[len(content) // 2] ^= 1
        shard.write_bytes(content[:-9] if damage == "cut" else content)
        os.utime(shard, (time.time() + 9,) * 2)
    again = draw(REQUESTS)
    assert [(one.prompt_id, one.completion_token_ids) for one in again] == [
        (one.prompt_id, one.completion_token_ids) for one in whole
    ]
    printed = capsys.readouterr().out
    assert str(shards[0]) in printed and str(shards[1]) in printed
    assert "2 of 6 answers are on disk" in printed
    assert len(list((tmp_path / "shards").glob(f".*{SEALED}"))) >= 3
