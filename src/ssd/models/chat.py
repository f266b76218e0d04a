"""Prompt formats: from a problem to the token ids a model is given, rendered once and stored."""

import contextlib
from typing import Any

from ssd.config.choices import ModelKind
from ssd.config.settings import ModelConfig, PromptFormatConfig
from ssd.errors import ConfigError, DataError
from ssd.problems.problem import Problem


def load_tokenizer(folder: str) -> Any:
    """The tokenizer of a checkpoint folder, with its chat template."""
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(folder)


def user_turn(problem: Problem, prompt_format: PromptFormatConfig) -> str:
    """The problem as text. Placeholders are replaced once, so braces inside a statement stay."""
    text = prompt_format.question
    if problem.starter_code:
        text += prompt_format.starter
    elif problem.reads_stdin:
        text += prompt_format.stdin
    before, _, rest = text.partition("{question}")
    return before + problem.question + rest.replace("{starter_code}", problem.starter_code or "")


def _messages(
    problem: Problem, prompt_format: PromptFormatConfig, kind: ModelKind
) -> list[dict[str, str]]:
    messages = [{"role": "user", "content": user_turn(problem, prompt_format)}]
    if prompt_format.system is not None and kind is ModelKind.instruct:
        messages.insert(0, {"role": "system", "content": prompt_format.system})
    return messages


def _apply(
    tokenizer: Any, messages: list[dict[str, str]], model: ModelConfig, *, answer_follows: bool
) -> list[int]:
    if tokenizer.chat_template is None:
        raise ConfigError(
            "the model's tokenizer has no chat template: "
            "use prompt_format=raw, or an instruct model"
        )
    effort = model.reasoning_effort
    arguments = {} if effort is None else {"reasoning_effort": effort}
    ids: list[int] = tokenizer.apply_chat_template(
        messages,
        add_generation_prompt=answer_follows,
        tokenize=True,
        return_dict=False,
        **arguments,
    )
    return ids


def encode_prompt(
    problem: Problem, prompt_format: PromptFormatConfig, model: ModelConfig, tokenizer: Any
) -> list[int]:
    """Token ids that generation starts from."""
    if prompt_format.chat:
        return _apply(
            tokenizer, _messages(problem, prompt_format, model.kind), model, answer_follows=True
        )
    ids: list[int] = tokenizer(user_turn(problem, prompt_format))["input_ids"]
    return ids


def encode_exchange(
    problem: Problem,
    answer: str,
    prompt_format: PromptFormatConfig,
    model: ModelConfig,
    tokenizer: Any,
) -> tuple[list[int], list[int]]:
    """Prompt ids and completion ids of a chat exchange,
    for formats that train on chat but sample from plain text.

    Raises:
        DataError: the template does not extend the prompt when the answer is added.
    """
    messages = _messages(problem, prompt_format, model.kind)
    prompt = _apply(tokenizer, messages, model, answer_follows=True)
    whole = _apply(
        tokenizer,
        [*messages, {"role": "assistant", "content": answer}],
        model,
        answer_follows=False,
    )
    if whole[: len(prompt)] != prompt:
        raise DataError(
            f"{problem.problem_id}: this chat template cannot train "
            f"prompt_format.name={prompt_format.name}"
        )
    return prompt, whole[len(prompt) :]


def stop_token_ids(folder: str, tokenizer: Any) -> list[int]:
    """Every id that ends an answer: the tokenizer's and those
    of the checkpoint's configuration files.

    vLLM with `generation_config="vllm"` (which keeps the model's own file from changing the
    sampling) would know only the tokenizer's.
    """
    from transformers import AutoConfig, GenerationConfig

    config: Any = AutoConfig.from_pretrained(folder)
    ids = {tokenizer.eos_token_id}
    for part in (config, config.get_text_config()):  # a model that also sees has it in either
        ids |= set(_as_list(getattr(part, "eos_token_id", None)))
    with contextlib.suppress(OSError):  # a checkpoint without generation_config.json
        ids |= set(_as_list(GenerationConfig.from_pretrained(folder).eos_token_id))
    return sorted(token for token in ids if token is not None)


def _as_list(value: int | list[int] | None) -> list[int]:
    return value if isinstance(value, list) else [] if value is None else [value]
