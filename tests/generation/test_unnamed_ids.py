"""Ids that no token has, on the tiny model with 41 rows more than its tokenizer knows."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from runs import compose_config
from safetensors.torch import load_file, save_file
from servers import free_port, vllm_server
from test_engines import GREEDY, LOCAL, drawn, requests
from transformers import AutoModelForCausalLM

from ssd.config.choices import EngineName
from ssd.generation.engine import Engine
from ssd.generation.engines import load_engine
from ssd.method.decoding import Decoding
from ssd.models import Weights
from ssd.models.vocabulary import unnamed_ids
from ssd.runtime.hardware import resolve

WHOLE = Decoding(temp=2.0)
TOKENS, ROWS = 259, 300


@pytest.fixture(scope="module")
def padded(tiny_weights: Weights, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Rows without a token are twenty times as long as others, and mostly hold the argmax."""
    folder = tmp_path_factory.mktemp("padded") / "model"
    shutil.copytree(tiny_weights.path, folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"vocab_size": ROWS}))
    tensors = load_file(folder / "model.safetensors")
    rows = tensors["model.embed_tokens.weight"]
    more = torch.randn(ROWS - TOKENS, rows.shape[1], generator=torch.Generator().manual_seed(0))
    more = (20 * more * rows.std()).to(rows.dtype)
    tensors["model.embed_tokens.weight"] = torch.cat([rows, more])
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def test_the_rows_that_no_token_has_are_known(padded: Path, tiny_weights: Weights) -> None:
    assert unnamed_ids(padded) == tuple(range(TOKENS, ROWS))
    assert unnamed_ids(Path(tiny_weights.path)) == ()


@pytest.mark.parametrize("name", LOCAL)
def test_no_engine_draws_an_id_without_a_token_and_log_probabilities_stay_the_models(
    name: EngineName, padded: Path
) -> None:
    config = compose_config("model=tiny", "model.dtype=float32")
    hardware = resolve(config.hardware)
    with load_engine(name, padded, config.model, hardware, max_model_len=512) as engine:
        require_named(engine, padded)


@pytest.mark.slow
def test_a_server_draws_no_id_without_a_token_either(padded: Path, tmp_path: Path) -> None:
    port = free_port()
    url = f"sampler.url=http://127.0.0.1:{port}/v1"
    config = compose_config("model=tiny", "model.dtype=float32", url)
    start = EngineName.openai, padded, config.model, resolve(config.hardware)
    with (
        vllm_server(padded, tmp_path / "log", port, "--max-model-len", "512"),
        load_engine(*start, max_model_len=512, sampler=config.sampler) as engine,
    ):
        require_named(engine, padded)


def require_named(engine: Engine, padded: Path) -> None:
    answers = {how: drawn(engine, requests(6), how) for how in (GREEDY, WHOLE)}
    network: Any = AutoModelForCausalLM.from_pretrained(padded, dtype=torch.float32)
    unnamed_first = 0
    for how, completions in answers.items():
        for request, completion in zip(requests(6), completions, strict=True):
            assert max(completion.token_ids) < TOKENS
            ids = torch.tensor([request.prompt_token_ids + completion.token_ids])
            with torch.no_grad():
                logits = network(input_ids=ids).logits[0, len(request.prompt_token_ids) - 1 : -1]
            scores = logits.log_softmax(-1).gather(-1, torch.tensor(completion.token_ids)[:, None])
            assert completion.logprobs is not None
            assert completion.logprobs.logprobs == pytest.approx(scores[:, 0].tolist(), abs=1e-3)
            unnamed_first += int((logits.argmax(-1) >= TOKENS).sum())
            if how is GREEDY:
                assert logits[:, :TOKENS].argmax(-1).tolist() == completion.token_ids
    assert unnamed_first > 20


def test_vllms_runner_for_gpus_takes_the_same_mask(padded: Path) -> None:
    from types import SimpleNamespace

    from vllm.v1.worker.gpu.sample.logits_processor.loader import _load_v2_logitsprocs_by_fqcns

    from ssd.generation.vllm_vocabulary import NAMED_ONLY

    (kind,) = _load_v2_logitsprocs_by_fqcns([NAMED_ONLY])
    settings = SimpleNamespace(model_config=SimpleNamespace(model=str(padded)))
    processor: Any = kind(settings, None)  # type: ignore[arg-type]
    assert processor.add_request(0, None)
    masked = processor.apply(torch.zeros(2, ROWS), None)
    assert torch.isneginf(masked).sum(-1).tolist() == [ROWS - TOKENS] * 2
    assert torch.isneginf(masked[:, TOKENS:]).all()
