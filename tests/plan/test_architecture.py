"""Sizes counted on the meta device are the sizes of the real models."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest
from runs import ROOT, compose_config
from transformers import AutoModelForCausalLM

from ssd.artifacts.files import read_json, write_json
from ssd.config.choices import AdapterType, Attention
from ssd.config.settings import AdapterConfig, TrainConfig
from ssd.errors import ModelError
from ssd.models.fetch import fetch
from ssd.models.random_init import RANDOM_MODELS, random_fields
from ssd.models.weights import locate
from ssd.plan.architecture import KNOWN, Architecture, find_architecture, find_fields, measure
from ssd.plan.engine import sequence_bytes
from ssd.plan.work import flop_per_token

MODELS = sorted(path.stem for path in (ROOT / "conf" / "model").glob("*.yaml"))
TRAIN = TrainConfig(
    max_steps=1, warmup_steps=0, min_lr=0, global_batch_size=1, seq_len=64, checkpoint_every=1
)

LORA = AdapterConfig(type=AdapterType.lora, rank=16)


def known(name: str, **changed: Any) -> Architecture:
    return measured({**read_json(KNOWN)[name], **changed})


def measured(fields: dict[str, Any]) -> Architecture:
    return measure(fields, "the table", TRAIN, Attention.auto, LORA)


@pytest.mark.parametrize(
    ("name", "parameters", "active"),
    [
        ("Qwen/Qwen3-4B-Instruct-2507", 4_022_468_096, 4_022_468_096),
        ("Qwen/Qwen3-4B-Thinking-2507", 4_022_468_096, 4_022_468_096),
        ("Qwen/Qwen3-30B-A3B-Instruct-2507", 30_532_122_624, 3_353_032_704),
        ("Qwen/Qwen3-30B-A3B-Thinking-2507", 30_532_122_624, 3_353_032_704),
        ("meta-llama/Llama-3.1-8B-Instruct", 8_030_261_248, 8_030_261_248),
        ("openai/gpt-oss-20b", 20_914_757_184, 4_187_440_704),
        ("Qwen/Qwen2.5-Coder-0.5B-Instruct", 494_032_768, 494_032_768),
        ("HuggingFaceTB/SmolLM2-135M-Instruct", 134_515_008, 134_515_008),
    ],
)
def test_known_models_have_their_published_sizes(name: str, parameters: int, active: int) -> None:
    counted = known(name)
    assert (counted.num_parameters, counted.num_active) == (parameters, active)
    assert counted.num_trainable == parameters


@pytest.mark.parametrize("model", MODELS)
def test_every_model_of_the_configuration_is_known(model: str) -> None:
    assert compose_config(f"model={model}").model.name in read_json(KNOWN)


@pytest.mark.parametrize("model", ["tiny", "tiny_moe"])
def test_counts_are_those_of_the_loaded_model(model: str) -> None:
    from transformers import AutoModelForCausalLM

    config = compose_config(f"model={model}")
    network = AutoModelForCausalLM.from_pretrained(fetch(config.model).path)
    sizes = [parameter.numel() for parameter in network.parameters()]
    found = find_architecture(config.model, config.train, Attention.auto, LORA)
    assert found.num_parameters == sum(sizes)
    assert found == dataclasses.replace(known(model), source=found.source)
    layers = [sum(p.numel() for p in layer.parameters()) for layer in network.model.layers]
    assert found.layer_parameters == max(layers)
    assert found.root_parameters == sum(sizes) - sum(layers)


def test_the_shipped_sizes_of_the_default_model_are_its_checkpoints() -> None:
    model = compose_config().model
    if locate(model) is None:
        pytest.skip("the default model is not on this disk")
    fields, source = find_fields(model)
    found = measure(fields, source, TRAIN, Attention.auto, LORA)
    assert found == dataclasses.replace(known(model.name), source=source)


@pytest.mark.parametrize("model", ["tiny", "tiny_moe"])
def test_adapters_are_counted_as_training_makes_them(model: str) -> None:
    from transformers import AutoModelForCausalLM

    from ssd.train.network import adapt

    network = AutoModelForCausalLM.from_pretrained(
        fetch(compose_config(f"model={model}").model).path
    )
    trained = [p for p in adapt(network, LORA, empty=False).parameters() if p.requires_grad]
    assert known(model).num_adapter == sum(p.numel() for p in trained)


def test_adapters_on_linear_layers_have_rank_times_inputs_and_outputs() -> None:
    attention = 2 * (2560 + 4096) + 2 * (2560 + 1024)  # Hu et al. 2021, arXiv:2106.09685
    feed_forward = 3 * (2560 + 9728)
    dense = known("Qwen/Qwen3-4B-Instruct-2507")
    assert dense.num_adapter == 16 * 36 * (attention + feed_forward)
    assert dense.num_expert_adapter == 0
    assert known("tiny_moe").num_adapter == 16 * 2 * (2 * (64 + 128) + 2 * (64 + 64))


def test_frozen_routers_are_not_counted_as_trained() -> None:
    name = "tiny_moe"
    frozen = dataclasses.replace(TRAIN, train_router=False)
    found = measure(read_json(KNOWN)[name], "the table", frozen, Attention.auto, LORA)
    assert known(name).num_trainable - found.num_trainable == 2 * 8 * 64  # layers, experts, hidden


def test_a_quantised_checkpoint_is_counted_as_it_is_trained() -> None:
    quantised = known("openai/gpt-oss-20b", quantization_config={"quant_method": "mxfp4"})
    assert quantised == known("openai/gpt-oss-20b")


def test_sliding_windows_are_read_per_layer() -> None:
    assert known("openai/gpt-oss-20b").windows[:3] == (128, None, 128)
    assert set(known("Qwen/Qwen3-4B-Instruct-2507").windows) == {None}


def test_only_layers_with_attention_cache_keys() -> None:
    hybrid = known("Qwen/Qwen3.5-0.8B")
    assert hybrid.windows[:4] == (0, 0, 0, None)
    assert hybrid.cached == (0, 0, 0, 2 * 256) * 6
    state = 16 * 128 * 128 + 3 * 16 * 128 * 3  # heads, and a convolution over 4 tokens
    assert hybrid.delta_net is not None and hybrid.delta_net.state_size == state
    assert sequence_bytes(hybrid, 1, 100) == 2 * 2 * 6 * 512 * 100 + 4 * 18 * state
    with_context, without = (flop_per_token(hybrid, AdapterConfig(), length)[1]
                             for length in (1000, 0))  # fmt: skip
    assert with_context - without == 6 * 12 * 8 * 256 * 500


def test_layers_of_one_model_cache_keys_of_their_own_width() -> None:
    gemma = measured(random_fields("tiny_gemma4"))
    assert gemma.cached == (2 * 32, 2 * 64)  # a window; all tokens
    assert (gemma.query_size, gemma.key_size) == (4 * 64, 2 * 64)
    shared = measured(random_fields("tiny_gemma4") | {"num_kv_shared_layers": 1})
    assert shared.cached == (2 * 32, 0)


def test_a_folder_with_nothing_but_its_configuration_can_be_planned(tmp_path: Path) -> None:
    write_json(tmp_path / "config.json", read_json(KNOWN)["tiny"])
    config = compose_config("model=tiny", f"model.path={tmp_path}")
    found = find_architecture(config.model, config.train, Attention.auto, LORA)
    assert found.num_parameters == known("tiny").num_parameters
    assert found.source == str(tmp_path / "config.json")


def test_what_cannot_be_found_or_built_names_the_remedy(tmp_path: Path) -> None:
    unknown = compose_config("model.name=Qwen/Qwen3-4B-Instruct").model
    with pytest.raises(ModelError, match=r"connect, or set model.path.*did you mean 'Qwen/Qwen3"):
        find_fields(unknown)
    with pytest.raises(ModelError, match=r"model.path=.* holds no config.json"):
        find_fields(compose_config("model=tiny", f"model.path={tmp_path}").model)
    with pytest.raises(ModelError, match="transformers makes no causal language model"):
        measure({"model_type": "no_such_type"}, "a test", TRAIN, Attention.auto, LORA)


@pytest.mark.parametrize("name", RANDOM_MODELS)
def test_a_random_model_is_measured_before_it_is_made(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = compose_config("model=tiny", f"model.name={name}")
    monkeypatch.setenv("SSD_CACHE", str(tmp_path))
    assert locate(config.model) is None
    fields, source = find_fields(config.model)
    planned = measure(fields, source, TRAIN, Attention.auto, LORA)
    monkeypatch.undo()
    network = AutoModelForCausalLM.from_pretrained(fetch(config.model).path)
    assert planned.num_parameters == network.num_parameters()
