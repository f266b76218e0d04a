"""The path of Qwen3-30B-A3B, on a random mixture of experts of the same architecture."""

import functools
import json
import re
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from corpora import write_corpus
from runs import compose_config
from safetensors.torch import load_file, save_file
from test_trainer import LENGTHS, has_checkpoint, interrupted, losses, trained
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import AutoModelForCausalLM, AutoTokenizer

from ssd.config.choices import EngineName
from ssd.errors import ModelError
from ssd.generation import Request
from ssd.generation.engines import load_engine
from ssd.method.decoding import Decoding
from ssd.models import Weights
from ssd.models.fetch import fetch
from ssd.models.tensors import tensor_names
from ssd.run import Run, lineage
from ssd.train.attention import check_isolation
from ssd.train.batches import Example, MicroBatch, collate
from ssd.train.export import check_names
from ssd.train.network import CompletionLoss, build, routers
from ssd.train.trainer import train

CPU = torch.device("cpu")
FP32 = ("train.precision=fp32", "train.max_steps=6")
EXAMPLES = [
    Example(
        prompt_id=str(i), token_ids=[(31 * i + 7 * j) % 256 for j in range(length)], num_prompt=4
    )
    for i, length in enumerate([20, 33, 11])
]
LOSS_TOKENS = sum(example.num_loss_tokens for example in EXAMPLES)
Make = Callable[..., Run]


@pytest.fixture(scope="session")
def moe_weights() -> Weights:
    """The random mixture of experts."""
    return fetch(compose_config("model=tiny_moe").model)


@pytest.fixture
def make_moe(make_run: Make) -> Make:
    return functools.partial(make_run, model="tiny_moe")


def built(weights: Weights, *overrides: str) -> CompletionLoss:
    config = compose_config("model=tiny_moe", "hardware=cpu", *overrides)
    folder = Path(weights.path)
    return build(
        folder, config.adapter, config.train, config.objective, config.hardware, device=CPU
    )


def batches(*, packing: bool) -> list[MicroBatch]:
    """The examples in one packed row, or each in a row of its own."""
    weights = [1 / LOSS_TOKENS] * len(EXAMPLES)
    if packing:
        return [collate(EXAMPLES, weights, packing=True)]
    return [collate([example], weights[:1], packing=False) for example in EXAMPLES]


def gradients(loss: CompletionLoss, parts: list[MicroBatch]) -> tuple[float, dict[str, Tensor]]:
    """Loss and gradients of a step, its micro-batches added up."""
    loss.zero_grad()
    total = 0.0
    for part in parts:
        value = loss(part)
        value.backward()
        total += value.item()
    return total, {n: p.grad.clone() for n, p in loss.named_parameters() if p.grad is not None}


def require_close(found: dict[str, Tensor], expected: dict[str, Tensor], share: float) -> None:
    """Gradients differ by no more than `share` of their norm."""
    assert found.keys() == expected.keys()
    for name, gradient in expected.items():
        assert (found[name] - gradient).norm() <= share * gradient.norm(), name


class GroupedProducts(TorchDispatchMode):
    """Notes the dtype of every grouped matrix product."""

    def __init__(self) -> None:
        super().__init__()
        self.dtypes: list[torch.dtype] = []

    def __torch_dispatch__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        if function is torch.ops.aten._grouped_mm.default:
            self.dtypes.append(args[1].dtype)
        return function(*args, **(kwargs or {}))


def test_the_checkpoint_has_the_layout_of_the_hubs(moe_weights: Weights) -> None:
    folder = Path(moe_weights.path)
    names = tensor_names(folder)
    for part in ("gate_proj", "up_proj", "down_proj"):
        assert f"model.layers.1.mlp.experts.7.{part}.weight" in names
    assert {"lm_head.weight", "model.layers.0.self_attn.q_norm.weight"} <= names
    assert not any("gate_up_proj" in name for name in names)
    assert len(names) == 3 + 2 * (9 + 8 * 3)
    assert json.loads((folder / "config.json").read_text())["model_type"] == "qwen3_moe"


def test_experts_are_two_grouped_products_that_equal_the_loop_over_them(
    moe_weights: Weights,
) -> None:
    loss = built(moe_weights, "train.precision=fp32")
    with GroupedProducts() as products:
        value, found = gradients(loss, batches(packing=True))
    assert products.dtypes[:4] == [torch.float32] * 4  # two layers; the others are backward's
    loss.model.config._experts_implementation = "eager"
    with GroupedProducts() as products:
        expected_value, expected = gradients(loss, batches(packing=True))
    assert products.dtypes == []
    assert value == pytest.approx(expected_value, rel=1e-6)
    require_close(found, expected, 1e-5)


