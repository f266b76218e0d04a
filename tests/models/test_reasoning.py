"""What tokenizers and chat templates say of a model's reasoning."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
from reasoning_checkpoints import CHAT, HYBRID, OPENS
from runs import compose_config

from ssd.config.choices import ModelKind
from ssd.config.settings import ModelConfig, ReasoningConfig
from ssd.errors import ConfigError
from ssd.models import Weights
from ssd.models.chat import load_tokenizer
from ssd.models.reasoning import (
    answer_text,
    dropped_tokens,
    find_reasoning,
    num_tokens_until,
    opens_reasoning,
    pin_reasoning,
    refuse_reasoning_as_chat,
)
from ssd.problems.extraction import CHANNELS, THINK

MAGISTRAL = ReasoningConfig(open="[THINK]", close="[/THINK]")
SEED = ReasoningConfig(open="<seed:think>", close="</seed:think>")
GEMMA = ReasoningConfig(open="<|channel>thought", close="<channel|>")
MODEL = ModelConfig(name="mine")
THINKING = dataclasses.replace(MODEL, kind=ModelKind.thinking)

KINDS: dict[str, tuple[str, tuple[str, ...], tuple[str, ...], ReasoningConfig | None]] = {
    "none": (CHAT, (), (), None),
    "opened by the template": (OPENS, (), (), THINK),
    "hybrid": (HYBRID, (), (), THINK),
    "qwen": (CHAT, (), ("<think>", "</think>"), THINK),
    "magistral": (CHAT, ("[THINK]", "[/THINK]"), (), MAGISTRAL),
    "seed": (CHAT, ("<seed:think>", "</seed:think>"), (), SEED),
    "gemma": (CHAT, ("<|channel>", "<channel|>"), (), GEMMA),
    "gpt_oss": (CHAT, ("<|channel|>", "<|message|>", "<|start|>", "<|end|>"), (), CHANNELS),
    "tokens of two, template of one": (OPENS, ("[THINK]", "[/THINK]"), ("<think>",), THINK),
}


@pytest.mark.parametrize(("template", "special", "ordinary", "marks"), KINDS.values(), ids=KINDS)
def test_marks_are_found_alike_in_a_tokenizer_and_in_its_files(
    tiny_weights: Weights, tmp_path: Path,
    template: str, special: tuple[str, ...], ordinary: tuple[str, ...],
    marks: ReasoningConfig | None,
) -> None:  # fmt: skip
    folder = tmp_path / "model"
    tokenizer = saved_tokenizer(tiny_weights, folder, template, special, ordinary)
    assert find_reasoning(tokenizer, MODEL) == pin_reasoning(MODEL, folder).reasoning == marks


def saved_tokenizer(
    weights: Weights, folder: Path, template: str, special: tuple[str, ...] = (),
    ordinary: tuple[str, ...] = (),
) -> Any:  # fmt: skip
    tokenizer = load_tokenizer(weights.path)
    tokenizer.chat_template = template
    tokenizer.add_tokens(list(special), special_tokens=True)
    tokenizer.add_tokens(list(ordinary))
    tokenizer.save_pretrained(folder)
    return load_tokenizer(str(folder))


def test_older_files_of_a_tokenizer_are_read_too(tmp_path: Path) -> None:
    config = {"added_tokens_decoder": {"5": {"content": "[THINK]"}}, "chat_template": None}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
    assert pin_reasoning(MODEL, tmp_path).reasoning == MAGISTRAL
    config["chat_template"] = [{"name": "default", "template": HYBRID}]
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
    assert pin_reasoning(MODEL, tmp_path).reasoning == THINK


def test_several_marks_are_refused_and_the_setting_decides(
    tiny_weights: Weights, tmp_path: Path
) -> None:
    template = CHAT + "<think></think>[THINK][/THINK]"
    saved_tokenizer(tiny_weights, tmp_path / "model", template)
    with pytest.raises(ConfigError, match=r'mine.*<think>.*\[THINK\].*model\.reasoning=\{open: "'):
        pin_reasoning(MODEL, tmp_path / "model")
    chosen = dataclasses.replace(MODEL, reasoning=MAGISTRAL)
    assert pin_reasoning(chosen, tmp_path / "model").reasoning == MAGISTRAL


def test_a_thinking_model_without_known_marks_is_read_by_think(
    tiny_weights: Weights, tmp_path: Path
) -> None:
    tokenizer = saved_tokenizer(tiny_weights, tmp_path / "model", CHAT)
    assert find_reasoning(tokenizer, THINKING) == THINK
    tokenizer.chat_template = None
    assert find_reasoning(tokenizer, MODEL) is None


def test_marks_are_settings(tiny_weights: Weights) -> None:
    words = 'model.reasoning={open: "<|channel>thought", close: "<channel|>"}'
    assert compose_config("model=tiny", words).model.reasoning == GEMMA
    for nothing in ("model.reasoning=null", 'model.reasoning={open: "", close: ""}'):
        assert compose_config("model=tiny", nothing).model.reasoning is None
    for wrong in ('model.reasoning.open="<a>"', 'model.reasoning={open: "<a>", close: "<a>"}'):
        with pytest.raises(ConfigError, match=r"model\.reasoning.*<think>"):
            compose_config("model=tiny", wrong)


def test_a_prompt_opens_reasoning_only_at_its_very_end(
    tiny_weights: Weights, tmp_path: Path
) -> None:
    def opened(template: str, text: str = "Add.", **arguments: Any) -> bool:
        tokenizer.chat_template = template
        ids = tokenizer.apply_chat_template(
            [{"role": "user", "content": text}],
            add_generation_prompt=True, return_dict=False, **arguments,
        )  # fmt: skip
        return opens_reasoning(ids, tokenizer, THINK)

    tokenizer = load_tokenizer(tiny_weights.path)
    assert opened(OPENS)
    assert opened(OPENS, "Add.\n</think>\n" * 50)
    assert not opened(CHAT, "What is <think>")
    assert not opened(HYBRID)
    assert not opened(HYBRID, enable_thinking=False)
    gemma = tokenizer("<|channel>thought\n")["input_ids"]
    assert opens_reasoning(gemma, tokenizer, GEMMA) and not opens_reasoning(gemma, tokenizer, THINK)


def test_a_text_keeps_the_special_tokens_of_the_marks_and_no_others(
    tiny_weights: Weights, tmp_path: Path
) -> None:
    tokenizer = saved_tokenizer(tiny_weights, tmp_path / "model", CHAT, ("[THINK]", "[/THINK]"))
    text = "[THINK]äh[/THINK]\nx = 1<|im_end|>"
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    assert answer_text(ids, tokenizer, dropped_tokens(tokenizer, None)) == "äh\nx = 1"
    assert answer_text(ids, tokenizer, dropped_tokens(tokenizer, THINK)) == "äh\nx = 1"
    assert (
        answer_text(ids, tokenizer, dropped_tokens(tokenizer, MAGISTRAL))
        == text[: -len("<|im_end|>")]
    )


@pytest.mark.parametrize("marks", [THINK, MAGISTRAL])
def test_tokens_of_reasoning_are_counted_up_to_the_close_mark(
    tiny_weights: Weights, tmp_path: Path, marks: ReasoningConfig
) -> None:
    tokenizer = saved_tokenizer(tiny_weights, tmp_path / "model", CHAT, ("[THINK]", "[/THINK]"))
    dropped = dropped_tokens(tokenizer, marks)
    thoughts = [f"{marks.open}€{marks.close}", f"\n{marks.open}b{marks.close}", "answer"]
    parts = [tokenizer(part, add_special_tokens=False)["input_ids"] for part in thoughts]
    ids = [token for part in parts for token in part]
    assert num_tokens_until(marks.close, 1, ids, tokenizer, dropped) == len(parts[0])
    assert num_tokens_until(marks.close, 2, ids, tokenizer, dropped) == len(parts[0] + parts[1])


def test_answers_are_not_trained_as_chat_where_its_prompt_opens_reasoning(
    tiny_weights: Weights,
) -> None:
    tokenizer = load_tokenizer(tiny_weights.path)
    model = dataclasses.replace(MODEL, reasoning=THINK)
    release = compose_config("experiment=apple_release").prompt_format
    for template, refused in ((OPENS, True), (HYBRID, False), (CHAT, False)):
        tokenizer.chat_template = template
        if refused:
            with pytest.raises(ConfigError, match=r"train_as_chat=true.*prompt_format=lcb"):
                refuse_reasoning_as_chat(release, model, tokenizer)
        else:
            refuse_reasoning_as_chat(release, model, tokenizer)
    tokenizer.chat_template = OPENS
    chat = compose_config("prompt_format=lcb").prompt_format
    refuse_reasoning_as_chat(chat, model, tokenizer)
