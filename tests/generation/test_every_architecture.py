"""Every architecture of `model=tiny model.name=NAME` answers in the engines as its network does."""

import os
import subprocess
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
from runs import compose_config
from test_engines import GREEDY, drawn, requests
from transformers import AutoModelForCausalLM

from ssd.config.choices import EngineName
from ssd.errors import HardwareError
from ssd.generation.engines import load_engine
from ssd.models.fetch import fetch
from ssd.models.random_init import RANDOM_MODELS
from ssd.runtime.hardware import resolve

NEEDS_BF16 = "tiny_qwen3_next"
"""vLLM's CPU kernels for a gated delta net compute in bf16 alone."""
SEES = "tiny_qwen35"
"""vLLM's module for it reads images too, with torchvision, which is not installed for CPUs."""
COUNT = 3


def check(name: str, engine_name: str, dtype: str = "float32") -> None:
    """Greedy answers are the network's own argmax, or within bf16's rounding of it."""
    config = compose_config("model=tiny", f"model.name={name}", f"model.dtype={dtype}")
    folder = Path(fetch(config.model).path)
    network: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    # Before vLLM starts, whose backend for transformers' models changes their classes.
    kind = type(network.get_decoder())
    own_call = kind.__call__
    hardware = resolve(config.hardware)
    with load_engine(
        EngineName(engine_name), folder, config.model, hardware, max_model_len=512
    ) as engine:
        answers = drawn(engine, requests(COUNT), GREEDY)
    kind.__call__ = own_call
    compare(network, answers, 1e-3 if dtype == "float32" else 0.05)


@torch.no_grad()
def compare(network: Any, answers: Sequence[Any], tolerance: float) -> None:
    for request, completion in zip(requests(COUNT), answers, strict=True):
        ids = torch.tensor([request.prompt_token_ids + completion.token_ids])
        scores = network(input_ids=ids).logits[0, len(request.prompt_token_ids) - 1 : -1]
        logprobs = scores.log_softmax(-1)
        chosen = logprobs.gather(-1, torch.tensor(completion.token_ids)[:, None])[:, 0]
        assert completion.logprobs.logprobs == pytest.approx(chosen.tolist(), abs=tolerance)
        assert (logprobs.max(-1).values - chosen).max() <= 2 * tolerance


@pytest.mark.parametrize("name", RANDOM_MODELS)
def test_the_transformers_engine_answers_as_the_network_does(name: str) -> None:
    check(name, "transformers")


def test_vllm_on_cpu_refuses_a_hybrid_in_fp32_before_it_starts() -> None:
    with pytest.raises(HardwareError, match=r"model\.dtype=float32.*sampler=transformers"):
        check(NEEDS_BF16, "vllm")


@pytest.mark.slow
@pytest.mark.parametrize("name", RANDOM_MODELS)
def test_vllm_loads_it_and_answers_as_the_network_does(name: str) -> None:
    if name == SEES and find_spec("torchvision") is None:
        pytest.skip("vLLM's module for Qwen3.5 needs torchvision")
    dtype = "bfloat16" if name == NEEDS_BF16 else "float32"
    # In a process of its own: an engine in this one leaves groups that others do not expect.
    arguments = [sys.executable, __file__, name, "vllm", dtype]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(arguments, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr


if __name__ == "__main__":
    check(*sys.argv[1:])
