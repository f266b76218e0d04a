"""A later round's training: what it begins with, what it reads, and whose distribution it is fitted
to."""

from collections.abc import Callable

import pytest
import torch
from corpora import write_corpus
from test_trainer import FP32, in_child, live, losses
from transformers import AutoModelForCausalLM

from ssd.errors import ArtifactError
from ssd.run import Run, lineage, save_run
from ssd.run.rounds import of_round
from ssd.train.network import build
from ssd.train.trainer import train

Make = Callable[..., Run]
FIRST = [(5, 9), (12, 3), (4, 20), (7, 7), (3, 15), (9, 2), (6, 30), (5, 5)]
SECOND = [(5, 4), (12, 8), (4, 11), (7, 25), (3, 6), (9, 9)]
LEARNS = (*FP32, "model.dtype=float32", "train.warmup_steps=0")
"""Exported in fp32, so that a round begins with exactly what was trained."""


def two_rounds(make_run: Make, name: str, *settings: str) -> Run:
    """The second of two rounds, after the first was trained in this process."""
    store = f"output_dir={make_run().folder.parent}/{name}"
    first = make_run(*LEARNS, "rounds=2", *settings, store, name=name)
    second = of_round(first, 2)
    save_run(second, ["python", "train.py"])
    write_corpus(first, FIRST)
    train(first)
    write_corpus(second, SECOND)
    train(second)
    return second


def first_model(second: Run) -> str:
    return str(lineage.model_folder(of_round(second, 1), "tuned"))


@pytest.mark.parametrize("start", ["base", "previous"])
def test_a_round_trains_as_a_run_of_the_model_that_it_begins_with(
    make_run: Make, start: str
) -> None:
    second = two_rounds(make_run, "rounds", f"rounds.train_from={start}")
    model = [f"model.path={first_model(second)}"] if start == "previous" else []
    alone = make_run(*LEARNS, *model, f"output_dir={second.folder}/alone", name="alone")
    write_corpus(alone, SECOND)
    train(alone)
    assert losses(second) == losses(alone)
    # The loss parts by the model that drew the samples, which base is not.
    assert live(second) == (live(alone) if start == "previous" else [])


def test_accumulated_samples_are_all_trained_on(make_run: Make) -> None:
    settings = ("rounds.accumulate=true", "rounds.train_from=previous")
    counts = lineage.checkpoint(two_rounds(make_run, "rounds", *settings)).manifest()["counts"]
    assert counts["num_samples"] == len(FIRST) + len(SECOND)
    whole = sum(completion for _, completion in (*FIRST, *SECOND))
    assert counts["num_loss_tokens"] == whole


def weights(folder: str) -> dict[str, torch.Tensor]:
    return dict(AutoModelForCausalLM.from_pretrained(folder).named_parameters())


@pytest.mark.parametrize("adapter", ["none", "lora"])
def test_a_soft_round_is_fitted_to_the_model_that_drew_its_samples(
    make_run: Make, adapter: str
) -> None:
    settings = ("objective=soft", "sampler.temp=1.6", f"adapter={adapter}")
    second = two_rounds(make_run, "rounds", *settings)
    config = second.config
    loss = build(
        lineage.start_folder(second), config.adapter, config.train, lineage.objective(second),
        config.hardware, device=torch.device("cpu"), teacher=lineage.teacher_folder(second),
    )  # fmt: skip
    drew, base = weights(first_model(second)), weights(second.weights.path)
    for name, parameter in loss.base.named_parameters():
        assert not parameter.requires_grad
        torch.testing.assert_close(parameter, drew[name], atol=0, rtol=0)
    assert any((drew[name] != base[name]).any() for name in base)
    # The base model itself as its own teacher has other losses.
    assert losses(second) != losses(
        two_rounds(make_run, "onward", *settings, "rounds.train_from=previous")
    )


@pytest.mark.slow
@pytest.mark.parametrize("adapter", ["none", "lora"])
@pytest.mark.parametrize("strategy", ["fsdp", "ddp"])
def test_two_processes_learn_a_soft_round_as_one_does(
    make_run: Make, adapter: str, strategy: str
) -> None:
    settings = ("objective=soft", "sampler.temp=1.6", f"adapter={adapter}")
    whole = two_rounds(make_run, "whole", *settings, "hardware.micro_batch_tokens=null")
    divided = ("hardware.devices=2", f"hardware.strategy={strategy}")
    first = make_run(*LEARNS, "rounds=2", *settings, f"output_dir={whole.config.output_dir}",
                     *divided, name="divided")  # fmt: skip
    run = of_round(first, 2)
    save_run(run, ["python", "train.py"])
    before = losses(whole)
    checkpoint = lineage.checkpoint(run).folder
    assert checkpoint == lineage.checkpoint(whole).folder
    checkpoint.rename(checkpoint.with_name(f"{checkpoint.name}-whole"))
    in_child(run)
    assert losses(run) == pytest.approx(before, rel=1e-4)


def test_a_round_does_not_begin_with_a_damaged_model(make_run: Make) -> None:
    store = f"output_dir={make_run().folder.parent}/damaged"
    first = make_run(*LEARNS, "rounds=2", "rounds.train_from=previous", store, name="damaged")
    second = of_round(first, 2)
    write_corpus(first, FIRST)
    train(first)
    write_corpus(second, SECOND)
    file = lineage.start_folder(second) / "model.safetensors"
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    with pytest.raises(ArtifactError, match=r"model\.safetensors"):
        train(second)
    assert not lineage.checkpoint(second).done
