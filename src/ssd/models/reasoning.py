"""Where a model reasons: its marks, prompts that open it, its text and its length in tokens."""

import bisect
from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ssd.artifacts.files import read_json
from ssd.config.choices import ModelKind
from ssd.config.settings import ModelConfig, PromptFormatConfig, ReasoningConfig
from ssd.errors import ConfigError
from ssd.models.chat import encode_prompt
from ssd.models.names import TOKENIZER_CONFIG
from ssd.models.templates import stored_template, template_of
from ssd.problems.extraction import CHANNELS, THINK
from ssd.problems.problem import Problem

KNOWN: tuple[tuple[ReasoningConfig, tuple[str, ...]], ...] = (
    (THINK, ("<think>", "</think>")),
    (ReasoningConfig(open="[THINK]", close="[/THINK]"), ("[THINK]", "[/THINK]")),
    (
        ReasoningConfig(open="<seed:think>", close="</seed:think>"),
        ("<seed:think>", "</seed:think>"),
    ),
    # Gemma 4 names the channel in plain text behind the token.
    (ReasoningConfig(open="<|channel>thought", close="<channel|>"), ("<|channel>", "<channel|>")),
    (CHANNELS, ("<|channel|>",)),
)
"""Marks, each with the words of which any gives them away in a chat template or among a
tokenizer's added tokens. Qwen3, DeepSeek-R1, SmolLM3 and others; Magistral; Seed-OSS; Gemma 4;
GPT-OSS."""
TAIL = 64
"""Tokens at a prompt's end that are looked at: marks take a few, white space one or two more."""


def find_reasoning(tokenizer: Any, model: ModelConfig) -> ReasoningConfig | None:
    """The marks of a model's reasoning: those of `model.reasoning`, or the known ones that its chat
    template or its tokenizer names; None where neither names any.

    Raises:
        ConfigError: several are named, so that the setting has to say which.
    """
    return _choose(tokenizer.get_added_vocab(), template_of(tokenizer.chat_template), model)


def pin_reasoning(model: ModelConfig, folder: Path) -> ModelConfig:
    """The model's settings with the marks that `find_reasoning` finds, read from the files of the
    checkpoint: the driver loads no tokenizer, which takes seconds.

    Raises:
        ConfigError: several are named, so that the setting has to say which.
    """
    config = _read(folder / TOKENIZER_CONFIG)
    added = [*(config.get("added_tokens_decoder") or {}).values()]
    added += _read(folder / "tokenizer.json").get("added_tokens", [])
    tokens = {token["content"] for token in added} | {*_read(folder / "added_tokens.json")}
    return replace(model, reasoning=_choose(tokens, stored_template(folder), model))


def _read(file: Path) -> dict[str, Any]:
    return read_json(file) if file.is_file() else {}


def _choose(
    tokens: Collection[str], template: str | None, model: ModelConfig
) -> ReasoningConfig | None:
    if model.reasoning is not None:
        return model.reasoning
    text = template or ""
    # Families of models share a tokenizer: what the template writes is nearer to this model.
    candidates = [marks for marks, words in KNOWN if any(word in text for word in words)] or [
        marks for marks, words in KNOWN if any(word in tokens for word in words)
    ]
    if len(candidates) > 1:
        names = " and ".join(f"{marks.open} {marks.close}" for marks in candidates)
        first = candidates[0]
        raise ConfigError(
            f"model.reasoning=null: {model.path or model.name} knows several marks of reasoning, "
            f"{names}: name its own, as in "
            f'\'model.reasoning={{open: "{first.open}", close: "{first.close}"}}\''
        )
    if not candidates:
        return THINK if model.kind is ModelKind.thinking else None
    return candidates[0]


def opens_reasoning(prompt_token_ids: list[int], tokenizer: Any, marks: ReasoningConfig) -> bool:
    """Whether a prompt ends inside reasoning: with the open mark and nothing but white space."""
    tail: str = tokenizer.decode(prompt_token_ids[-TAIL:], skip_special_tokens=False)
    return tail.rstrip().endswith(marks.open.rstrip())


def dropped_tokens(tokenizer: Any, marks: ReasoningConfig | None) -> frozenset[int] | None:
    """The special tokens that an answer's text is without where marks are special tokens too; None
    where none is, so that decoding may drop all."""
    special = {id for id, token in tokenizer.added_tokens_decoder.items() if token.special}
    written = "" if marks is None else f"{marks.open}{marks.close}"
    kept = special & {*tokenizer(written, add_special_tokens=False)["input_ids"]}
    return frozenset(special - kept) if kept else None


def answer_text(token_ids: Sequence[int], tokenizer: Any, dropped: Collection[int] | None) -> str:
    """An answer's tokens as text, without what `dropped_tokens` names."""
    ids = [token for token in token_ids if token not in (dropped or ())]
    text: str = tokenizer.decode(ids, skip_special_tokens=dropped is None)
    return text


def num_tokens_until(
    mark: str,
    ordinal: int,
    token_ids: Sequence[int],
    tokenizer: Any,
    dropped: Collection[int] | None,
) -> int:
    """How many of an answer's first tokens hold the mark `ordinal` times: one mark may be several
    tokens, and its last token may hold more than the mark."""
    return bisect.bisect_left(
        range(len(token_ids)),
        ordinal,
        key=lambda number: answer_text(token_ids[:number], tokenizer, dropped).count(mark),
    )


def refuse_reasoning_as_chat(
    prompt_format: PromptFormatConfig, model: ModelConfig, tokenizer: Any
) -> None:
    """Refuse to train answers to plain text as chat where the chat's prompt opens reasoning: they
    would be trained as reasoning.

    Raises:
        ConfigError: names the setting and the remedy.
    """
    if not prompt_format.train_as_chat or model.reasoning is None:
        return
    chat = replace(prompt_format, chat=True, train_as_chat=False)
    prompt = encode_prompt(Problem("", "Add two numbers."), chat, model, tokenizer)
    if opens_reasoning(prompt, tokenizer, model.reasoning):
        raise ConfigError(
            f"prompt_format.train_as_chat=true trains answers to plain text as chat, and the chat "
            f"template of {model.path or model.name} opens reasoning ({model.reasoning.open}) in "
            "the prompt: sample from chat too, as prompt_format=lcb does"
        )
