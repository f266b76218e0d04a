import importlib
import importlib.util
import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import pytest
import templates
import torch
from checkpoints import IGNORED, add_ignored, change_json, change_tensors, shard
from runs import compose_config
from safetensors.torch import save_file
from transformers import (
    AutoConfig,
    AutoTokenizer,
    Gemma2Config,
    Gemma2ForCausalLM,
    GPT2Config,
    GPT2LMHeadModel,
)
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

from ssd.check.__main__ import main, read_model
from ssd.check.check import FIRST, ITEMS, check_model, refusals
from ssd.check.registry import lacking_package, largest_rank, unnamed, vllm_module
from ssd.config.choices import AdapterType
from ssd.config.settings import AdapterConfig
from ssd.errors import ConfigError, ModelError
from ssd.models import Weights
from ssd.models.fetch import fetch
from ssd.models.miniature import miniature
from ssd.models.network import check_head, load
from ssd.models.tensors import account
from ssd.models.weights import locate
from ssd.runtime.findings import Finding, State, screen
from ssd.train.network import adapt


@pytest.fixture
def copy(tmp_path: Path, tiny_weights: Weights) -> Path:
    return Path(shutil.copytree(tiny_weights.path, tmp_path / "model"))


def checked(folder: Path | str, *overrides: str) -> dict[str, Finding]:
    config = compose_config("model=tiny", "hardware=cpu", *overrides)
    return {finding.item: finding for finding in check_model(Path(folder), config)}


@pytest.mark.parametrize("name", ["tiny", "tiny_moe"])
def test_a_whole_model_passes_every_item_without_a_note(name: str) -> None:
    weights = fetch(compose_config(f"model={name}").model)
    findings = checked(weights.path, "adapter=lora")
    assert list(findings) == list(ITEMS)
    assert {finding.state for finding in findings.values()} == {State.ok}, findings
    assert len(screen(list(findings.values())).splitlines()) == len(ITEMS)


@pytest.mark.parametrize("sharded", [False, True])
def test_a_tensor_that_the_loader_passes_over_is_named(copy: Path, sharded: bool) -> None:
    add_ignored(copy)
    if sharded:
        shard(copy)
    findings = checked(copy)
    assert findings["tensors"].state is State.note
    assert IGNORED in findings["tensors"].text
    assert not refusals(list(findings.values()))
    held = account(copy)
    assert held.passed_over == [IGNORED]
    assert {parameter.device.type for parameter in held.skeleton.parameters()} == {"meta"}


