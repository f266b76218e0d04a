import signal
import subprocess
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from bitsandbytes.nn import Linear4bit
from corpora import write_corpus
from peft import PeftModel
from safetensors import safe_open
from torch import nn
from transformers import AutoModelForCausalLM, Gemma3Config, LlamaConfig, LlamaForCausalLM

from ssd.config.choices import AdapterType
from ssd.config.settings import AdapterConfig
from ssd.errors import ConfigError
from ssd.models import Weights
from ssd.models.random_init import random_fields
from ssd.run import Run, lineage
from ssd.run.launch import stage_command, stage_environment
from ssd.run.lineage import step_folders
from ssd.run.tracking import read_metrics
from ssd.runtime import precision
from ssd.train.attention import check_isolation
from ssd.train.network import CompletionLoss, adapt, build
from ssd.train.trainer import parameter_counts, train

LENGTHS = [(5, 9), (12, 3), (4, 20), (7, 7), (3, 15), (9, 2), (6, 30), (5, 5)]
CPU = torch.device("cpu")


def losses(run: Run) -> list[float]:
    lines = read_metrics(lineage.checkpoint(run).folder)
    return [line["train/loss"] for line in lines if line["step"]]


def built(run: Run) -> CompletionLoss:
    config = run.config
    folder = lineage.model_folder(run, "base")
    return build(
        folder, config.adapter, config.train, config.objective, config.hardware, device=CPU
    )


@pytest.fixture(scope="module")
def untied(tmp_path_factory: pytest.TempPathFactory, tiny_weights: Weights) -> Path:
    """The tiny model with a head of its own."""
    folder = tmp_path_factory.mktemp("untied")
    config = LlamaConfig.from_pretrained(tiny_weights.path, tie_word_embeddings=False)
    LlamaForCausalLM(config).save_pretrained(folder)
    return folder


@pytest.mark.slow
def test_a_killed_qlora_training_resumes_to_the_uninterrupted_curve(
    make_run: Callable[..., Run],
) -> None:
    settings = (
        "adapter=qlora", "adapter.rank=64", "adapter.dropout=0.3", "optimizer=adamw8bit",
        "train.max_steps=40", "train.checkpoint_every=3",
    )  # fmt: skip
    whole = make_run(*settings, f"output_dir={make_run().folder.parent}/whole", name="whole")
    write_corpus(whole, LENGTHS)
    train(whole)
    assert losses(whole)[-1] < losses(whole)[0]

    run = make_run(*settings, name="killed")
    write_corpus(run, LENGTHS)
    threads = {"OMP_NUM_THREADS": str(torch.get_num_threads())}
    process = subprocess.Popen(
        stage_command(run, "train"), env={**stage_environment(run, "train"), **threads}, text=True,
        stderr=subprocess.PIPE,
    )  # fmt: skip
    deadline = time.monotonic() + 120
    while not step_folders(lineage.checkpoint(run).folder) and time.monotonic() < deadline:
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    _, printed = process.communicate()
    assert process.returncode == -signal.SIGKILL
    assert all(line.startswith("training: ") for line in printed.splitlines() if line)
    assert 3 <= len(losses(run)) < 40

    train(run)
    assert losses(run) == pytest.approx(losses(whole), rel=1e-5)
    weights = [safe_tensors(lineage.checkpoint(r).folder / "adapter") for r in (whole, run)]
    for name, tensor in weights[0].items():
        torch.testing.assert_close(weights[1][name], tensor, atol=1e-3, rtol=1e-3)


def safe_tensors(folder: Path) -> dict[str, Any]:
    with safe_open(folder / "adapter_model.safetensors", "pt") as file:
        return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118


@pytest.mark.parametrize("kind", ["lora", "qlora"])
def test_a_trained_adapter_loads_onto_the_unquantised_base(
    make_run: Callable[..., Run], kind: str
) -> None:
    run = make_run(f"adapter={kind}", "adapter.merge=false", "train.warmup_steps=0")
    write_corpus(run, LENGTHS)
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        warnings.filterwarnings("default", module="lightning|torch")
        train(run)
    manifest = lineage.checkpoint(run).manifest()
    assert manifest["export_check"]["max_logit_difference"] == 0
    adapter = lineage.adapter_folder(run, "tuned")
    assert adapter is not None
    assert lineage.model_folder(run, "tuned") == lineage.model_folder(run, "base")
    assert not (adapter / "README.md").exists()  # the report writes the card
    assert not (lineage.checkpoint(run).folder / "model").exists()
    ids = torch.arange(1, 20)[None]
    base: Any = AutoModelForCausalLM.from_pretrained(lineage.model_folder(run, "tuned"))
    before = base(input_ids=ids).logits
    assert not torch.equal(PeftModel.from_pretrained(base, adapter)(input_ids=ids).logits, before)


