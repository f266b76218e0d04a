"""A real vLLM server that draws a run's corpus: the offline engine's tokens, and nothing lost when
the server is killed or the run is stopped."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest
from runs import ROOT, compose_config
from servers import SECONDS, free_port, vllm_server
from test_engines import SAMPLED, drawn, requests

from ssd.artifacts.files import read_json
from ssd.config.choices import EngineName
from ssd.generation.engines import load_engine
from ssd.method.decoding import Decoding
from ssd.models import Weights
from ssd.records.samples import Sample, read_samples
from ssd.runtime.hardware import resolve

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3000)]


def command(out: Path, *more: str) -> list[str]:
    return [
        sys.executable, str(ROOT / "train.py"), "model=tiny", "logger=none", "stages=[sample]",
        "model.dtype=float32", "hardware=cpu", "sampler.filters=[]", f"output_dir={out}", *more,
    ]  # fmt: skip


def only_corpus(out: Path) -> tuple[Path, dict[str, Sample]]:
    (file,) = out.glob("store/corpus/*/corpus.parquet")
    return file.parent, {sample.prompt_id: sample for sample in read_samples(file)}


def test_with_the_same_seeds_a_server_draws_the_offline_engines_tokens(
    vllm_url: str, tiny_weights: Weights
) -> None:
    config = compose_config("model=tiny", "model.dtype=float32", f"sampler.url={vllm_url}")
    answers = {}
    for name in (EngineName.vllm, EngineName.openai):
        start = name, Path(tiny_weights.path), config.model, resolve(config.hardware)
        with load_engine(*start, max_model_len=512, sampler=config.sampler) as engine:
            answers[name] = [
                completion
                for how in (SAMPLED, Decoding(temp=0.7, top_p=0.9), Decoding(temp=1.0))
                for completion in drawn(engine, requests(24), how)
            ]
    for offline, served in zip(*answers.values(), strict=True):
        assert served.token_ids == offline.token_ids
        assert served.finish_reason == offline.finish_reason
        assert served.logprobs.logprobs == pytest.approx(offline.logprobs.logprobs, abs=1e-4)
        assert served.logprobs.topk_token_ids == offline.logprobs.topk_token_ids


def test_a_run_records_the_server_that_drew_its_corpus(vllm_url: str, tmp_path: Path) -> None:
    out = tmp_path / "out"
    few = ("data.limit=8", "sampler.max_new_tokens=16", "sampler.logprobs=2")
    served = command(out, *few, "sampler=openai", f"sampler.url={vllm_url}")
    subprocess.run(served, check=True, cwd=tmp_path)
    folder, samples = only_corpus(out)
    server = read_json(folder / "manifest.json")["server"]
    assert server["version"].startswith("0.") and server["root"].endswith("model")
    assert server["weights_distance"] < 1e-4
    assert len(samples) == 8
    # The same run from a server elsewhere is up to date.
    again = [*served, "sampler.url=http://127.0.0.1:9/v1", "sampler.max_concurrency=2"]
    assert (
        "up to date"
        in subprocess.run(again, check=True, cwd=tmp_path, capture_output=True, text=True).stdout
    )


def test_the_base_models_answers_come_from_the_server_and_the_tuned_models_from_here(
    vllm_url: str, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    few = ("data.limit=8", "sampler.max_new_tokens=16", "train.max_steps=2", "train.warmup_steps=1",
           "eval.benchmarks=[mbpp]", "eval.limit=2", "eval.max_new_tokens=16",
           "stages=[sample,train,evaluate]")  # fmt: skip
    served = command(out, *few, "sampler=openai", f"sampler.url={vllm_url}")
    done = subprocess.run(served, check=True, cwd=tmp_path, capture_output=True, text=True)
    assert "vllm here draws for tuned" in done.stdout
    manifests = [read_json(file) for file in out.glob("store/generations/*/manifest.json")]
    assert sorted(
        (manifest["inputs"]["engine"], "server" in manifest) for manifest in manifests
    ) == [
        ("openai", True),
        ("vllm", False),
    ]


def test_a_corpus_is_whole_though_the_server_was_killed_twice_and_the_run_interrupted(
    tiny_weights: Weights, tmp_path: Path
) -> None:
    out, port = tmp_path / "out", free_port()
    url = f"sampler.url=http://127.0.0.1:{port}/v1"
    much = ("data.limit=48", "sampler.max_new_tokens=512", "sampler.shard_size=4")
    served = command(out, *much, "sampler=openai", "sampler.max_concurrency=4", url)
    start = Path(tiny_weights.path), tmp_path / "log", port, "--max-model-len", "4096"

    def num_drawn() -> int:
        return sum(len(read_samples(file)) for file in out.glob("store/corpus/*/shards/*.parquet"))

    def draw(disturb: Callable[[subprocess.Popen[str]], None], *more: str) -> tuple[int, str]:
        before = num_drawn()
        running = subprocess.Popen(
            [*served, *more], cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            text=True, start_new_session=True,
        )  # fmt: skip
        started = time.monotonic()
        while num_drawn() < before + 4 and running.poll() is None:
            assert time.monotonic() - started < SECONDS
            time.sleep(0.05)
        disturb(running)
        printed, _ = running.communicate(timeout=SECONDS)
        return running.returncode, printed

    with vllm_server(*start) as server:
        code, printed = draw(lambda _: kill_tree(server), "sampler.retry_seconds=1")
    assert code == 3 and "the same command goes on" in printed, printed
    assert "Traceback" not in printed
    assert 4 <= num_drawn() < 48
    with vllm_server(*start) as server:
        code, printed = draw(lambda running: os.killpg(running.pid, signal.SIGINT))
        assert code == 130 and "interrupted" in printed, printed
        assert num_drawn() < 48

        with ExitStack() as later:  # the second server, started while the run goes on

            def restart(_: object) -> None:
                kill_tree(server)
                later.enter_context(vllm_server(*start))

            code, printed = draw(restart)
    assert code == 0, printed
    _, samples = only_corpus(out)
    offline = tmp_path / "offline"
    subprocess.run(command(offline, *much), check=True, cwd=tmp_path)
    _, expected = only_corpus(offline)
    assert {name: sample.completion_token_ids for name, sample in samples.items()} == {
        name: sample.completion_token_ids for name, sample in expected.items()
    }


def kill_tree(process: subprocess.Popen[str]) -> None:
    """Kill a server and its engine, as a machine that goes away does."""
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    for pid in (process.pid, *map(int, children)):
        os.kill(pid, signal.SIGKILL)
    process.wait()
