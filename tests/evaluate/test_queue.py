"""All answers of a model as one queue through its engine."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from ssd.arms import BASE
from ssd.evaluate.generate import answer, benchmark_requests, generate
from ssd.evaluate.selection import Job, list_jobs
from ssd.generation.engines import run_engine
from ssd.generation.transformers_engine import TransformersEngine
from ssd.method.decoding import Setting
from ssd.models.chat import load_tokenizer
from ssd.records.samples import read_samples
from ssd.run import Run
from ssd.run.protocol import ALL

FP32 = ("sampler=transformers", "hardware=cpu", "model.dtype=float32", "eval.limit=3")
SIZES = ("eval.num_samples=2", "eval.k=[1]", "eval.max_new_tokens=12")
BENCHMARKS = ("humaneval", "mbpp")


def jobs() -> list[Job]:
    return [Job(BASE, name, ALL, Setting(temp)) for temp in (0.5, 1.1) for name in BENCHMARKS]


def answer_jobs(run: Run, asked: list[Job]) -> None:
    tokenizer = load_tokenizer(run.weights.path)
    requests = {(name, ALL): benchmark_requests(run, name, ALL, tokenizer) for name in BENCHMARKS}
    with run_engine(run, BASE, max_model_len=None) as engine:
        answer(run, asked, requests, engine)


def stored(run: Run, job: Job) -> dict[tuple[str, int], list[int]]:
    samples = read_samples(job.generations(run).folder / "shards")
    return {(s.prompt_id, s.sample_index): s.completion_token_ids for s in samples}


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Grows by one with every call of the engine."""
    counted, draw = list[int](), TransformersEngine.generate

    def count(self: TransformersEngine, *arguments: Any, **options: Any) -> Iterator[Any]:
        counted.append(1)
        return draw(self, *arguments, **options)

    monkeypatch.setattr(TransformersEngine, "generate", count)
    return counted


def test_temperatures_and_benchmarks_are_one_call_with_the_answers_of_separate_ones(
    make_run: Callable[..., Run], calls: list[int], tmp_path: Path
) -> None:
    together, apart = (
        make_run(*FP32, *SIZES, "eval=humaneval_mbpp", f"output_dir={tmp_path / name}")
        for name in ("together", "apart")
    )
    answer_jobs(together, jobs())
    assert len(calls) == 1
    for job in jobs():
        answer_jobs(apart, [job])
    assert len(calls) == 1 + 4
    for job in jobs():
        assert len(stored(together, job)) == 6
        assert stored(together, job) == stored(apart, job)
        manifests = [job.generations(run).manifest() for run in (together, apart)]
        same = ("inputs", "fingerprint", "counts", "decoding", "computed_in")
        for field in same:
            assert manifests[0][field] == manifests[1][field]
        assert set(manifests[0]) == set(manifests[1])


def test_a_job_that_another_process_writes_is_answered_after_the_others(
    make_run: Callable[..., Run], calls: list[int]
) -> None:
    run = make_run(*FP32, *SIZES, "eval=humaneval_mbpp")
    first, *others = jobs()
    code = (
        "import sys, time; from pathlib import Path; from ssd.artifacts.locks import holding\n"
        "folder = Path(sys.argv[1])\n"
        "with holding(folder / '.lock', folder):\n"
        "    print('held', flush=True)\n"
        "    while not Path(sys.argv[2]).is_file(): time.sleep(0.05)\n"
    )
    folders = [job.generations(run).folder for job in (first, others[-1])]
    command = [sys.executable, "-c", code, str(folders[0]), str(folders[1] / "manifest.json")]
    with ExitStack() as processes:
        holder = processes.enter_context(subprocess.Popen(command, stdout=subprocess.PIPE))
        assert holder.stdout is not None and holder.stdout.readline() == b"held\n"
        answer_jobs(run, [first, *others])
    assert len(calls) == 2
    assert all(job.generations(run).done for job in jobs())


@pytest.mark.slow
def test_a_queue_killed_in_the_middle_keeps_whole_jobs_and_goes_on(
    make_run: Callable[..., Run], tmp_path: Path
) -> None:
    sizes = ("eval.num_samples=16", "eval.k=[1]", "eval.max_new_tokens=40", "eval.shard_size=8")
    settings = (*FP32, *sizes, "eval=humaneval_mbpp")
    killed = make_run(*settings, f"output_dir={tmp_path / 'killed'}")
    asked = list_jobs(killed, BASE)
    first, second = (job.generations(killed) for job in asked)
    command = [sys.executable, "-m", "ssd.evaluate.generate", str(killed.folder), BASE]
    with subprocess.Popen(command) as process:
        while not list((second.folder / "shards").glob("*.parquet")) and process.poll() is None:
            time.sleep(0.01)
        os.kill(process.pid, signal.SIGKILL)
    assert first.done and not second.done
    kept = len(read_samples(second.folder / "shards"))
    assert 0 < kept < 48
    generate(killed, BASE)
    whole = make_run(*settings, f"output_dir={tmp_path / 'whole'}")
    generate(whole, BASE)
    for job in asked:
        assert job.generations(killed).done
        assert stored(killed, job) == stored(whole, job)