def test_under_autocast_experts_are_bf16_and_their_gradients_fp32(moe_weights: Weights) -> None:
    loss = built(moe_weights)
    with GroupedProducts() as products, torch.autocast("cpu", torch.bfloat16):
        value, found = gradients(loss, batches(packing=True))
    assert set(products.dtypes) == {torch.bfloat16}
    assert {gradient.dtype for gradient in found.values()} == {torch.float32}
    loss.model.config._experts_implementation = "eager"  # linear layers, which autocast knows
    with torch.autocast("cpu", torch.bfloat16):
        expected_value, expected = gradients(loss, batches(packing=True))
    assert value == pytest.approx(expected_value, rel=1e-3)
    require_close(found, expected, 0.02)


@pytest.mark.parametrize(
    "recompute", ["none", "selective", "full", "full hardware.recompute_layers=1"]
)
def test_packing_and_recomputation_change_neither_loss_nor_gradient(
    moe_weights: Weights, recompute: str
) -> None:
    settings = ("train.precision=fp32", "train.router_aux_coef=0.1")
    value, expected = gradients(built(moe_weights, *settings), batches(packing=False))
    loss = built(moe_weights, *settings, *f"hardware.activation_checkpointing={recompute}".split())
    packed, found = gradients(loss, batches(packing=True))
    assert packed == pytest.approx(value, rel=1e-6)
    require_close(found, expected, 1e-5)
    padded = [collate(EXAMPLES, [1 / LOSS_TOKENS] * len(EXAMPLES), packing=False)]
    value, found = gradients(loss, padded)
    assert value == pytest.approx(packed, rel=1e-6)
    require_close(found, expected, 1e-5)


@pytest.mark.parametrize("bf16", [False, True])
def test_packed_documents_do_not_see_each_other(moe_weights: Weights, bf16: bool) -> None:
    loss = built(moe_weights)
    with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        check_isolation(loss, "varlen", 259, CPU)


def test_the_balance_loss_is_that_of_transformers_and_reaches_the_routers(
    moe_weights: Weights,
) -> None:
    (row, *_) = batches(packing=False)
    loss = built(moe_weights, "train.precision=fp32", "train.router_aux_coef=0.5")
    weights = [router.weight for router in routers(loss.model)]
    share = EXAMPLES[0].num_loss_tokens / LOSS_TOKENS
    balanced = loss(row)
    loss.aux_coef = 0.0
    found = (balanced - loss(row)) / (0.5 * share)
    output = loss.model(input_ids=row.input_ids, output_router_logits=True)
    assert found.item() == pytest.approx(output.aux_loss.item(), rel=1e-5)
    (expected,) = torch.autograd.grad(output.aux_loss, weights[:1])
    (gradient,) = torch.autograd.grad(found, weights[:1])
    torch.testing.assert_close(gradient, expected, rtol=1e-4, atol=1e-7)
    assert gradient.abs().sum() > 0


DIVISIONS = {
    "one sample at a time": ("hardware.micro_batch_tokens=1",),
    "padded": ("train.packing=false",),
    "two processes": ("hardware.devices=2",),
}


@pytest.mark.slow
def test_no_division_of_the_work_changes_what_is_learnt(make_moe: Make) -> None:
    settings = (*FP32, "train.router_aux_coef=0.1")
    whole = trained(make_moe, "whole", *settings)
    for name, changes in DIVISIONS.items():
        run = trained(make_moe, name, *settings, *changes)
        assert losses(run) == pytest.approx(losses(whole), rel=1e-4), name


@pytest.mark.slow
def test_frozen_routers_stay_and_are_exported_whole(make_moe: Make) -> None:
    runs = [
        trained(make_moe, f"on-{devices}", *FP32, "train.train_router=false",
                f"hardware.devices={devices}")
        for devices in (1, 2)
    ]  # fmt: skip
    assert losses(runs[1]) == pytest.approx(losses(runs[0]), rel=1e-4)
    for run in runs:
        base = load_file(lineage.model_folder(run, "base") / "model.safetensors")
        tuned = load_file(lineage.model_folder(run, "tuned") / "model.safetensors")
        assert base.keys() == tuned.keys()
        still = {name for name in base if torch.equal(base[name], tuned[name])}
        assert {f"model.layers.{layer}.mlp.gate.weight" for layer in (0, 1)} <= still
        assert not any("proj" in name for name in still)
        counts = lineage.checkpoint(run).manifest()["counts"]
        assert counts["num_parameters"] - counts["num_trainable"] == 2 * 8 * 64


@pytest.mark.slow
def test_a_killed_training_resumes_to_the_uninterrupted_curve(make_moe: Make) -> None:
    settings = ("train.max_steps=30", "train.checkpoint_every=3", "train.precision=fp32")
    whole = trained(make_moe, "whole", *settings)
    run = make_moe(*settings, name="killed")
    write_corpus(run, LENGTHS)
    assert interrupted(run, signal.SIGKILL, lambda: has_checkpoint(run)) == -signal.SIGKILL
    assert 3 <= len(losses(run)) < 30
    train(run)
    assert losses(run) == pytest.approx(losses(whole), rel=1e-5)


