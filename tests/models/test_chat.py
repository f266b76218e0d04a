import json
import shutil
from pathlib import Path

import pytest
from checkpoints import change_json
from runs import compose_config
from transformers import AutoConfig

from ssd.models import Weights
from ssd.models.chat import (
    encode_chat,
    encode_prompt,
    load_tokenizer,
    stop_token_ids,
    stripped,
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
    trained = tokenizer.decode(encode_chat(PLAIN, config.prompt_format, config.model, tokenizer))
    assert "<|im_start|>" not in sampled
    assert trained == f"<|im_start|>user\n{sampled}<|im_end|>\n<|im_start|>assistant\n"


@pytest.mark.parametrize(
    ("drawn", "kept"),
    [
        ("\n\n  x = 1\n", "x = 1"),
        ("x =\n 1", "x =\n 1"),
        ("\u3000y", "y"),  # white space of several tokens, none of which is white space
        (" \n", ""),
        ("", ""),
    ],
)
def test_an_answer_loses_the_white_space_at_its_ends_alone(
    tiny_weights: Weights, drawn: str, kept: str
) -> None:
    tokenizer = load_tokenizer(tiny_weights.path)
    assert tokenizer.decode(stripped(tokenizer(drawn)["input_ids"], tokenizer)) == kept


def test_an_answer_that_is_cut_within_a_character_keeps_its_tokens(tiny_weights: Weights) -> None:
    tokenizer = load_tokenizer(tiny_weights.path)
    drawn = tokenizer(" caf\u00e9")["input_ids"][:-1]
    assert stripped(drawn, tokenizer) == drawn[1:]


def test_the_system_message_folds_into_the_users_turn(tiny_weights: Weights) -> None:
    prompt = text(PLAIN, tiny_weights, "model.system_role=user", "prompt_format.system=Be brief.")
    assert prompt.startswith("<|im_start|>user\nBe brief.\n\nAdd {a}")
    assert "system" not in prompt


def test_stop_tokens_come_from_every_file(tiny_weights: Weights) -> None:
    tokenizer = load_tokenizer(tiny_weights.path)
    assert stop_token_ids(tiny_weights.path, tokenizer) == [tokenizer.eos_token_id]


def test_only_end_tokens_that_a_file_names_end_an_answer(
    tiny_weights: Weights, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(tiny_weights.path, tmp_path / "model"))
    (folder / "generation_config.json").unlink()
    config = json.loads((folder / "config.json").read_text())
    del config["eos_token_id"]
    (folder / "config.json").write_text(json.dumps(config))
    assert AutoConfig.from_pretrained(folder).eos_token_id == 2  # Llama's; here a quotation mark
    tokenizer = load_tokenizer(str(folder))
    assert stop_token_ids(str(folder), tokenizer) == [tokenizer.eos_token_id]
    change_json(folder, "config.json", text_config={"eos_token_id": [7]})
    change_json(folder, "generation_config.json", eos_token_id=[5, 6])
    assert stop_token_ids(str(folder), tokenizer) == [5, 6, 7, tokenizer.eos_token_id]
