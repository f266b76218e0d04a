"""Whatever the check refuses passes once its line has been followed to the letter."""

import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import templates
from checkpoints import change_json, change_tensors
from runs import compose_config

from ssd.check.check import FIRST, ITEMS, check_model, refusals
from ssd.models.fetch import fetch
from ssd.runtime.findings import Finding

RAW = "prompt_format=raw prompt_format@eval.prompt_format=raw"
AS_CHAT = ("prompt_format=apple_release",)
ALONE = ("adapter=lora", "adapter.merge=false")
ASKS = "{% if not tone is defined %}{{ raise_exception('which tone?') }}{% endif %}"
Alter = Callable[[Path], object]


def template(text: str) -> Alter:
    return lambda folder: (folder / "chat_template.jinja").write_text(text)


def rename_template(folder: Path) -> None:
    named = folder / "additional_chat_templates"
    named.mkdir()
    (folder / "chat_template.jinja").rename(named / "rag.jinja")


def untie(folder: Path) -> None:
    change_tensors(
        folder,
        lambda tensors: tensors.update(
            {"lm_head.weight": tensors["model.embed_tokens.weight"].clone() + 1}
        ),
    )


def quantise(folder: Path) -> None:
    change_json(folder, "config.json", quantization_config={"quant_method": "mxfp4"})


SETTINGS: dict[str, tuple[str, Alter, tuple[str, ...], str, list[str]]] = {
    "no template": (
        "tiny", lambda folder: (folder / "chat_template.jinja").unlink(), (), "template", [RAW],
    ),
    "no template, only sampling": (
        "tiny", lambda folder: (folder / "chat_template.jinja").unlink(), ("stages=[sample]",),
        "template", ["prompt_format=raw"],
    ),
    "no template, plain text sampled": (
        "tiny", lambda folder: (folder / "chat_template.jinja").unlink(), ("prompt_format=raw",),
        "template", ["prompt_format@eval.prompt_format=raw"],
    ),
    "the user left out": ("tiny", template(templates.IN_PARTS), (), "template", [RAW]),
    "a template that asks": (
        "tiny", template(ASKS + templates.CHAT), (), "template",
        [RAW, "model.template_args={tone: dry}"],
    ),
    "no system role": (
        "tiny", template(templates.NO_SYSTEM_ROLE), (), "template",
        ["model.system_role=user", "prompt_format.system=null eval.prompt_format.system=null"],
    ),
    "no end behind an answer": (
        "tiny", template(templates.ENDLESS), AS_CHAT, "template", ["prompt_format=lcb"],
    ),
    "reasoning opened, answers trained as chat": (
        "tiny", template(templates.OPENS_THINK), AS_CHAT, "template", ["prompt_format=lcb"],
    ),
    "several marks": (
        "tiny", template(templates.CHAT + "{# <think> [THINK] #}"), (), "reasoning",
        ['model.reasoning={open: "<think>", close: "</think>"}'],
    ),
    "unknown to vLLM": (
        "tiny", lambda folder: change_json(folder, "config.json", architectures=["NoSuch"]), (),
        "vllm", ["sampler=transformers"],
    ),
    "mxfp4 quantised again": (
        "tiny_moe", quantise, ("adapter=qlora",), "weights", ["adapter=lora"],
    ),
    "an adapter beside experts": (
        "tiny_moe", lambda folder: None, ALONE, "weights",
        ["adapter.merge=true", "sampler=transformers"],
    ),
    "another attention than the model's": (
        "tiny_gpt_oss", lambda folder: None, ("hardware.attention=sdpa",), "layers",
        ["hardware.attention=auto"],
    ),
}  # fmt: skip
"""Model, what is done to it, the run's settings, the item that refuses, and settings it names."""


FILES: dict[str, tuple[Alter, str, str, Alter]] = {
    "a tied head of its own": (
        untie, "tensors", "tie_word_embeddings to false",
        lambda folder: change_json(folder, "config.json", tie_word_embeddings=False),
    ),
    "no default": (
        rename_template, "template", "name one of them so",
        lambda folder: (folder / "additional_chat_templates/rag.jinja").rename(
            folder / "additional_chat_templates/default.jinja"
        ),
    ),
    "the user left out": (
        template(templates.IN_PARTS), "template", "message.content", template(templates.CHAT),
    ),
}  # fmt: skip
"""What is done to a model, the item that refuses, words of the remedy, and that remedy."""


def checked(folder: Path, item: str, *settings: str) -> list[Finding]:
    config = compose_config("model=tiny", "hardware=cpu", *settings)
    asked = {name: ask for name, ask in ITEMS.items() if name in (*FIRST, item)}
    with pytest.MonkeyPatch.context() as patch:  # the others cost a second
        patch.setattr(f"{check_model.__module__}.ITEMS", asked)
        return refusals(check_model(folder, config))


def changed(tmp_path: Path, name: str, alter: Alter) -> Path:
    weights = fetch(compose_config("model=tiny", f"model.name={name}").model)
    folder = Path(shutil.copytree(weights.path, tmp_path / "model"))
    alter(folder)
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("name", SETTINGS)
def test_the_settings_that_a_refusal_names_are_enough(tmp_path: Path, name: str) -> None:
    model, alter, settings, item, remedies = SETTINGS[name]
    folder = changed(tmp_path, model, alter)
    (refused,) = checked(folder, item, *settings)
    for remedy in remedies:
        words = re.sub(r"=\{tone.*", "", remedy)  # what a template asks for, nobody can name
        assert words in refused.text
        chosen = re.findall(r"\S+?=(?:\{.*\}|\S+)", remedy)
        replaced = {setting.split("=")[0] for setting in chosen}
        kept = [setting for setting in settings if setting.split("=")[0] not in replaced]
        assert not checked(folder, item, *kept, *chosen)


@pytest.mark.parametrize("name", FILES)
def test_the_change_of_files_that_a_refusal_asks_for_is_enough(tmp_path: Path, name: str) -> None:
    alter, item, words, remedy = FILES[name]
    folder = changed(tmp_path, "tiny", alter)
    (refused,) = checked(folder, item)
    assert words in refused.text
    remedy(folder)
    assert not checked(folder, item)
