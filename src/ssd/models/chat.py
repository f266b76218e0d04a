"""Prompt formats: from a problem to the token ids a model is given, rendered once and stored."""

from pathlib import Path
from typing import Any

from ssd.config.choices import ModelKind, SystemRole
from ssd.config.settings import ModelConfig, PromptFormatConfig
from ssd.models.names import GENERATION_CONFIG, MODEL_CONFIG
from ssd.models.templates import render
from ssd.models.weights import read_model_json
from ssd.problems.problem import Problem


def load_tokenizer(folder: str) -> Any:
    """The tokenizer of a checkpoint folder, with its chat template."""
    from transformers import AutoTokenizer

    # Beside a tekken.json, transformers would take mistral-common's tokenizer where that package
    # is installed, which has no chat template.
    return AutoTokenizer.from_pretrained(folder, mistral_format=False)


def user_turn(problem: Problem, prompt_format: PromptFormatConfig) -> str:
    """The problem as text. Placeholders are replaced once, so braces inside a statement stay."""
    text = prompt_format.question
    if problem.starter_code:
        text += prompt_format.starter
    elif problem.reads_stdin:
        text += prompt_format.stdin
    before, _, rest = text.partition("{question}")
    return before + problem.question + rest.replace("{starter_code}", problem.starter_code or "")


def chat_messages(
    problem: Problem, prompt_format: PromptFormatConfig, model: ModelConfig
) -> list[dict[str, str]]:
    """The conversation that asks a problem: the user's turn, and the system message if the model
    gets one, in its own turn or in front of the user's."""
    system, user = prompt_format.system, user_turn(problem, prompt_format)
    if system is None or model.kind is not ModelKind.instruct:
        return [{"role": "user", "content": user}]
    if model.system_role is SystemRole.user:  # joined as Gemma 3's own template joins them
        return [{"role": "user", "content": f"{system}\n\n{user}"}]
    return [{"role": "system", "content": system}, {"role": "user", "content": user}]


def encode_prompt(
    problem: Problem, prompt_format: PromptFormatConfig, model: ModelConfig, tokenizer: Any
) -> list[int]:
    """Token ids that generation starts from."""
    if not prompt_format.chat:
        ids: list[int] = tokenizer(user_turn(problem, prompt_format))["input_ids"]
        return ids
    return encode_chat(problem, prompt_format, model, tokenizer)


def encode_chat(
    problem: Problem, prompt_format: PromptFormatConfig, model: ModelConfig, tokenizer: Any
) -> list[int]:
    """Token ids of the prompt as chat, also for formats that sample from plain text."""
    text = render(
        chat_messages(problem, prompt_format, model), model, tokenizer, answer_follows=True
    )
    ids: list[int] = tokenizer(text, add_special_tokens=False)["input_ids"]
    return ids


def stripped(token_ids: list[int], tokenizer: Any) -> list[int]:
    """The ids of an answer without white space at its ends: as they were drawn, or those of the
    text where a token holds white space and more."""
    first, last = 0, len(token_ids)
    while first < last and not tokenizer.decode([token_ids[first]]).strip():
        first += 1
    while first < last and not tokenizer.decode([token_ids[last - 1]]).strip():
        last -= 1
    kept = token_ids[first:last]
    text = tokenizer.decode(kept)
    if text == text.strip():
        return kept
    ids: list[int] = tokenizer(text.strip(), add_special_tokens=False)["input_ids"]
    return ids


def stop_token_ids(folder: str, tokenizer: Any) -> list[int]:
    """Every id that ends an answer: the tokenizer's and those that the checkpoint's configuration
    files name.

    What no file names ends nothing: transformers would take its class's default, 2 for Llama, which
    is an ordinary token of many vocabularies. vLLM with `generation_config="vllm"` (which keeps the
    model's own file from changing the sampling) would know only the tokenizer's.
    """
    ids = {tokenizer.eos_token_id, *configured_ends(Path(folder))}
    if (Path(folder) / GENERATION_CONFIG).is_file():
        # Not by transformers, which warns of a temperature without do_sample, as many models have.
        ids |= ends_of(read_model_json(Path(folder), GENERATION_CONFIG))
    return sorted(token for token in ids if token is not None)


def configured_ends(folder: Path) -> set[int]:
    """The end tokens that a checkpoint's `config.json` names."""
    config = read_model_json(folder, MODEL_CONFIG)
    # A model that also sees has them in either part.
    return ends_of(config) | ends_of(config.get("text_config") or {})


def ends_of(fields: dict[str, Any]) -> set[int]:
    """The end tokens of a configuration, which has one, several or none."""
    value = fields.get("eos_token_id")
    return set(value if isinstance(value, list) else [] if value is None else [value])