def test_parameters_in_four_bits_are_counted_one_by_one(make_run: Callable[..., Run]) -> None:
    plain, lora, qlora = (
        parameter_counts(built(make_run(f"adapter={kind}"))) for kind in ("none", "lora", "qlora")
    )
    assert lora == qlora
    assert qlora["num_parameters"] == plain["num_parameters"] + qlora["num_trainable"]
    assert plain["num_trainable"] == plain["num_parameters"]


@pytest.mark.parametrize("tied", [True, False])
def test_embedding_and_head_stay_unquantised(
    make_run: Callable[..., Run],
    untied: Path,
    tied: bool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Whatever this CPU is: one with bf16 products, where frozen weights are bf16.
    (tmp_path / "cpuinfo").write_text("flags\t\t: avx2 avx512bw\n")
    monkeypatch.setattr(precision, "CPU_INFO", tmp_path / "cpuinfo")
    config = make_run("adapter=qlora").config
    folder = lineage.model_folder(make_run(), "base") if tied else untied
    loss = build(
        folder, config.adapter, config.train, config.objective, config.hardware, device=CPU
    )
    quantised = {name for name, m in loss.model.named_modules() if isinstance(m, Linear4bit)}
    assert len(quantised) == 14  # 7 per layer
    assert all(".layers." in name for name in quantised)
    for module in (loss.model.get_input_embeddings(), loss.head):
        assert module.weight.dtype is torch.bfloat16
        assert tuple(module.weight.shape) == (259, 64)
    assert (loss.head.weight is loss.model.get_input_embeddings().weight) is tied


def test_dropout_is_no_leak_between_packed_documents(make_run: Callable[..., Run]) -> None:
    loss = built(make_run("adapter=lora", "adapter.dropout=0.5", "train.precision=fp32"))
    for name, parameter in loss.named_parameters():
        if "lora_B" in name:  # as after some steps, when a training resumes
            torch.nn.init.normal_(parameter, std=0.1)
    assert loss.training
    check_isolation(loss, loss.model.config._attn_implementation, 256, CPU)


def test_adapters_sit_on_every_linear_layer_but_the_head(untied: Path) -> None:
    network = AutoModelForCausalLM.from_pretrained(untied)
    adapted = adapt(network, AdapterConfig(type=AdapterType.lora, rank=4), empty=False)
    trained = {name.split(".lora_")[0] for name, p in adapted.named_parameters() if p.requires_grad}
    assert len(trained) == 14
    assert all(".layers." in name for name in trained)


def test_what_reads_images_is_not_adapted() -> None:
    tower = {"hidden_size": 32, "intermediate_size": 64, "num_attention_heads": 2}
    text = {**random_fields("tiny_gemma3"), "vocab_size": 300}
    sizes = {"num_hidden_layers": 1, "image_size": 16, "patch_size": 4}
    config = Gemma3Config(text_config=text, vision_config=tower | sizes, mm_tokens_per_image=4)
    network = AutoModelForCausalLM.from_config(config)
    assert any("vision" in name for name, m in network.named_modules() if isinstance(m, nn.Linear))
    adapted = adapt(network, AdapterConfig(type=AdapterType.lora, rank=4), empty=False)
    names = {name for name, p in adapted.named_parameters() if p.requires_grad}
    assert len(names) == 2 * 14
    assert all(".language_model.layers." in name for name in names)


def test_four_bit_weights_are_not_sharded(make_run: Callable[..., Run]) -> None:
    two = ("hardware.devices=2",)
    with pytest.raises(ConfigError, match=r"adapter=qlora .* use adapter=lora, or hardware.stra"):
        make_run("adapter=qlora", *two)
    assert not make_run("adapter=qlora", *two, "hardware.strategy=ddp").config.hardware.shards


def test_a_share_of_dropout_beyond_one_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"adapter.dropout must lie in \[0, 1\), got 1.5"):
        AdapterConfig(dropout=1.5)
