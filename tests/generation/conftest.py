"""A real server of the OpenAI protocol, started once for the tests that ask for it."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from servers import free_port, vllm_server

from ssd.models import Weights

OWN_DEFAULTS = {"temperature": 0.1, "top_k": 1, "repetition_penalty": 2.0, "min_p": 0.5}
"""What a server would draw by where a request leaves it out."""


@pytest.fixture(scope="session")
def vllm_url(tiny_weights: Weights, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of vLLM's server, on the CPU in fp32, of the tiny model; its
    generation_config.json asks for another decoding than any request."""
    folder = tmp_path_factory.mktemp("served")
    model = Path(shutil.copytree(tiny_weights.path, folder / "model"))
    defaults = json.loads((model / "generation_config.json").read_text()) | OWN_DEFAULTS
    (model / "generation_config.json").write_text(json.dumps(defaults))
    port = free_port()
    with vllm_server(model, folder / "log", port, "--max-model-len", "4096"):
        yield f"http://127.0.0.1:{port}/v1"
