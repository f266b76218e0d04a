"""Answers that are on disk, whole or not, when a drawing goes on."""

import dataclasses
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from runs import compose_config

from ssd.artifacts.files import SEALED
from ssd.config.choices import EngineName
from ssd.generation import Part, Request, generate_queue, generate_shards
from ssd.generation.engines import LazyEngine, load_engine
from ssd.generation.transformers_engine import TransformersEngine
from ssd.method.decoding import Decoding
from ssd.models import Weights
from ssd.records.samples import Sample, read_samples
from ssd.runtime.hardware import resolve

REQUESTS = [
    Request(
        prompt_id=f"p{n}",
        sample_index=0,
        seed=n,
        prompt_token_ids=[65 + n, 66],
        max_new_tokens=6,
        decoding=Decoding(1.0),
    )
    for n in range(6)
]


@pytest.fixture
def start(tiny_weights: Weights) -> Callable[[], LazyEngine]:
    """Engines in fp32, in which a row's sums do not depend on the other rows."""
    config = compose_config("model=tiny", "hardware=cpu", "model.dtype=float32")
    return lambda: LazyEngine(
        lambda: load_engine(
            EngineName.transformers, Path(tiny_weights.path), config.model,
            resolve(config.hardware), max_model_len=64,
        )
    )  # fmt: skip


def under(decoding: Decoding) -> list[Request]:
    return [dataclasses.replace(request, decoding=decoding) for request in REQUESTS]


def answers(folder: Path) -> dict[str, list[int]]:
    paths = sorted((folder / "shards").glob("*.parquet"))
    samples = [sample for path in paths for sample in read_samples(path)]
    return {sample.prompt_id: sample.completion_token_ids for sample in samples}


def test_settings_that_ask_for_the_same_are_one_queue_and_keep_their_own_answers(
    tmp_path: Path, start: Callable[[], LazyEngine], monkeypatch: pytest.MonkeyPatch
) -> None:
    decodings = [Decoding(0.0), Decoding(1.5), Decoding(1.5, top_k=3), Decoding(1.5)]
    for number, decoding in enumerate(decodings):
        with start() as engine:
            options = {"engine": engine, "shard_size": 4, "label": ""}
            generate_shards(tmp_path / f"alone{number}", under(decoding), **options)

    asked: list[list[Request]] = []
    generate = TransformersEngine.generate

    def counted(self: TransformersEngine, requests: list[Request], **options: Any) -> Any:
        asked.append(list(requests))
        return generate(self, requests, **options)

    monkeypatch.setattr(TransformersEngine, "generate", counted)
    parts = [
        Part(tmp_path / f"together{number}", under(decoding))
        for number, decoding in enumerate(decodings)
    ]
    with start() as engine:
        whole = list(generate_queue(parts, engine=engine, shard_size=4, label=""))
    assert [len(requests) for requests in asked] == [len(decodings) * len(REQUESTS)]
    assert [number for number, _ in whole] == [0, 1, 2, 3]
    assert [facts["engine_start_seconds"] for _, facts in whole][1:] == [0, 0, 0]
    for number in range(len(decodings)):
        own = answers(tmp_path / f"together{number}")
        assert own == answers(tmp_path / f"alone{number}")
    assert len({str(answers(part.folder)) for part in parts}) == 3


def test_a_queue_that_breaks_off_goes_on_with_what_every_part_still_lacks(
    tmp_path: Path, start: Callable[[], LazyEngine]
) -> None:
    parts = [Part(tmp_path / str(temp), under(Decoding(temp))) for temp in (0.5, 1.0, 1.5)]
    with start() as engine:
        queue = generate_queue(parts, engine=engine, shard_size=2, label="")
        assert next(queue)[0] == 0
        queue.close()  # as when what was whole cannot be used
    before = {part.folder: answers(part.folder) for part in parts}
    assert [len(drawn) for drawn in before.values()] == [6, 0, 0]
    with start() as engine:
        generate_shards(
            parts[1].folder, parts[1].requests[:3], engine=engine, shard_size=2, label=""
        )
    with start() as engine:
        queue = generate_queue(parts, engine=engine, shard_size=2, label="")
        rates = {number: facts["tokens_per_second"] for number, facts in queue}
    assert list(rates) == [0, 1, 2] and rates[0] is None and None not in (rates[1], rates[2])
    assert all(len(answers(part.folder)) == 6 for part in parts)


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
            generate_shards(tmp_path, requests, engine=engine, shard_size=2, label="")
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