def test_an_export_without_one_experts_weight_is_refused(
    moe_weights: Weights, tmp_path: Path
) -> None:
    base = Path(moe_weights.path)
    folder = Path(shutil.copytree(base, tmp_path / "model"))
    check_names(base, folder, tied=set())
    tensors = load_file(folder / "model.safetensors")
    del tensors["model.layers.1.mlp.experts.5.up_proj.weight"]
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    expected = r"lacks 1 tensors of the base \(\['model.layers.1.mlp.experts.5.up_proj.weight'\]\)"
    with pytest.raises(ModelError, match=expected):
        check_names(base, folder, tied=set())


def test_a_sharded_base_with_the_hubs_setting_names_is_trained_and_exported(
    make_moe: Make, moe_weights: Weights, tmp_path: Path
) -> None:
    network = AutoModelForCausalLM.from_pretrained(moe_weights.path)
    base = tmp_path / "base"
    network.save_pretrained(base, max_shard_size="100KB")
    AutoTokenizer.from_pretrained(moe_weights.path).save_pretrained(base)
    assert len(list(base.glob("*.safetensors"))) > 3
    config = (base / "config.json").read_text()
    (base / "config.json").write_text(config.replace("num_local_experts", "num_experts"))
    run = trained(make_moe, "sharded", *FP32, f"model.path={base}")
    assert lineage.checkpoint(run).manifest()["export_check"]["max_logit_difference"] == 0
    assert tensor_names(lineage.model_folder(run, "tuned")) == tensor_names(base)


@pytest.mark.slow
def test_the_tuned_model_answers_alike_in_vllm_and_transformers(make_moe: Make) -> None:
    run = trained(make_moe, "one", *FP32, "model.dtype=float32")
    config = run.config
    greedy = Decoding(temp=0.0)
    requests = [
        Request(str(i), 0, example.token_ids, i, 12, greedy) for i, example in enumerate(EXAMPLES)
    ]
    network: Any = AutoModelForCausalLM.from_pretrained(lineage.model_folder(run, "tuned"))
    from vllm.distributed import cleanup_dist_env_and_memory

    # The groups that a dense model's engine has left in this process are without one for experts.
    cleanup_dist_env_and_memory()
    with load_engine(
        EngineName.vllm,
        lineage.model_folder(run, "tuned"),
        config.model,
        config.hardware,
        max_model_len=128,
    ) as engine:
        answers = list(engine.generate(requests, logprobs=0, tick=lambda num_tokens: None))
    for request, answer in answers:
        ids = torch.tensor([request.prompt_token_ids + answer.token_ids])
        scores = network(input_ids=ids).logits[0, len(request.prompt_token_ids) - 1 : -1]
        assert scores.argmax(-1).tolist() == answer.token_ids
        chosen = scores.log_softmax(-1).gather(-1, torch.tensor(answer.token_ids)[:, None])[:, 0]
        assert answer.logprobs.logprobs == pytest.approx(chosen.tolist(), abs=1e-3)


def test_adapters_are_in_attention_alone_unless_experts_are_asked_for(
    make_moe: Make, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = (*FP32, "adapter=lora", "adapter.rank=2")
    for experts, adapted in (("false", "self_attn"), ("true", "self_attn|experts")):
        run = trained(make_moe, experts, *settings, f"adapter.experts={experts}")
        note = "adapters in attention alone (adapter.experts=false)"
        assert (note in capsys.readouterr().out) == (experts == "false")
        base = load_file(lineage.model_folder(run, "base") / "model.safetensors")
        tuned = load_file(lineage.model_folder(run, "tuned") / "model.safetensors")
        assert base.keys() == tuned.keys()
        for name in base:
            moved = not torch.equal(base[name], tuned[name])
            assert moved == bool(re.search(rf"({adapted}).*_proj", name)), name


@pytest.mark.slow
def test_adapters_of_experts_learn_alike_on_two_processes(make_moe: Make) -> None:
    settings = (*FP32, "adapter=lora", "adapter.rank=2", "adapter.experts=true")
    one, two = (
        trained(make_moe, name, *settings, f"hardware.devices={devices}")
        for name, devices in (("one", 1), ("two", 2))
    )
    assert losses(two) == pytest.approx(losses(one), rel=1e-4)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("train.router_aux_coef=0.01", "LlamaForCausalLM has no router"),
        ("train.train_router=false", "LlamaForCausalLM has no router"),
        ("adapter.experts=true", "LlamaForCausalLM has no routed experts"),
    ],
)
def test_a_dense_model_refuses_settings_of_experts(
    tiny_weights: Weights, override: str, message: str
) -> None:
    with pytest.raises(ModelError, match=message):
        built(tiny_weights, "adapter=lora", override)
