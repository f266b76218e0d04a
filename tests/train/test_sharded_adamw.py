"""8-bit moments that FSDP2 shards: which weights have them, and what they change."""

import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from corpora import stored, write_corpus
from test_optimizers import LENGTHS, llama, take_step
from test_optimizers import train as take_steps
from test_trainer import FP32, interrupted, losses, trained
from torch import Tensor
from transformers import AutoModelForCausalLM

from ssd.config.settings import SHARDED_8BIT, OptimizerConfig
from ssd.errors import RESUMABLE
from ssd.run import Run, lineage
from ssd.run.launch import stage_command, stage_environment
from ssd.runtime.children import run_child
from ssd.train import checkpoints
from ssd.train.module import make_optimizer
from ssd.train.network import CompletionLoss, build
from ssd.train.trainer import plan_steps

pytest.importorskip("torchao", reason="the extra torchao is not installed")
pytestmark = pytest.mark.filterwarnings("ignore:.*in a single process")
Make = Callable[..., Run]
EIGHT, WHOLE = "optimizer=adamw8bit_sharded", "optimizer=adamw"
CONFIG = OptimizerConfig(_target_=SHARDED_8BIT, lr=1e-3)
RESUMED = ("train.precision=fp32", "train.max_steps=60", "train.checkpoint_every=1000", EIGHT)
LONG = (
    "model=tiny_moe", "train.precision=fp32", "train.max_steps=200", "train.warmup_steps=10",
    "analyse.live_points=0",
)  # fmt: skip
CPU = torch.device("cpu")


def is_8bit(moment: Tensor) -> bool:
    return hasattr(moment, "codes")


def tuned(run: Run, model: str = "tuned") -> dict[str, Tensor]:
    network = AutoModelForCausalLM.from_pretrained(lineage.model_folder(run, model))
    return {name: p.detach().float() for name, p in network.named_parameters()}


def distance(some: Run, other: Run) -> float:
    """How far the weights of two trainings are apart, as a share of the way from the base."""
    a, b, base = tuned(some), tuned(other), tuned(other, "base")
    apart = sum(float((a[name] - b[name]).square().sum()) for name in base)
    way = sum(float((b[name] - base[name]).square().sum()) for name in base)
    return float((apart / way) ** 0.5)


@pytest.mark.parametrize("tied", [True, False])
def test_matrices_have_8_bit_moments_and_embeddings_and_vectors_do_not(tied: bool) -> None:
    model = llama(tied=tied)
    optimizer = make_optimizer(CONFIG, model)
    take_step(model, optimizer)
    for name, parameter in model.named_parameters():
        moments = optimizer.state[parameter]
        whole = "embed_tokens" in name or parameter.numel() < 4096
        for moment in (moments["exp_avg"], moments["exp_avg_sq"]):
            assert is_8bit(moment) is not whole, name


def test_steps_stay_near_those_of_adamw_and_follow_the_learning_rate() -> None:
    models = [llama(tied=True) for _ in range(2)]
    before = {name: p.detach().clone() for name, p in models[0].named_parameters()}
    for model, config in zip(
        models, (CONFIG, OptimizerConfig(_target_="torch.optim.AdamW", lr=1e-3)), strict=True
    ):
        optimizer = make_optimizer(config, model)
        for scale, rate in ((1.0, 1e-3), (0.5, 2e-3), (-0.2, 5e-4), (2.0, 0.0)):
            for group in optimizer.param_groups:
                group["lr"] = rate
            take_step(model, optimizer, scale)
    eight, whole = (dict(model.named_parameters()) for model in models)
    for name, start in before.items():
        moved, off = whole[name] - start, (eight[name] - whole[name]).norm()
        small = "embed_tokens" in name or start.numel() < 4096
        assert off < (1e-3 if small else 0.05) * moved.norm(), name


