"""What GPT-OSS asks of training: attention sinks, sliding windows, experts with biases, MXFP4."""

import functools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from test_trainer import losses, trained
from transformers import AutoTokenizer, GptOssConfig, GptOssForCausalLM

from ssd.models import Weights
from ssd.models.tensors import tensor_names
from ssd.run import Run, lineage
from ssd.train.attention import check_isolation, packed_mask
from ssd.train.batches import Example, collate
from ssd.train.module import parameter_groups
from ssd.train.network import CompletionLoss, build

FP32 = ("train.precision=fp32", "train.max_steps=4")
CPU = torch.device("cpu")
FP4 = torch.tensor([0, 0.5, 1, 1.5, 2, 3, 4, 6, 0, -0.5, -1, -1.5, -2, -3, -4, -6])
SCALE = 2**-7
Make = Callable[..., Run]


@pytest.fixture(scope="session")
def gpt_oss(tmp_path_factory: pytest.TempPathFactory, tiny_weights: Weights) -> Path:
    """Two random layers, one with a window of 8 tokens, sinks and biases that matter."""
    folder = tmp_path_factory.mktemp("gpt-oss")
    tokenizer = AutoTokenizer.from_pretrained(tiny_weights.path)
    tokenizer.save_pretrained(folder)
    config = GptOssConfig(
        vocab_size=len(tokenizer), hidden_size=64, intermediate_size=32, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=2, head_dim=32, num_local_experts=4,
        num_experts_per_tok=2, sliding_window=8, max_position_embeddings=8192,
        bos_token_id=None, eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )  # fmt: skip
    torch.manual_seed(0)
    network = GptOssForCausalLM(config)
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if name.endswith(("bias", "sinks")):
                parameter.normal_(0, 0.5)
    network.to(torch.bfloat16).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def mxfp4(tmp_path_factory: pytest.TempPathFactory, gpt_oss: Path) -> Path:
    """The same with random experts of four bits each, in the layout of the published checkpoint."""
    folder = tmp_path_factory.mktemp("mxfp4")
    AutoTokenizer.from_pretrained(gpt_oss).save_pretrained(folder)
    config = json.loads((gpt_oss / "config.json").read_text())
    config["quantization_config"] = {"quant_method": "mxfp4"}
    (folder / "config.json").write_text(json.dumps(config))
    generator = torch.Generator().manual_seed(0)
    tensors = {}
    for name, tensor in load_file(gpt_oss / "model.safetensors").items():
        if not name.endswith(("experts.gate_up_proj", "experts.down_proj")):
            tensors[name] = tensor
            continue
        experts, inputs, outputs = tensor.shape
        shape = (experts, outputs, inputs // 32, 16)
        tensors[f"{name}_blocks"] = torch.randint(256, shape, generator=generator).byte()
        tensors[f"{name}_scales"] = torch.full(shape[:3], 127 - 7).byte()
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


@pytest.fixture
def make(make_run: Make) -> Make:
    return functools.partial(make_run, model="tiny_moe")


def built(run: Run) -> CompletionLoss:
    config = run.config
    folder = lineage.model_folder(run, "base")
    return build(
        folder, config.adapter, config.train, config.objective, config.hardware, device=CPU
    )


def example(seed: int, length: int) -> Example:
    ids = [(seed + 13 * j) % 256 for j in range(length)]
    return Example(prompt_id=str(seed), token_ids=ids, num_prompt=1)


@torch.no_grad()
def packed_states(loss: CompletionLoss, *documents: Example) -> list[torch.Tensor]:
    """Last hidden states of each document of a packed row."""
    batch = collate(documents, [1.0] * len(documents), packing=True)
    assert batch.lengths is not None
    mask = packed_mask(loss.model.config, batch.position_ids, torch.float32)
    output = loss.body(
        input_ids=batch.input_ids, position_ids=batch.position_ids, attention_mask=mask
    )
    return list(output.last_hidden_state[0].split(batch.lengths))


def test_packed_documents_are_computed_as_if_alone(make: Make, gpt_oss: Path) -> None:
    loss = built(make(*FP32, f"model.path={gpt_oss}"))
    assert loss.model.config._attn_implementation == "eager"
    first, other, second = example(1, 20), example(5, 20), example(3, 30)
    together, beside = packed_states(loss, first, second), packed_states(loss, other, second)
    assert torch.equal(together[1], beside[1])
    assert not torch.allclose(together[0], beside[0])
    network: Any = GptOssForCausalLM.from_pretrained(
        gpt_oss, dtype=torch.float32, attn_implementation="eager"
    )
    for document, states in zip((first, second), together, strict=True):
        expected = network(input_ids=torch.tensor([document.token_ids])).logits[0]
        torch.testing.assert_close(loss.head(states), expected, atol=1e-5, rtol=1e-5)
    check_isolation(loss, "eager", 256, CPU)


def test_weight_decay_leaves_out_sinks_and_the_biases_of_experts(make: Make, gpt_oss: Path) -> None:
    loss = built(make(*FP32, f"model.path={gpt_oss}"))
    decayed, spared = (
        {id(p) for p in group["params"]} for group in parameter_groups(loss, weight_decay=0.1)
    )
    for name, parameter in loss.named_parameters():
        spares = name.endswith(("bias", "sinks", "norm.weight"))
        assert id(parameter) in (spared if spares else decayed), name
    assert sum(name.endswith("proj_bias") for name, _ in loss.named_parameters()) == 4


@pytest.mark.parametrize(
    "change",
    [
        "train.packing=false",
        "hardware.activation_checkpointing=selective",
        pytest.param("hardware.devices=2", marks=pytest.mark.slow),
    ],
)
def test_no_division_of_the_work_changes_what_is_learnt(
    make: Make, gpt_oss: Path, change: str
) -> None:
    settings = (*FP32, f"model.path={gpt_oss}", "train.router_aux_coef=0.1")
    whole, run = trained(make, "whole", *settings), trained(make, "changed", *settings, change)
    assert losses(run) == pytest.approx(losses(whole), rel=1e-4)
    assert tensor_names(lineage.model_folder(run, "tuned")) == tensor_names(gpt_oss)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_mxfp4_weights_are_dequantised_for_training(
    make: Make, mxfp4: Path, precision: str
) -> None:
    settings = (f"train.precision={precision}", "train.max_steps=2", f"model.path={mxfp4}")
    stored = load_file(mxfp4 / "model.safetensors")
    name = "model.layers.0.mlp.experts.gate_up_proj"
    blocks = stored[f"{name}_blocks"].long()
    pairs = torch.stack([FP4[blocks % 16], FP4[blocks // 16]], -1)  # low half of a byte first
    loss = built(make(*settings))
    assert {parameter.dtype for parameter in loss.parameters()} == {torch.float32}
    found = loss.model.get_parameter(name)
    torch.testing.assert_close(found, pairs.flatten(2).transpose(1, 2) * SCALE, rtol=0, atol=0)

    run = trained(make, "one", *settings)
    names = {key.removesuffix("_blocks").removesuffix("_scales") for key in stored}
    assert tensor_names(lineage.model_folder(run, "tuned")) == names
    tuned = json.loads((lineage.model_folder(run, "tuned") / "config.json").read_text())
    assert "quantization_config" not in tuned


def test_adapters_are_trained_on_mxfp4_weights(make: Make, mxfp4: Path) -> None:
    settings = (*FP32, f"model.path={mxfp4}", "adapter=lora", "adapter.experts=true")
    run = trained(make, "lora", *settings)
    assert lineage.checkpoint(run).manifest()["export_check"]["max_logit_difference"] == 0
