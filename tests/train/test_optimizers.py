from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from corpora import stored, write_corpus
from torch import nn
from transformers import LlamaConfig, LlamaForCausalLM

from ssd.config.settings import OptimizerConfig
from ssd.errors import ConfigError, HardwareError
from ssd.run import Run, lineage
from ssd.runtime.installation import check_training
from ssd.train import checkpoints
from ssd.train.data import Steps
from ssd.train.module import clip_gradients, make_optimizer
from ssd.train.network import CompletionLoss, build
from ssd.train.trainer import plan_steps

LENGTHS = [(5, 9), (12, 3), (4, 20), (7, 7), (3, 15), (9, 2), (6, 30), (5, 5)]
CPU = torch.device("cpu")
pytestmark = pytest.mark.filterwarnings("ignore:.*in a single process")
EIGHT = OptimizerConfig(_target_="bitsandbytes.optim.AdamW8bit", lr=1e-3)
WHOLE = OptimizerConfig(_target_="torch.optim.AdamW", lr=1e-3)


def llama(*, tied: bool) -> nn.Module:
    torch.manual_seed(0)
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=256, hidden_size=64, intermediate_size=128, num_hidden_layers=1,
            num_attention_heads=2, num_key_value_heads=1, tie_word_embeddings=tied,
        )
    )  # fmt: skip


def take_step(model: nn.Module, optimizer: torch.optim.Optimizer, scale: float = 1.0) -> None:
    generator = torch.Generator().manual_seed(1)
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.grad = scale * torch.randn(parameter.shape, generator=generator)
    optimizer.step()
    optimizer.zero_grad()


def moment_dtypes(model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, torch.dtype]:
    return {
        name: optimizer.state[parameter]["state1"].dtype
        for name, parameter in model.named_parameters()
        if parameter.requires_grad
    }


@pytest.mark.parametrize("tied", [True, False])
def test_large_matrices_have_8_bit_moments_and_embeddings_do_not(tied: bool) -> None:
    model = llama(tied=tied)
    optimizer = make_optimizer(EIGHT, model)
    take_step(model, optimizer)
    for name, dtype in moment_dtypes(model, optimizer).items():
        size = model.get_parameter(name).numel()
        whole = "embed_tokens" in name or size < 4096
        assert dtype is (torch.float32 if whole else torch.uint8), name
    state = optimizer.state[model.get_parameter("model.layers.0.mlp.up_proj.weight")]
    assert state["state2"].dtype is torch.uint8
    assert state["absmax1"].shape == (128 * 64 / 256,)


def test_a_second_optimizer_keeps_nothing_of_the_first() -> None:
    first, second = llama(tied=True), llama(tied=True)
    take_step(first, make_optimizer(EIGHT, first))
    second.get_parameter("model.embed_tokens.weight").requires_grad_(False)
    optimizer = make_optimizer(EIGHT, second)  # its first weight is now a projection
    take_step(second, optimizer)
    dtypes = moment_dtypes(second, optimizer)
    assert dtypes["model.layers.0.self_attn.q_proj.weight"] is torch.uint8


@pytest.mark.parametrize("config", [EIGHT, WHOLE])
def test_weight_decay_shrinks_matrices_and_leaves_norms(config: OptimizerConfig) -> None:
    model = llama(tied=False)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    take_step(model, make_optimizer(config, model), scale=0.0)
    for name, parameter in model.named_parameters():
        factor = 1 - config.lr * config.weight_decay if parameter.ndim == 2 else 1.0
        torch.testing.assert_close(parameter.detach(), factor * before[name], rtol=1e-6, atol=0)


def test_8_bit_steps_stay_near_those_of_adamw() -> None:
    models = [llama(tied=True) for _ in range(2)]
    before = {name: p.detach().clone() for name, p in models[0].named_parameters()}
    for model, config in zip(models, (EIGHT, WHOLE), strict=True):
        optimizer = make_optimizer(config, model)
        for scale in (1.0, 0.5, -0.2, 2.0):
            take_step(model, optimizer, scale)
    eight, whole = (dict(model.named_parameters()) for model in models)
    for name, start in before.items():
        moved, off = whole[name] - start, (eight[name] - whole[name]).norm()
        small = "embed_tokens" in name or start.numel() < 4096
        assert off < (1e-3 if small else 0.05) * moved.norm(), name


