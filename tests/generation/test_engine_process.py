"""vLLM's engine as a process of its own, as it is on every GPU, here on the CPU."""

import dataclasses
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from runs import ROOT, compose_config

from ssd.generation import Request
from ssd.generation.engine import Engine
from ssd.generation.engines import load_engine
from ssd.generation.vllm_log import find_cause
from ssd.generation.vllm_memory import CPU_BLOCK, GPU_BLOCK
from ssd.method.decoding import Decoding
from ssd.models import Weights
from ssd.runtime.hardware import resolve

DRAW = """
import multiprocessing, sys
from pathlib import Path
from test_engine_process import answers, start

def main():
    with start(Path(sys.argv[1]), *(word for word in sys.argv[2:] if "=" in word)) as engine:
        print("children", len(multiprocessing.active_children()))
        scratch = Path(engine.scratch.name)
        print("with sockets", any(path.is_socket() for path in scratch.iterdir()))
        print("blocks", engine.llm.llm_engine.vllm_config.cache_config.num_gpu_blocks)
        if "dies" in sys.argv:
            engine.llm.llm_engine.engine_core.resources.engine_manager.processes[0].kill()
        print(*answers(engine), sep="\\n")
    print("children left", len(multiprocessing.active_children()))
    print("scratch left", scratch.exists())

if __name__ == "__main__":
    main()
"""
EXIT_HANDLER = "import weakref\nweakref.finalize(type('Early', (), {}), print)\n"
"""Made before multiprocessing is imported, it makes multiprocessing's exit handler run first, which
waits for children: an engine that nobody ended would be waited for for ever."""
CPU, GPU = ("hardware=cpu", "model.dtype=float32"), ("hardware=gpu_1",)
SECONDS = 240
"""An engine that has not ended by then never does."""


def start(folder: Path, *overrides: str) -> Engine:
    config = compose_config("model=tiny", *overrides)
    hardware = dataclasses.replace(resolve(config.hardware), max_num_seqs=16)
    return load_engine(config.sampler.engine, folder, config.model, hardware, max_model_len=64)


def answers(engine: Engine) -> list[str]:
    """A line for each of four requests."""
    decoding = Decoding(temp=1.2, top_k=20, top_p=0.8)
    requests = [Request(f"p{i}", 0, list(range(5 + i)), i, 12, decoding) for i in range(4)]
    drawn = engine.generate(requests, logprobs=None, tick=lambda _: None)
    by_seed = {request.seed: completion.token_ids for request, completion in drawn}
    return [f"answer {by_seed[seed]}" for seed in sorted(by_seed)]


def interpreters() -> list[str]:
    """This Python, and another with the same packages where $SSD_OTHER_PYTHON names one."""
    return [sys.executable, *filter(None, [os.environ.get("SSD_OTHER_PYTHON")])]


def draw(
    python: str, folder: Path, scratch: Path, *more: str, code: int = 0,
    settings: tuple[str, ...] = CPU,
) -> subprocess.CompletedProcess[str]:  # fmt: skip
    (scratch / "sitecustomize.py").write_text(EXIT_HANDLER)
    (scratch / "draw.py").write_text(DRAW)
    paths = [str(scratch), str(ROOT / "src"), str(ROOT / "tests"), str(Path(__file__).parent)]
    paths += filter(None, [os.environ.get("PYTHONPATH")])  # vLLM may be installed by it
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(paths),
        "VLLM_ENABLE_V1_MULTIPROCESSING": "1",
        "TMPDIR": str(scratch),  # whose name is too long for sockets
    }
    ended = subprocess.run(
        [python, str(scratch / "draw.py"), str(folder), *settings, *more],
        env=environment, capture_output=True, text=True, check=False, timeout=SECONDS,
    )  # fmt: skip
    assert ended.returncode == code, ended.stderr
    return ended


@pytest.mark.slow
@pytest.mark.parametrize("python", interpreters())
def test_an_engine_in_its_own_process_ends_with_its_context(
    python: str, tiny_weights: Weights, tmp_path: Path
) -> None:
    # That this returns shows that the process ends.
    folder = Path(tiny_weights.path)
    lines = draw(python, folder, tmp_path).stdout.splitlines()
    with start(folder, *CPU) as here:
        expected = answers(here)
    assert len(expected) == 4
    assert [line for line in lines if line.startswith("answer")] == expected
    assert [line for line in lines if "children" in line] == ["children 1", "children left 0"]
    assert {"with sockets True", "scratch left False"} <= set(lines)
    assert f"blocks {16 * 64 // CPU_BLOCK + 1}" in lines


@pytest.mark.gpu
def test_on_a_gpu_the_engine_ends_and_its_cache_is_no_larger_than_it_can_use(
    tiny_weights: Weights, tmp_path: Path
) -> None:
    ended = draw(sys.executable, Path(tiny_weights.path), tmp_path, settings=GPU)
    printed = ended.stdout.splitlines()
    assert len([line for line in printed if line.startswith("answer")]) == 4
    assert [line for line in printed if "children" in line] == ["children 1", "children left 0"]
    assert f"blocks {16 * 64 // GPU_BLOCK + 1}" in printed


@pytest.mark.slow
def test_an_engine_that_fails_says_why_in_one_line(tiny_weights: Weights, tmp_path: Path) -> None:
    broken = Path(shutil.copytree(tiny_weights.path, tmp_path / "broken"))
    weights = broken / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1000])
    ended = draw(sys.executable, broken, tmp_path, code=1)
    last = ended.stderr.splitlines()[-1]
    assert "SafetensorError" in last
    assert "See root cause" not in last
    log = Path(last.split("vLLM's log: ")[1].split(")")[0])
    assert "Traceback" in log.read_text()
    log.unlink()
    assert "Process EngineCore" not in ended.stderr


@pytest.mark.slow
def test_an_engine_that_is_killed_while_it_draws_is_noticed(
    tiny_weights: Weights, tmp_path: Path
) -> None:
    # That this returns shows that nothing waits for the dead process.
    ended = draw(sys.executable, Path(tiny_weights.path), tmp_path, "dies", code=1)
    last = ended.stderr.splitlines()[-1]
    assert "HardwareError" in last
    assert "want of main memory" in last
    Path(last.split("vLLM's log: ")[1].split(")")[0]).unlink()


def test_the_cause_is_the_last_exception_that_points_at_no_other(tmp_path: Path) -> None:
    log = tmp_path / "vllm.log"
    log.write_text(
        "loading\n"
        "(Worker pid=7) ERROR 11-27 07:51:45 [multiproc.py:9] Traceback (most recent call last):\n"
        "(Worker pid=7) ERROR 11-27 07:51:45 [multiproc.py:9] torch.OutOfMemoryError: 20 GiB\n"
        "(EngineCore pid=5) ERROR 11-27 07:51:45 [core.py:1] Exception: WorkerProc initialization "
        "failed due to an exception. See stack trace for root cause.\n"
        "RuntimeError: Engine core initialization failed. See root cause above.\n"
    )
    assert find_cause(log) == "torch.OutOfMemoryError: 20 GiB"
    log.write_text("nothing failed\n")
    assert find_cause(log) is None
