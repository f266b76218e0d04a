"""Every architecture of `model=tiny model.name=NAME`: trained alike in packed rows and one document
at a time, and exported as its base was."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from runs import compose_config
from safetensors.torch import load_file
from test_moe import batches, gradients, require_close
from test_trainer import losses, trained
from transformers import (
    Gemma3Config,
    Gemma3ForConditionalGeneration,
    Gemma3nTextConfig,
    JambaConfig,
    JambaForCausalLM,
)

from ssd.errors import ModelError
from ssd.models.fetch import fetch
from ssd.models.network import check_head
from ssd.models.random_init import RANDOM_MODELS, SHAPE, byte_tokenizer
from ssd.run import Run, lineage
from ssd.train.attention import check_isolation
from ssd.train.export import tensor_names
from ssd.train.network import CompletionLoss, build
from ssd.train.recurrent import recurrent_modules
from ssd.train.rows import Rows, choose_rows

CPU = torch.device("cpu")
HYBRIDS = ("tiny_qwen35", "tiny_qwen3_next")
FP32 = ("train.precision=fp32", "train.max_steps=3")
Make = Callable[..., Run]


def built(name: str, *overrides: str) -> CompletionLoss:
    config = compose_config(
        "model=tiny", f"model.name={name}", "hardware=cpu", "train.precision=fp32", *overrides
    )
    folder = Path(fetch(config.model).path)
    return build(
        folder, config.adapter, config.train, config.objective, config.hardware, device=CPU
    )


@pytest.mark.parametrize("name", RANDOM_MODELS)
def test_packed_rows_have_the_loss_and_gradients_of_one_document_a_row(name: str) -> None:
    loss = built(name)
    check_head(loss.network)
    value, expected = gradients(loss, batches(packing=False))
    packed, found = gradients(loss, batches(packing=True))
    assert packed == pytest.approx(value, rel=1e-6)
    require_close(found, expected, 1e-5)


@pytest.mark.parametrize("name", HYBRIDS)
@pytest.mark.parametrize(
    "how", ["hardware.attention=sdpa", "hardware.activation_checkpointing=full"]
)
def test_hybrids_are_packed_alike_under_other_attention_and_recomputation(
    name: str, how: str
) -> None:
    value, expected = gradients(built(name), batches(packing=False))
    packed, found = gradients(built(name, how), batches(packing=True))
    assert packed == pytest.approx(value, rel=1e-6)
    require_close(found, expected, 1e-5)


@pytest.mark.parametrize("name", HYBRIDS)
def test_the_start_up_check_finds_a_state_that_documents_share(name: str) -> None:
    loss = built(name)
    assert len(recurrent_modules(loss)) == 1
    check_isolation(loss, "ssd_varlen", 259, CPU)
    loss.is_recurrent = False
    with pytest.raises(ModelError, match=r"train\.packing=false"):
        check_isolation(loss, "ssd_varlen", 259, CPU)


@pytest.mark.parametrize("name", RANDOM_MODELS)
def test_a_few_layers_without_weights_tell_that_documents_can_share_rows(name: str) -> None:
    config = compose_config("model=tiny", f"model.name={name}", "hardware=cpu")
    rows = choose_rows(Path(fetch(config.model).path), config.train, config.hardware)
    assert rows == Rows(packed=True, tried=True)


@pytest.fixture(scope="session")
def jamba(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A state space beside attention, whose layers are not told where documents begin."""
    folder = tmp_path_factory.mktemp("jamba")
    tokenizer = byte_tokenizer()
    tokenizer.save_pretrained(folder)
    config = JambaConfig(
        vocab_size=len(tokenizer), hidden_size=64, intermediate_size=64, num_hidden_layers=2,
        num_attention_heads=2, num_key_value_heads=1, attn_layer_period=2, attn_layer_offset=1,
        num_experts=1, mamba_dt_rank=4, max_position_embeddings=8192,
        bos_token_id=None, eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )  # fmt: skip
    torch.manual_seed(0)
    JambaForCausalLM(config).save_pretrained(folder)
    return folder