def cut_in_half(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def misplace(folder: Path) -> None:
    shard(folder)
    path = folder / "model.safetensors.index.json"
    places = json.loads(path.read_text())["weight_map"]
    places["model.absent.weight"] = next(iter(places.values()))
    path.write_text(json.dumps({"weight_map": places}))


def untie(tensors: dict[str, torch.Tensor], by: float = 1) -> None:
    tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"] + by


def add_words(folder: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.add_tokens(["<more>"])
    tokenizer.save_pretrained(folder)


def leave_named_templates(folder: Path) -> None:
    (folder / "chat_template.jinja").unlink()
    named = [{"name": name, "template": templates.CHAT} for name in ("tool_use", "rag")]
    change_json(folder, "tokenizer_config.json", chat_template=named)


def end_nowhere(folder: Path) -> None:
    (folder / "generation_config.json").unlink()
    for file, name in (("config.json", "eos_token_id"), ("tokenizer_config.json", "eos_token")):
        change_json(folder, file, **{name: None})


FP8 = {"quant_method": "fp8"}
REFUSED: dict[str, tuple[Callable[[Path], object], str, str]] = {
    "a file cut short": (cut_in_half, "files", "model.safetensors"),
    "an index naming an absent tensor": (misplace, "files", "model.absent.weight"),
    "an index without its map": (
        lambda folder: (folder / "model.safetensors.index.json").write_text("{}"),
        "files",
        "weight_map",
    ),
    "an unknown architecture": (
        lambda folder: change_json(folder, "config.json", model_type="nosuch"),
        "architecture",
        "nosuch",
    ),
    "a model that writes no text": (
        lambda folder: change_json(folder, "config.json", model_type="vit"),
        "architecture",
        "model_type=vit",
    ),
    "an architecture that vLLM lacks": (
        lambda folder: change_json(folder, "config.json", architectures=["NoSuchForCausalLM"]),
        "vllm",
        "sampler=transformers",
    ),
    "another width than stored": (
        lambda folder: change_json(folder, "config.json", intermediate_size=96),
        "tensors",
        "mlp.down_proj.weight (64, 128), not (64, 96)",
    ),
    "a missing tensor": (
        lambda folder: change_tensors(folder, lambda held: held.pop("model.norm.weight")),
        "tensors",
        "model.norm.weight",
    ),
    "a tied head with other numbers": (
        lambda folder: change_tensors(folder, untie),
        "tensors",
        "tie_word_embeddings",
    ),
    "decoding defaults that are no JSON": (
        lambda folder: (folder / "generation_config.json").write_text("{"),
        "generation",
        "generation_config.json is damaged",
    ),
    "no chat template": (
        lambda folder: (folder / "chat_template.jinja").unlink(),
        "template",
        "prompt_format=raw",
    ),
    "a template that is no Jinja": (
        lambda folder: (folder / "chat_template.jinja").write_text("{{ message."),
        "template",
        "no Jinja (line 1",
    ),
    "templates without a default": (leave_named_templates, "template", "rag and tool_use"),
    "a tokenizer cut short": (
        lambda folder: (folder / "tokenizer.json").write_text("{"),
        "template",
        "tokenizer",
    ),
    "more tokens than rows": (add_words, "vocabulary", "260 tokens"),
    "weights in fp8": (
        lambda folder: change_json(
            folder, "config.json", quantization_config={"quant_method": "fp8"}
        ),
        "weights",
        "fp8",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_would_fail_later_is_refused_in_one_line(
    copy: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    alter, item, words = REFUSED[name]
    alter(copy)
    asked = {name: ask for name, ask in ITEMS.items() if name in (*FIRST, item)}
    monkeypatch.setattr(f"{check_model.__module__}.ITEMS", asked)  # the others cost a second
    findings = checked(copy)
    assert item in [finding.item for finding in refusals(list(findings.values()))]
    assert words in findings[item].text
    assert "\n" not in findings[item].text


@pytest.mark.parametrize("name", ["config.json", "model.safetensors.index.json"])
def test_a_damaged_json_file_is_named_when_the_model_is_looked_for(copy: Path, name: str) -> None:
    (copy / name).write_text("{")
    with pytest.raises(ModelError, match=rf"{name} is damaged .*: copy or download it again"):
        locate(compose_config(f"model.path={copy}").model)


def test_a_head_stored_beside_the_embedding_it_equals_is_tied(copy: Path) -> None:
    change_tensors(
        copy,
        lambda held: held.update({"lm_head.weight": held["model.embed_tokens.weight"].clone()}),
    )
    assert checked(copy)["tensors"].state is State.ok


def test_what_the_settings_do_not_use_is_not_refused(copy: Path) -> None:
    (copy / "chat_template.jinja").unlink()
    change_json(copy, "config.json", architectures=["NoSuchForCausalLM"])
    raw = ("prompt_format=raw", "prompt_format@eval.prompt_format=raw")
    findings = checked(copy, "sampler=transformers", *raw)
    assert not refusals(list(findings.values()))
    assert "does not take" in findings["export"].text


def test_a_template_that_no_prompt_needs_may_be_broken(copy: Path) -> None:
    (copy / "chat_template.jinja").write_text("<think>{{ message.")
    raw = ("prompt_format=raw", "prompt_format@eval.prompt_format=raw")
    assert not refusals(list(checked(copy, *raw).values()))


def test_what_follows_an_answer_is_said_truly(copy: Path) -> None:
    assert "ends with '<|im_end|>'" in checked(copy)["template"].text
    (copy / "chat_template.jinja").write_text(templates.OPENS_THINK)
    assert "does not follow the prompt" in checked(copy)["template"].text
    fails = "{% if messages[-1].role == 'assistant' %}{{ raise_exception('no') }}{% endif %}"
    (copy / "chat_template.jinja").write_text(fails + templates.CHAT)
    findings = checked(copy)
    assert "refuses an answer (no)" in findings["template"].text
    assert not refusals(list(findings.values()))


def test_a_model_without_an_end_token_is_noted(copy: Path) -> None:
    end_nowhere(copy)
    findings = checked(copy)
    assert findings["generation"].state is State.note
    assert "eos_token_id" in findings["generation"].text
    change_json(copy, "config.json", eos_token_id=258)
    assert checked(copy)["generation"].state is State.ok


def test_where_answers_end_is_said(copy: Path) -> None:
    (copy / "generation_config.json").unlink()
    assert "end at '<|im_end|>' (258);" in checked(copy)["generation"].text
    fields = json.loads((copy / "config.json").read_text())
    del fields["eos_token_id"]
    (copy / "config.json").write_text(json.dumps(fields))
    text = checked(copy)["generation"].text
    assert "end at '<|im_end|>' (258)" in text and "(2), a default" in text


def test_weights_that_lie_there_twice_are_read_once(copy: Path) -> None:
    before = checked(copy)
    save_file({"layers.0.attention.wq.weight": torch.zeros(3)}, copy / "consolidated.safetensors")
    assert checked(copy) == before


def test_a_rank_beyond_vllms_is_refused_where_the_adapter_stays_alone(copy: Path) -> None:
    settings = ("adapter=lora", "adapter.rank=600", "adapter.merge=false")
    finding = checked(copy, *settings)["adapter"]
    assert finding.state is State.refused
    assert "adapter.rank=600" in finding.text and "adapter.merge=true" in finding.text
    for remedy in ("adapter.merge=true", "sampler=transformers", f"adapter.rank={largest_rank()}"):
        assert checked(copy, *settings, remedy)["adapter"].state is State.ok


def test_capped_logits_are_seen_on_a_small_copy(copy: Path) -> None:
    fields: dict[str, Any] = {"vocab_size": 259, "hidden_size": 64, "num_hidden_layers": 2,
        "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 32,
        "intermediate_size": 128}  # fmt: skip
    Gemma2ForCausalLM(Gemma2Config(**fields)).save_pretrained(copy)
    findings = checked(copy, "sampler=transformers")
    assert findings["tensors"].state is State.ok
    assert findings["head"].state is State.refused


@pytest.mark.parametrize("kind", ["qwen3_moe", "gemma3_text", "gpt_oss", "phi3"])
def test_a_small_copy_has_every_kind_of_layer_and_the_same_head(kind: str) -> None:
    config = CONFIG_MAPPING[kind]()
    network = miniature(config)
    check_head(network)
    assert sum(parameter.numel() for parameter in network.parameters()) < 5e6
    kinds = set(getattr(config, "layer_types", None) or [])
    assert set(getattr(network.config, "layer_types", None) or []) == kinds


@pytest.mark.parametrize("name", ["tiny", "tiny_moe"])
def test_the_named_layers_are_those_that_peft_adapts(name: str) -> None:
    folder = Path(fetch(compose_config(f"model={name}").model).path)
    network = adapt(load(folder, torch.float32), AdapterConfig(type=AdapterType.lora), empty=False)
    adapted = {module.rsplit(".", 1)[-1] for module in network.targeted_module_names}
    named = checked(folder, "adapter=lora")["adapter"].text.rpartition(" on ")[2]
    assert set(named.split(", ")) == adapted


def test_an_architecture_that_keeps_its_layers_elsewhere_is_refused(copy: Path) -> None:
    config = GPT2Config(vocab_size=259, n_embd=64, n_layer=2, n_head=2)
    GPT2LMHeadModel(config).save_pretrained(copy)
    finding = checked(copy)["tensors"]
    assert finding.state is State.refused and "GPT2LMHeadModel" in finding.text


def test_vllms_code_for_models_that_see_needs_torchvision() -> None:
    if importlib.util.find_spec("vllm") is None:
        pytest.skip("vLLM is not installed")
    module = vllm_module("Qwen3_5ForConditionalGeneration")
    assert module is not None
    lacks = importlib.util.find_spec("torchvision") is None
    assert lacking_package(module) == ("torchvision" if lacks else None)
    assert lacking_package("llama") is None


def test_tensors_that_vllms_code_does_not_name_are_announced(copy: Path) -> None:
    if importlib.util.find_spec("vllm") is None:
        pytest.skip("vLLM is not installed")
    add_ignored(copy)
    noted = {item for item, finding in checked(copy).items() if finding.state is State.note}
    assert noted == {"tensors", "vllm"}
    alone = checked(copy, "sampler=transformers")
    assert alone["vllm"].state is State.ok
    assert "may refuse" in alone["export"].text
    assert unnamed("qwen3_5", [IGNORED, "model.visual.patch_embed.proj.weight"]) == []


@pytest.mark.slow
def test_the_registry_read_from_source_is_vllms_own() -> None:
    registry = pytest.importorskip("vllm.model_executor.models.registry")
    names = registry.ModelRegistry.get_supported_archs()
    assert {name for name in names if vllm_module(name)} == set(names)
    assert largest_rank() == max(get_args(importlib.import_module("vllm.config.lora").MaxLoRARanks))


def test_the_command_prints_a_line_per_item_and_leaves_with_a_code(
    copy: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")  # which the command sets
    for model, code in ((str(copy), 0), ("tiny", 0), (str(copy), 1)):
        if code:
            change_json(copy, "config.json", intermediate_size=96)
        monkeypatch.setattr(sys, "argv", ["check", model, "adapter=lora", "hardware=cpu"])
        with pytest.raises(SystemExit) as ending:
            main()
        assert ending.value.code == code
        printed = capsys.readouterr().out
        assert [line.split()[0] for line in printed.splitlines()[2:]] == list(ITEMS)
        assert "lora of rank 16" in printed


def test_a_model_is_named_by_preset_folder_hub_id_or_run(copy: Path, tmp_path: Path) -> None:
    assert read_model("tiny_moe", []).model.name == "tiny_moe"
    assert read_model(str(copy), []).model.path == str(copy)
    assert read_model("org/name", ["adapter=qlora"]).adapter.type is AdapterType.qlora
    assert read_model("org/name", []).model.name == "org/name"
    with pytest.raises(ConfigError, match=r"nosuch is no folder .*tiny_moe"):
        read_model("nosuch", [])
    assert AutoConfig.from_pretrained(copy).model_type == "llama"
