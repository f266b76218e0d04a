import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable

import pytest
import torch
from corpora import write_corpus
from transformers import AutoModelForCausalLM

from ssd.errors import ArtifactError, DataError
from ssd.pipeline import stage_command
from ssd.run import Run
from ssd.stage import REPORTED
from ssd.tracking import read_metrics
from ssd.train.trainer import last_checkpoint, train

LENGTHS = [(5, 9), (12, 3), (4, 20), (7, 7), (3, 15), (9, 2), (6, 30), (5, 5)]
FP32 = ("train.precision=fp32", "train.max_steps=8", "hardware.micro_batch_size=2")


def losses(run: Run) -> list[float]:
    return [line["train/loss"] for line in read_metrics(run.checkpoint.folder)]


def test_a_trained_checkpoint_loads_and_differs_from_its_base(make_run: Callable[..., Run]) -> None:
    run = make_run(*FP32)
    write_corpus(run, LENGTHS)
    train(run)
    manifest = run.checkpoint.manifest()
    assert manifest["export_check"]["max_logit_difference"] == 0
    assert manifest["counts"]["num_steps"] == 8
    tuned = AutoModelForCausalLM.from_pretrained(run.model_folder("tuned"))
    base = AutoModelForCausalLM.from_pretrained(run.model_folder("base"))
    assert set(tuned.state_dict()) == set(base.state_dict())
    assert any(
        not torch.equal(tuned.state_dict()[name], base.state_dict()[name])
        for name in base.state_dict()
    )
    curve = losses(run)
    assert len(curve) == 8
    assert curve[-1] < curve[0]
    assert not (run.checkpoint.folder / "resume").exists()


def test_lora_trains_few_weights_and_exports_them_merged(make_run: Callable[..., Run]) -> None:
    run = make_run(*FP32, "adapter=lora", "adapter.rank=2")
    write_corpus(run, LENGTHS)
    train(run)
    counts = run.checkpoint.manifest()["counts"]
    assert 0 < counts["num_trainable"] < counts["num_parameters"] / 10
    tuned = AutoModelForCausalLM.from_pretrained(run.model_folder("tuned")).state_dict()
    base = AutoModelForCausalLM.from_pretrained(run.model_folder("base")).state_dict()
    assert set(tuned) == set(base)
    assert not torch.equal(
        tuned["model.layers.0.mlp.up_proj.weight"], base["model.layers.0.mlp.up_proj.weight"]
    )


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_killed_training_resumes_to_the_uninterrupted_curve(
    make_run: Callable[..., Run], precision: str
) -> None:
    settings = ("train.max_steps=40", "train.checkpoint_every=3", f"train.precision={precision}")
    whole = make_run(*settings, f"output_dir={make_run().folder.parent}/whole", name="whole")
    write_corpus(whole, LENGTHS)
    train(whole)

    run = make_run(*settings, name="killed")
    write_corpus(run, LENGTHS)
    process = subprocess.Popen(
        stage_command(run, "train"), env={**os.environ, "OMP_NUM_THREADS": "1"}
    )
    resume = run.checkpoint.folder / "resume"
    deadline = time.monotonic() + 120
    while (
        not list(resume.glob("*.ckpt")) and process.poll() is None and time.monotonic() < deadline
    ):
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert not run.checkpoint.done
    done_before = len(losses(run))
    assert 3 <= done_before < 40
    assert last_checkpoint(resume) is not None

    train(run)
    assert losses(run) == pytest.approx(losses(whole), rel=1e-5 if precision == "fp32" else 2e-3)


def test_a_checkpoint_cut_short_is_passed_over(make_run: Callable[..., Run]) -> None:
    folder = make_run().folder
    torch.save({"a": torch.zeros(1000)}, folder / "step=3.ckpt")
    whole = (folder / "step=3.ckpt").read_bytes()
    (folder / "step=6.ckpt").write_bytes(whole[: len(whole) // 2])
    found = last_checkpoint(folder)
    assert found is not None
    assert found.name == "step=3.ckpt"


def test_training_without_a_corpus_says_which_stage_is_missing(
    make_run: Callable[..., Run],
) -> None:
    run = make_run()
    with pytest.raises(ArtifactError, match="unfinished: sample first"):
        train(run)
    stage = subprocess.run(stage_command(run, "train"), capture_output=True, text=True, check=False)
    assert stage.returncode == REPORTED
    assert stage.stderr.strip().splitlines()[-1].startswith("error: ")


def test_a_sample_beyond_seq_len_stops_before_weights_load(make_run: Callable[..., Run]) -> None:
    run = make_run("train.seq_len=10")
    write_corpus(run, LENGTHS)
    with pytest.raises(
        DataError, match=r"train.seq_len is 10: raise it, or set train.long_samples=skip"
    ):
        train(run)


def test_two_processes_give_the_losses_and_weights_of_one(make_run: Callable[..., Run]) -> None:
    one = make_run(*FP32, f"output_dir={make_run().folder.parent}/one", name="one")
    write_corpus(one, LENGTHS)
    train(one)
    two = make_run(*FP32, "hardware.devices=2", "hardware.micro_batch_size=1", name="two")
    write_corpus(two, LENGTHS)
    command = stage_command(two, "train")
    assert "torch.distributed.run" in command
    subprocess.run(
        command, check=True, env={**os.environ, "OMP_NUM_THREADS": "1"}, stdout=sys.stderr
    )
    assert losses(two) == pytest.approx(losses(one), rel=1e-4)
    weights = [
        AutoModelForCausalLM.from_pretrained(run.model_folder("tuned"), dtype=torch.float32)
        for run in (one, two)
    ]
    for a, b in zip(weights[0].parameters(), weights[1].parameters(), strict=True):
        torch.testing.assert_close(a, b, atol=1e-2, rtol=1e-2)