@pytest.mark.slow
def test_a_compiled_step_does_what_an_eager_one_does(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TORCHDYNAMO_DISABLE", raising=False)
    models = [llama(tied=True) for _ in range(2)]
    for model, compiles in zip(models, (True, False), strict=True):
        optimizer = make_optimizer(CONFIG, model, compiles=compiles)
        for scale in (1.0, 0.5, -0.2):
            take_step(model, optimizer, scale)
    for compiled, eager in zip(models[0].parameters(), models[1].parameters(), strict=True):
        torch.testing.assert_close(compiled, eager, rtol=1e-4, atol=1e-5)


def fresh(run: Run) -> tuple[CompletionLoss, Any]:
    config, folder = run.config, lineage.model_folder(run, "base")
    parts = (config.adapter, config.train, config.objective, config.hardware)
    loss = build(folder, *parts, device=CPU)
    return loss, make_optimizer(config.optimizer, loss)


def test_moments_continue_from_a_checkpoint_bit_by_bit(make_run: Make, tmp_path: Path) -> None:
    run = make_run("train.precision=fp32", EIGHT)
    steps, _ = plan_steps(run, stored(write_corpus(run, LENGTHS)))
    loss, optimizer = fresh(run)
    take_steps(steps, loss, optimizer, 0, 3)
    checkpoints.save(tmp_path, 3, loss, optimizer, fingerprint="any", keep=1)
    expected = take_steps(steps, loss, optimizer, 3, 6)

    resumed, empty = fresh(run)
    checkpoints.load(tmp_path, 3, resumed, empty)
    assert any(is_8bit(moments["exp_avg"]) for moments in empty.state.values())
    assert take_steps(steps, resumed, empty, 3, 6) == expected
    for some, other in zip(loss.parameters(), resumed.parameters(), strict=True):
        assert torch.equal(some, other)


@pytest.mark.slow
def test_two_sharded_processes_with_offloaded_inputs_learn_what_one_does(make_run: Make) -> None:
    one = trained(make_run, "one", *FP32, EIGHT)
    offload = ("hardware.devices=2", "hardware.offload_activations=true")
    two = trained(make_run, "two", *FP32, EIGHT, *offload)
    assert lineage.checkpoint(one).fingerprint == lineage.checkpoint(two).fingerprint
    assert losses(two) == pytest.approx(losses(one), rel=1e-3)
    assert distance(two, one) < 0.05


@pytest.mark.slow
def test_inputs_in_main_memory_change_no_bit_of_two_sharded_processes(make_run: Make) -> None:
    settings = ("model=tiny_moe", *FP32, EIGHT, "hardware.devices=2")
    full = (*settings, "hardware.activation_checkpointing=full")
    here = trained(make_run, "here", *full)
    there = trained(make_run, "there", *full, "hardware.offload_activations=true")
    assert losses(there) == losses(here)
    assert distance(there, here) == 0


@pytest.mark.slow
def test_a_training_goes_on_with_any_number_of_processes(make_run: Make) -> None:
    whole = trained(make_run, "whole", *RESUMED)
    for processes, number in ((2, signal.SIGTERM), (1, signal.SIGUSR1), (3, signal.SIGTERM)):
        run = make_run(*RESUMED, f"hardware.devices={processes}", name="stopped")
        before = len(losses(run))
        if not before:
            write_corpus(run, LENGTHS)
        code = interrupted(run, number, lambda: len(losses(run)) >= before + 3)  # noqa: B023
        assert code == RESUMABLE
    last = make_run(*RESUMED, "hardware.devices=2", name="last")
    run_child(stage_command(last, "train"), "training", stage_environment(last, "train"))
    assert losses(last) == pytest.approx(losses(whole), rel=1e-2)


@pytest.mark.slow
@pytest.mark.parametrize("processes", [1, 2])
def test_two_hundred_steps_of_a_mixture_end_near_those_with_whole_moments(
    make_run: Make, processes: int
) -> None:
    settings = (*LONG, f"hardware.devices={processes}")
    whole = trained(make_run, "whole", *settings, WHOLE)
    eight = trained(make_run, "eight", *settings, EIGHT)
    a, b = torch.tensor(losses(eight)), torch.tensor(losses(whole))
    largest, apart = float(((a - b).abs() / b).max()), distance(eight, whole)
    ends = float(a[-20:].mean()), float(b[-20:].mean())
    print(f"losses differ by {largest:.4f} at most, end at {ends}, weights {apart:.4f} of the way")
    assert largest < 0.03
    assert ends[0] == pytest.approx(ends[1], rel=0.02)
    assert apart < 0.15


@pytest.mark.slow
def test_two_compiled_sharded_processes_learn_what_eager_ones_do(
    make_run: Make, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("TORCHDYNAMO_DISABLE", raising=False)
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "cache"))
    settings = (*FP32, "train.max_steps=4", EIGHT, "hardware.devices=2")
    settings += ("hardware.offload_activations=true",)
    eager = trained(make_run, "eager", *settings)
    # The second time both find what they have compiled, of a row more in one than in the other.
    for name in ("compiled", "found in the cache"):
        compiled = trained(make_run, name, *settings, "hardware.compile_training=true")
        assert losses(compiled) == pytest.approx(losses(eager), rel=1e-3)
        assert distance(compiled, eager) < 0.05
