"""Engines side by side: real processes, which are killed, stopped and asked for what ends them."""

import dataclasses
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from runs import compose_config

from ssd.errors import HardwareError
from ssd.generation import Request, generate_shards
from ssd.generation.engines import LazyEngine, start_engine
from ssd.generation.local_replica import divide, part_of
from ssd.generation.messages import Load
from ssd.generation.replicas import Replicas
from ssd.generation.requests import request_seed
from ssd.method.decoding import Decoding
from ssd.models import Weights
from ssd.records.samples import read_samples
from ssd.run import Run, lineage
from ssd.runtime.hardware import resolve

SAMPLED = Decoding(temp=1.2, top_k=20, top_p=0.8)
Answers = dict[tuple[str, int], list[int]]

two_cores = pytest.mark.skipif(
    len(os.sched_getaffinity(0)) < 2, reason="each replica needs a core of its own"
)


@pytest.fixture(autouse=True)
def logs_go_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))


def requests(count: int, max_new_tokens: int = 24) -> list[Request]:
    return [
        Request(
            prompt_id=f"p{i // 2}",
            sample_index=i % 2,
            prompt_token_ids=[(i * 31 + j) % 256 for j in range(5 + i % 7)],
            seed=request_seed(0, f"p{i // 2}", i % 2),
            max_new_tokens=max_new_tokens,
            decoding=SAMPLED,
        )
        for i in range(count)
    ]


def name(request: Request) -> tuple[str, int]:
    return request.prompt_id, request.sample_index


def load(weights: Weights, *overrides: str) -> Load:
    """fp32: in bf16 a row's sums depend on how many rows are multiplied with it."""
    config = compose_config("model=tiny", "model.dtype=float32", "hardware=cpu", *overrides)
    return Load(
        name=config.sampler.engine,
        folder=Path(weights.path),
        model=config.model,
        hardware=resolve(config.hardware),
        max_model_len=512,
        adapter=None,
    )


def replicas(start: Load, **options: Any) -> Replicas:
    here = dataclasses.replace(start, hardware=part_of(start.hardware))
    return Replicas(divide(start.hardware), here, **options)


def drawn(engine: Any, asked: list[Request], on_answer: Callable[[int], None] | None = None) -> Any:
    ticks: list[int] = []
    answers: Answers = {}
    for request, answer in engine.generate(asked, logprobs=None, tick=ticks.append):
        answers[request.prompt_id, request.sample_index] = answer.token_ids
        if on_answer is not None:
            on_answer(len(answers))
    assert sum(ticks) == sum(map(len, answers.values()))
    return answers


def pids(engine: Replicas) -> list[int]:
    return [replica.worker.companion.process.pid for replica in engine.replicas]  # type: ignore[attr-defined]


