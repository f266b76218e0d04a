"""What an export takes over from its base: tensors that are not loaded, files, and its name."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from checkpoints import IGNORED, add_ignored, change_json, change_tensors, shard
from corpora import write_corpus
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    Qwen3_5Config,
    Qwen3_5ForConditionalGeneration,
)

from ssd.config.choices import EngineName
from ssd.generation.engine import Request
from ssd.generation.engines import load_engine
from ssd.method.decoding import Decoding
from ssd.models import Weights
from ssd.models.chat import load_tokenizer, stop_token_ids
from ssd.models.tensors import read_tensors, tensor_names
from ssd.run import Run, lineage
from ssd.train.trainer import train

LENGTHS = [(5, 9), (12, 3), (4, 20), (7, 7)]
Make = Callable[..., Run]


@pytest.fixture
def copy(tmp_path: Path, tiny_weights: Weights) -> Path:
    return Path(shutil.copytree(tiny_weights.path, tmp_path / "model"))


def trained(make_run: Make, folder: Path, *overrides: str) -> Run:
    run = make_run(f"model.path={folder}", "train.max_steps=2", *overrides)
    write_corpus(run, LENGTHS)
    train(run)
    return run


def record(run: Run) -> dict[str, Any]:
    facts: dict[str, Any] = lineage.checkpoint(run).manifest()["export_check"]
    return facts


@pytest.mark.parametrize(
    ("sharded", "settings"), [(False, ()), (True, ("adapter=lora",))], ids=["whole", "shards, lora"]
)
def test_a_tensor_that_is_not_loaded_is_carried_over_unchanged(
    make_run: Make, copy: Path, sharded: bool, settings: tuple[str, ...]
) -> None:
    added = add_ignored(copy)
    if sharded:
        shard(copy)
    run = trained(make_run, copy, *settings)
    model = lineage.model_folder(run, "tuned")
    assert record(run)["carried_over"] == [IGNORED]
    assert tensor_names(model) == tensor_names(copy)
    assert torch.equal(read_tensors(model, [IGNORED])[IGNORED], added)
    before, after = (read_tensors(path, ["model.norm.weight"]) for path in (copy, model))
    assert before["model.norm.weight"].shape == after["model.norm.weight"].shape


def test_an_adapter_alone_carries_nothing_and_names_the_folder(make_run: Make, copy: Path) -> None:
    add_ignored(copy)
    run = trained(make_run, copy, "adapter=lora", "adapter.merge=false")
    folder = lineage.checkpoint(run).folder
    assert "carried_over" not in record(run)
    assert not (folder / "model").exists()
    config = json.loads((folder / "adapter" / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == str(copy)


def test_decoding_defaults_and_preprocessors_are_the_bases_own(make_run: Make, copy: Path) -> None:
    change_json(copy, "generation_config.json", temperature=0.6, top_p=0.9)
    change_json(copy, "preprocessor_config.json", image_processor_type="Qwen2VLImageProcessor")
    named = "additional_chat_templates/rag.jinja"
    (copy / named).parent.mkdir()
    (copy / named).write_text("{{ documents }}")
    run = trained(make_run, copy)
    files = ("generation_config.json", "preprocessor_config.json", "chat_template.jinja", named)
    for name in files:
        assert (lineage.model_folder(run, "tuned") / name).read_bytes() == (
            copy / name
        ).read_bytes()


def test_an_export_ends_answers_where_its_base_does(make_run: Make, copy: Path) -> None:
    config = json.loads((copy / "config.json").read_text())
    del config["eos_token_id"]
    (copy / "config.json").write_text(json.dumps(config))
    (copy / "generation_config.json").unlink()
    model = lineage.model_folder(trained(make_run, copy), "tuned")
    tokenizer = load_tokenizer(str(model))
    stops = stop_token_ids(str(copy), tokenizer)
    assert stops == stop_token_ids(str(model), tokenizer) == [tokenizer.eos_token_id]


def test_a_tied_head_that_is_stored_as_well_is_exported_tied(make_run: Make, copy: Path) -> None:
    change_tensors(
        copy, lambda held: held.update({"lm_head.weight": held["model.embed_tokens.weight"] + 0})
    )
    run = trained(make_run, copy)
    assert "carried_over" not in record(run)
    assert tensor_names(lineage.model_folder(run, "tuned")) == tensor_names(copy) - {
        "lm_head.weight"
    }


@pytest.fixture
def seeing(tmp_path: Path, tiny_weights: Weights) -> Path:
    """A random Qwen3.5 with linear attention, a tower for images and a tensor for drafting."""
    folder = tmp_path / "seeing"
    tokenizer = AutoTokenizer.from_pretrained(tiny_weights.path)
    tokenizer.save_pretrained(folder)
    text = {
        "vocab_size": len(tokenizer), "hidden_size": 64, "num_hidden_layers": 2,
        "layer_types": ["linear_attention", "full_attention"], "num_attention_heads": 2,
        "num_key_value_heads": 1, "head_dim": 32, "intermediate_size": 64,
        "linear_num_key_heads": 2, "linear_num_value_heads": 2, "linear_key_head_dim": 16,
        "linear_value_head_dim": 16, "max_position_embeddings": 8192, "tie_word_embeddings": True,
        "eos_token_id": tokenizer.eos_token_id, "bos_token_id": None,
    }  # fmt: skip
    tower = {"depth": 1, "hidden_size": 32, "intermediate_size": 32, "num_heads": 2,
             "out_hidden_size": 64, "deepstack_visual_indexes": []}  # fmt: skip
    config = Qwen3_5Config(text_config=text, vision_config=tower, tie_word_embeddings=True)
    torch.manual_seed(0)
    Qwen3_5ForConditionalGeneration(config).to(torch.bfloat16).save_pretrained(folder)
    add_ignored(folder)
    return folder


def test_a_model_that_also_sees_is_exported_whole(make_run: Make, seeing: Path) -> None:
    run = trained(make_run, seeing, "train.packing=false")
    model = lineage.model_folder(run, "tuned")
    carried = record(run)["carried_over"]
    assert tensor_names(model) == tensor_names(seeing)
    assert {name.split(".")[0] for name in carried} == {"mtp", "model"}
    assert all(".visual." in name for name in carried if name != IGNORED)
    whole, report = Qwen3_5ForConditionalGeneration.from_pretrained(model, output_loading_info=True)
    assert not report["missing_keys"] and not report["mismatched_keys"]
    assert whole.config.model_type == "qwen3_5"


@pytest.mark.slow
def test_vllm_loads_an_export_whose_carried_tensors_lie_in_a_file_of_their_own(
    make_run: Make, copy: Path
) -> None:
    stray = "model.layers.0.self_attn.rotary_emb.inv_freq"  # in Llamas saved before 2023
    change_tensors(copy, lambda held: held.update({stray: torch.ones(16)}))
    run = trained(make_run, copy, "model.dtype=float32")
    model = lineage.model_folder(run, "tuned")
    assert record(run)["carried_over"] == [stray]
    prompt = list(range(40, 60))
    request = Request(
        prompt_id="p", sample_index=0, prompt_token_ids=prompt, seed=0, max_new_tokens=12,
        decoding=Decoding(temp=0.0),
    )  # fmt: skip
    config = run.config
    with load_engine(
        EngineName.vllm, model, config.model, config.hardware, max_model_len=64
    ) as engine:
        ((_, answer),) = engine.generate([request], logprobs=None, tick=lambda _: None)
    network: Any = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32)
    logits = network(input_ids=torch.tensor([prompt + answer.token_ids])).logits[0]
    assert logits[len(prompt) - 1 : -1].argmax(-1).tolist() == answer.token_ids
