"""The method from one command on every architecture of `model=tiny model.name=NAME`."""

from importlib.util import find_spec
from pathlib import Path

import pytest
from test_pipeline import train_py

from ssd.models.random_init import RANDOM_MODELS


@pytest.mark.slow
@pytest.mark.parametrize("name", RANDOM_MODELS)
def test_one_command_samples_trains_exports_and_evaluates(name: str, tmp_path: Path) -> None:
    # vLLM's module for Qwen3.5 reads images too.
    in_vllm = name != "tiny_qwen35" or find_spec("torchvision") is not None
    printed = train_py(
        tmp_path / "out",
        f"model.name={name}",
        f"sampler={'vllm' if in_vllm else 'transformers'}",
        "logger=none",
        "stages=[sample,train,evaluate,analyse,report]",
        "train.max_steps=2",
    )
    assert "tuned minus it" in printed
    assert "row of its own" not in printed
    assert len(list((tmp_path / "out" / "store" / "checkpoint").iterdir())) == 1