@pytest.mark.slow
@two_cores
def test_a_corpus_of_two_replicas_one_of_them_killed_is_that_of_one(
    tiny_weights: Weights, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    one = load(tiny_weights, "sampler=transformers", "hardware.max_num_seqs=4")
    two = dataclasses.replace(one, hardware=dataclasses.replace(one.hardware, replicas=2))
    with start_engine(one) as engine:
        expected = drawn(engine, requests(48))
    with LazyEngine(lambda: replicas(two)) as lazy:
        engine = lazy.get()
        before = pids(engine)

        def kill(number: int) -> None:
            if number == 3:
                os.kill(before[0], signal.SIGKILL)

        asked = requests(40)
        assert drawn(engine, asked, kill) == {
            name(request): expected[name(request)] for request in asked
        }
        generate_shards(tmp_path, asked[:20], engine=lazy, shard_size=8, label="two")
    printed = capfd.readouterr().out
    assert "SIGKILL" in printed and "2 sequences at once" in printed
    with LazyEngine(lambda: start_engine(one)) as lazy:
        generate_shards(tmp_path, requests(48), engine=lazy, shard_size=8, label="one")
    samples = read_samples(tmp_path / "shards")
    assert len(samples) == 48
    assert {(s.prompt_id, s.sample_index): s.completion_token_ids for s in samples} == expected


@pytest.mark.slow
@two_cores
def test_vllms_answers_do_not_depend_on_the_number_of_replicas(tiny_weights: Weights) -> None:
    one = load(tiny_weights)
    two = load(tiny_weights, "hardware.replicas=2")
    with start_engine(one) as engine:
        expected = drawn(engine, requests(48))
    with start_engine(two) as engine:
        assert drawn(engine, requests(48)) == expected
        assert drawn(engine, requests(48)[::-1]) == expected  # again, in another order


@pytest.mark.slow
@two_cores
def test_vllms_own_process_that_is_killed_is_started_again(
    tiny_weights: Weights, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("VLLM_ENABLE_V1_MULTIPROCESSING", "1")
    asked = requests(120, max_new_tokens=100)
    with start_engine(load(tiny_weights)) as engine:
        expected = drawn(engine, asked)
    start = load(tiny_weights, "hardware.replicas=2", "hardware.max_num_seqs=4")
    with replicas(start) as engine:

        def kill_core(number: int) -> None:
            if number == 1:
                cores = [pid for pid in descendants(pids(engine)[0]) if "VLLM" in name_of(pid)]
                os.kill(cores[0], signal.SIGKILL)

        assert drawn(engine, asked, kill_core) == expected
    assert "process died" in capfd.readouterr().out


@pytest.mark.slow
@two_cores
def test_a_replica_that_stands_still_is_started_again(
    tiny_weights: Weights, capfd: pytest.CaptureFixture[str]
) -> None:
    start = load(tiny_weights, "sampler=transformers", "hardware.replicas=2")
    with replicas(start, silent_seconds=5.0) as engine:
        expected = drawn(engine, requests(60))

        def stop(number: int) -> None:
            if number == 1:
                os.kill(pids(engine)[0], signal.SIGSTOP)

        assert drawn(engine, requests(60), stop) == expected
    assert "silent for" in capfd.readouterr().out


@pytest.mark.slow
@two_cores
def test_a_request_that_ends_every_engine_is_named_and_all_others_are_on_disk(
    tiny_weights: Weights, tmp_path: Path
) -> None:
    start = load(
        tiny_weights, "sampler=transformers", "hardware.replicas=2", "hardware.max_num_seqs=2"
    )
    poison = dataclasses.replace(requests(1)[0], prompt_id="poison", prompt_token_ids=[10**6])
    asked = [*requests(12), poison, *requests(24)[12:]]
    with (
        LazyEngine(lambda: start_engine(start)) as engine,
        pytest.raises(HardwareError, match=r"1 request.* poison \(sample 0\)"),
    ):
        generate_shards(tmp_path, asked, engine=engine, shard_size=100, label="poison")
    assert len(read_samples(tmp_path / "shards")) == 24


@pytest.mark.slow
@two_cores
def test_a_place_where_no_engine_starts_leaves_the_others_working(
    tiny_weights: Weights, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    start = load(tiny_weights, "sampler=transformers", "hardware.replicas=2")
    good, bad = divide(start.hardware)
    (tmp_path / "torch.py").write_text("raise ImportError('no torch is here')")
    environment = {**bad.environment, "PYTHONPATH": str(tmp_path)}
    broken = dataclasses.replace(bad, environment=environment)
    here = dataclasses.replace(start, hardware=part_of(start.hardware))
    with Replicas([good, broken], here) as engine:
        assert len(drawn(engine, requests(200, max_new_tokens=200))) == 200
        assert len(engine.replicas) == 1
    printed = capfd.readouterr().out
    assert "is left out" in printed and "replica 1" in printed
    log = Path(printed.split("left out")[0].split("its log: ")[-1].split(")")[0])
    assert "Error" in log.read_text()


@pytest.mark.slow
@two_cores
def test_an_engine_that_starts_nowhere_says_why_in_one_line(tiny_weights: Weights) -> None:
    start = load(tiny_weights, "hardware.replicas=2")
    with pytest.raises(HardwareError, match="could not load"):
        start_engine(dataclasses.replace(start, max_model_len=10**9))


@pytest.mark.slow
@two_cores
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("sampler", ["transformers", "vllm"])
def test_replicas_end_with_their_stage(
    number: signal.Signals, sampler: str, make_run: Callable[..., Run]
) -> None:
    run = make_run(
        f"sampler={sampler}", "hardware.replicas=2", "data.limit=64", "sampler.max_new_tokens=400",
        "sampler.shard_size=4", "sampler.filters=[]",
    )  # fmt: skip
    command = [sys.executable, "-m", "ssd.sample", str(run.folder)]
    stage = subprocess.Popen(command, start_new_session=True)
    shards = lineage.corpus(run).folder / "shards"
    while not list(shards.glob("*.parquet")):
        assert stage.poll() is None
        time.sleep(0.1)
    started = descendants(stage.pid)
    assert len(started) >= 2
    os.killpg(stage.pid, number) if number == signal.SIGINT else stage.send_signal(number)
    stage.wait(30)
    latest = time.monotonic() + 60
    while any(is_alive(pid) for pid in started):
        assert time.monotonic() < latest, [name_of(pid) for pid in started if is_alive(pid)]
        time.sleep(0.2)


def descendants(pid: int) -> list[int]:
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [found for child in map(int, children) for found in (child, *descendants(child))]


def name_of(pid: int) -> str:
    return Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ")


def is_alive(pid: int) -> bool:
    status = Path(f"/proc/{pid}/stat")
    return status.is_file() and status.read_text().rpartition(")")[2].split()[0] != "Z"