def train(steps: Steps, loss: CompletionLoss, optimizer: Any, *span: int) -> list[float]:
    """The losses of the steps in `span`."""
    curve = []
    for index in range(*span):
        total = 0.0
        for micro_batch in steps.step(index).micro_batches:
            value = loss(micro_batch)
            value.backward()
            total += float(value.detach())
        optimizer.step()
        optimizer.zero_grad()
        curve.append(total)
    return curve


@pytest.fixture
def start(make_run: Callable[..., Run]) -> Callable[[], tuple[CompletionLoss, Any]]:
    config = make_run("train.precision=fp32", "optimizer=adamw8bit").config
    folder = lineage.model_folder(make_run(), "base")

    def fresh() -> tuple[CompletionLoss, Any]:
        loss = build(
            folder, config.adapter, config.train, config.objective, config.hardware, device=CPU
        )
        return loss, make_optimizer(config.optimizer, loss)

    return fresh


def test_8_bit_moments_continue_from_a_checkpoint_bit_by_bit(
    make_run: Callable[..., Run], start: Callable[[], tuple[CompletionLoss, Any]], tmp_path: Path
) -> None:
    run = make_run()
    steps, _ = plan_steps(run, stored(write_corpus(run, LENGTHS)))
    loss, optimizer = start()
    train(steps, loss, optimizer, 0, 3)
    checkpoints.save(tmp_path, 3, loss, optimizer, fingerprint="any", keep=1)
    expected = train(steps, loss, optimizer, 3, 6)

    resumed, fresh = start()
    checkpoints.load(tmp_path, 3, resumed, fresh)
    assert torch.uint8 in moment_dtypes(resumed, fresh).values()
    assert train(steps, resumed, fresh, 3, 6) == expected
    for one, other in zip(loss.parameters(), resumed.parameters(), strict=True):
        assert torch.equal(one, other)


def test_moments_in_paged_memory_stay_there_when_a_checkpoint_is_read(
    start: Callable[[], tuple[CompletionLoss, Any]], tmp_path: Path
) -> None:
    loss, optimizer = start()
    take_step(loss, optimizer)
    checkpoints.save(tmp_path, 1, loss, optimizer, fingerprint="any", keep=1)
    resumed, fresh = start()
    take_step(resumed, fresh, scale=0.3)
    parameter = loss.get_parameter("network.model.layers.0.mlp.up_proj.weight")
    other = resumed.get_parameter("network.model.layers.0.mlp.up_proj.weight")
    moment = fresh.state[other]["state1"]
    moment.is_paged = True  # as bitsandbytes marks CUDA's unified memory
    checkpoints.load(tmp_path, 1, resumed, fresh)
    assert fresh.state[other]["state1"] is moment
    assert torch.equal(moment, optimizer.state[parameter]["state1"])
    assert fresh.state[other]["step"] == 1


def test_8_bit_moments_are_not_sharded(make_run: Callable[..., Run]) -> None:
    with pytest.raises(ConfigError, match=r"8-bit moments.*use optimizer=adamw8bit_sharded, or"):
        make_run("optimizer=adamw8bit", "hardware.devices=2")
    make_run("optimizer=adamw8bit", "hardware.devices=2", "hardware.strategy=ddp")


def test_paged_moments_need_a_gpu(make_run: Callable[..., Run]) -> None:
    with pytest.raises(HardwareError, match=r"needs an NVIDIA GPU.*use optimizer=adamw8bit"):
        check_training(make_run("optimizer=paged_adamw8bit").config)


@pytest.mark.parametrize("norm", [0.3, 0.98, 0.995, 1 - 1e-7, 1.0, 40.0])
def test_gradients_are_clipped_to_the_bit_as_pytorch_clips_them(norm: float) -> None:
    torch.manual_seed(0)
    ours, theirs = ([nn.Parameter(torch.zeros(shape)) for shape in ((7, 5), (3,))] for _ in "ab")
    gradients = [torch.randn_like(parameter) for parameter in ours]
    whole = torch.cat([gradient.flatten() for gradient in gradients]).norm()
    for a, b, gradient in zip(ours, theirs, gradients, strict=True):
        a.grad, b.grad = gradient * norm / whole, gradient * norm / whole
    returned = clip_gradients([*ours, nn.Parameter(torch.zeros(2))], 1.0)
    assert returned == nn.utils.clip_grad_norm_(theirs, 1.0).item()
    for a, b in zip(ours, theirs, strict=True):
        assert a.grad is not None and b.grad is not None
        assert torch.equal(a.grad, b.grad)
