"""Whole trainings whose loss asks the base model: no division of the work changes them."""

from collections.abc import Callable

import pytest
import torch
from corpora import write_corpus
from test_trainer import FP32, LENGTHS, live, losses, trained
from transformers import AutoModelForCausalLM

from ssd.errors import PreemptedError
from ssd.method.decoding import Decoding
from ssd.run import Run, lineage
from ssd.run.tracking import read_metrics
from ssd.train.module import SelfDistillation
from ssd.train.trainer import train

Make = Callable[..., Run]
SOFT = (*FP32, "objective=soft", "sampler.temp=1.6", "truncation=top_k20_top_p80")
DIVISIONS = {
    "two sharded processes": (SOFT, ("hardware.devices=2",)),
    "padded rows": (SOFT, ("train.packing=false",)),
    "two processes with DDP": (SOFT, ("hardware.devices=2", "hardware.strategy=ddp")),
    "adapters of two sharded processes": (
        (*SOFT, "adapter=lora"), ("hardware.devices=2",),
    ),
    "adapters of two processes with DDP": (
        (*SOFT, "adapter=lora"), ("hardware.devices=2", "hardware.strategy=ddp"),
    ),
    "compiled layers": (SOFT, ("hardware.compile_training=true",)),
    "compiled layers with adapters": (
        (*SOFT, "adapter=lora"), ("hardware.compile_training=true",),
    ),
    "full recomputation": (SOFT, ("hardware.activation_checkpointing=full",)),
    "tail of two sharded processes": (
        (*FP32, "objective=tail", "sampler.temp=1", "objective.tail_threshold=0.004"),
        ("hardware.devices=2",),
    ),
}  # fmt: skip


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=[pytest.mark.slow] * (name != "padded rows")) for name in DIVISIONS],
)
def test_no_division_of_the_work_changes_what_is_learnt(make_run: Make, name: str) -> None:
    settings, changes = DIVISIONS[name]
    whole = trained(make_run, "whole", *settings, "hardware.micro_batch_tokens=null")
    run = trained(make_run, "divided", *settings, *changes)
    assert losses(run) == pytest.approx(losses(whole), rel=1e-4)
    assert live(run) == pytest.approx(live(whole), rel=1e-4, abs=1e-5)
    models = [
        AutoModelForCausalLM.from_pretrained(lineage.model_folder(run, "tuned"))
        for run in (run, whole)
    ]
    for a, b in zip(*(model.parameters() for model in models), strict=True):
        torch.testing.assert_close(a, b, atol=1e-2, rtol=1e-2)


def stopped_after(run: Run, steps: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Train and hear a signal during a step."""
    agree = SelfDistillation._sum_over_processes

    def signalled(module: SelfDistillation, values: list[float]) -> list[float]:
        module.stop_requested |= module.step == steps - 1
        return agree(module, values)

    with monkeypatch.context() as patched, pytest.raises(PreemptedError):
        patched.setattr(SelfDistillation, "_sum_over_processes", signalled)
        train(run)


@pytest.mark.parametrize("adapter", ["none", pytest.param("lora", marks=pytest.mark.slow)])
def test_a_soft_training_that_was_stopped_goes_on_as_if_it_had_not_been(
    make_run: Make, monkeypatch: pytest.MonkeyPatch, adapter: str
) -> None:
    settings = (*SOFT, f"adapter={adapter}", "train.checkpoint_every=1000")
    whole = trained(make_run, "whole", *settings)
    run = make_run(*settings, name="stopped")
    write_corpus(run, LENGTHS)
    stopped_after(run, 4, monkeypatch)
    train(run)
    assert losses(run) == losses(whole)
    assert live(run) == live(whole)


def test_what_a_soft_training_reports_is_the_cross_entropy_of_its_own_target(
    make_run: Make,
) -> None:
    soft = (*SOFT, "train.max_steps=2")
    other = ("objective.temp=1", "truncation@objective.truncation=top_k10")
    both, half = trained(make_run, "both", *soft), trained(make_run, "half", *soft, *other)
    assert lineage.target(half) == Decoding(1.0, 10, 1.0)
    measured = [
        dict(read_metrics(lineage.checkpoint(run).folder)[0])["decomposition/cross_entropy"]
        for run in (both, half)
    ]
    assert abs(measured[0] - measured[1]) > 0.01