def test_where_states_cannot_be_told_apart_a_row_holds_one_document_and_training_says_so(
    make_run: Make, jamba: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = (*FP32, f"model.path={jamba}")
    run, padded = (
        trained(make_run, name, *settings, f"train.packing={packing}")
        for name, packing in (("asked", "true"), ("padded", "false"))
    )
    said = [line for line in capsys.readouterr().out.splitlines() if "row of its own" in line]
    assert len(said) == 1
    assert "JambaForCausalLM" in said[0]
    assert "%" in said[0]
    assert lineage.checkpoint(run).fingerprint == lineage.checkpoint(padded).fingerprint
    states = [
        (lineage.model_folder(each, "tuned") / "model.safetensors").read_bytes()
        for each in (run, padded)
    ]
    assert states[0] == states[1]


@pytest.fixture(scope="session")
def seeing(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Gemma 3 with the part that reads images, as its 4B has it; attention layers as in the 1B."""
    folder = tmp_path_factory.mktemp("seeing")
    tokenizer = byte_tokenizer()
    tokenizer.save_pretrained(folder)
    text = SHAPE | RANDOM_MODELS["tiny_gemma3"] | {"vocab_size": len(tokenizer)}
    text |= {"eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id}
    images = {
        "hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 1,
        "num_attention_heads": 2, "image_size": 56, "patch_size": 14,
    }  # fmt: skip
    config = Gemma3Config(text_config=text, vision_config=images, mm_tokens_per_image=4)
    torch.manual_seed(0)
    Gemma3ForConditionalGeneration(config).to(torch.bfloat16).save_pretrained(folder)
    return folder


def test_a_model_that_also_sees_is_trained_in_its_text_alone_and_exported_whole(
    make_run: Make, seeing: Path
) -> None:
    settings = (*FP32, f"model.path={seeing}")
    run = trained(make_run, "seeing", *settings)
    alone = trained(make_run, "alone", *settings, "train.packing=false")
    assert losses(run) == pytest.approx(losses(alone), rel=1e-5)
    tuned, base = (
        load_file(lineage.model_folder(run, arm) / "model.safetensors") for arm in ("tuned", "base")
    )
    assert tuned.keys() == base.keys()
    moved = {name for name in base if not torch.equal(tuned[name], base[name])}
    assert moved
    assert all("language_model" in name for name in moved)
    counts = lineage.checkpoint(run).manifest()["counts"]
    assert counts["num_trainable"] < counts["num_parameters"]


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=() if name in ("tiny_qwen35", "tiny_gemma3") else pytest.mark.slow)
        for name in RANDOM_MODELS
    ],
)
def test_a_trained_model_is_exported_as_its_base_was(make_run: Make, name: str) -> None:
    run = trained(make_run, name, *FP32, f"model.name={name}")
    assert lineage.checkpoint(run).manifest()["export_check"]["max_logit_difference"] == 0
    tuned, base = (lineage.model_folder(run, arm) for arm in ("tuned", "base"))
    assert tensor_names(tuned) == tensor_names(base)
    assert ("lm_head.weight" in tensor_names(tuned)) != RANDOM_MODELS[name].get(
        "tie_word_embeddings", False
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    "change",
    [
        "train.packing=false",
        "hardware.micro_batch_tokens=1",
        "hardware.activation_checkpointing=selective",
        "hardware.compile_training=true",
        "hardware.devices=2",
        "hardware.devices=2 hardware.strategy=ddp",
    ],
)
def test_no_division_of_the_work_changes_what_a_hybrid_learns(make_run: Make, change: str) -> None:
    settings = (*FP32, "model.name=tiny_qwen35")
    whole = trained(make_run, "whole", *settings)
    run = trained(make_run, "changed", *settings, *change.split())
    assert losses(run) == pytest.approx(losses(whole), rel=1e-4)


def test_an_architecture_that_cannot_be_made_small_is_left_to_the_check_of_training(
    tmp_path: Path,
) -> None:
    config = compose_config("model=tiny", "hardware=cpu")
    Gemma3nTextConfig().save_pretrained(tmp_path)
    rows = choose_rows(tmp_path, config.train, config.hardware)
    assert (rows.packed, rows.tried, rows.note) == (True, False, None)
    assert rows.fault is not None and rows.fault.startswith("TypeError: ")
