import pytest
from runs import compose_config

from ssd.errors import ConfigError
from ssd.models import Weights
from ssd.models.chat import (
    encode_exchange,
    encode_prompt,
    load_tokenizer,
    stop_token_ids,
    user_turn,
)
from ssd.problems.problem import Problem

PLAIN = Problem("1", "Add {a} and {starter_code}.")
STARTER = Problem("2", "Sort.", starter_code="def f(x):")
STDIN = Problem("3", "Echo.", reads_stdin=True)


def text(problem: Problem, weights: Weights, *overrides: str) -> str:
    config = compose_config("model=tiny", *overrides)
    tokenizer = load_tokenizer(weights.path)
    decoded: str = tokenizer.decode(
        encode_prompt(problem, config.prompt_format, config.model, tokenizer)
    )
    return decoded


def test_the_paper_format_is_one_chat_turn_with_a_system_message(tiny_weights: Weights) -> None:
    prompt = text(STARTER, tiny_weights)
    assert prompt.startswith("<|im_start|>system\n")
    assert "Python" in prompt
    assert "```python\ndef f(x):\n```" in prompt
    assert prompt.endswith("<|im_start|>assistant\n")


def test_thinking_models_get_no_instruction(tiny_weights: Weights) -> None:
    assert text(PLAIN, tiny_weights, "model.kind=thinking").startswith("<|im_start|>user\nAdd")


def test_braces_in_a_statement_stay(tiny_weights: Weights) -> None:
    assert "Add {a} and {starter_code}." in text(PLAIN, tiny_weights, "prompt_format=lcb")


def test_the_raw_format_is_the_statement_alone(tiny_weights: Weights) -> None:
    assert text(PLAIN, tiny_weights, "prompt_format=raw") == PLAIN.question


def test_stdin_problems_are_told_so() -> None:
    assert "stdin" in user_turn(STDIN, compose_config("prompt_format=lcb").prompt_format)
    assert "stdin" not in user_turn(PLAIN, compose_config("prompt_format=lcb").prompt_format)


def test_apple_release_trains_on_another_context_than_it_samples_from(
    tiny_weights: Weights,
) -> None:
    config = compose_config("model=tiny", "prompt_format=apple_release")
    tokenizer = load_tokenizer(tiny_weights.path)
    sampled = tokenizer.decode(encode_prompt(PLAIN, config.prompt_format, config.model, tokenizer))
    prompt, completion = encode_exchange(
        PLAIN, "answer", config.prompt_format, config.model, tokenizer
    )
    assert "<|im_start|>" not in sampled
    assert (
        tokenizer.decode(prompt)
        == f"<|im_start|>user\n{sampled}<|im_end|>\n<|im_start|>assistant\n"
    )
    assert tokenizer.decode(completion) == "answer<|im_end|>\n"


def test_a_tokenizer_without_a_chat_template_is_refused(tiny_weights: Weights) -> None:
    config = compose_config("model=tiny")
    tokenizer = load_tokenizer(tiny_weights.path)
    tokenizer.chat_template = None
    with pytest.raises(ConfigError, match="prompt_format=raw"):
        encode_prompt(PLAIN, config.prompt_format, config.model, tokenizer)


def test_stop_tokens_come_from_every_file(tiny_weights: Weights) -> None:
    tokenizer = load_tokenizer(tiny_weights.path)
    assert stop_token_ids(tiny_weights.path, tokenizer) == [tokenizer.eos_token_id]
