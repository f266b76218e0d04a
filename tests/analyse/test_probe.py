"""The text of tokens."""

import random
from pathlib import Path
from typing import Any

import pytest

from ssd.analyse.probe import token_texts, vocabulary_texts
from ssd.models import Weights
from ssd.models.chat import load_tokenizer

TEXT = "naïve 😀 → “ok”"


@pytest.fixture(scope="module")
def tokenizer(tiny_weights: Weights) -> Any:
    """One whose tokens are bytes."""
    return load_tokenizer(tiny_weights.path)


def test_a_character_of_several_tokens_stands_with_its_last(tokenizer: Any) -> None:
    ids = tokenizer(TEXT)["input_ids"]
    texts = token_texts(tokenizer, ids)
    assert len(texts) == len(ids) == len(TEXT.encode())
    assert "".join(texts) == TEXT
    at = texts.index("😀")
    assert texts[at - 3 : at] == ["", "", ""]
    assert "\ufffd" not in "".join(texts)


def test_bytes_that_never_become_a_character_stay_where_they_stand(tokenizer: Any) -> None:
    ids = tokenizer("a😀b")["input_ids"]
    broken = [ids[0], *ids[1:3], ids[5]]  # half of the emoji
    assert token_texts(tokenizer, broken) == ["a", "\ufffd", "", "b"]
    assert "".join(token_texts(tokenizer, ids[:4])) == "a\ufffd"


def test_texts_of_any_bytes_are_together_the_text(tokenizer: Any) -> None:
    rng = random.Random(0)
    for _ in range(200):
        ids = [rng.randrange(len(tokenizer)) for _ in range(rng.randrange(1, 40))]
        texts = token_texts(tokenizer, ids)
        assert len(texts) == len(ids)
        assert "".join(texts) == tokenizer.decode(ids, clean_up_tokenization_spaces=False)


def test_spaces_before_words_and_special_tokens_are_kept(tmp_path: Path) -> None:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    words = ["<unk>", "▁def", "▁f", "(", ")", ":", "▁"]
    fast = Tokenizer(models.WordLevel({word: n for n, word in enumerate(words)}, unk_token="<unk>"))
    fast.pre_tokenizer = pre_tokenizers.Metaspace()
    fast.decoder = decoders.Metaspace()  # leaves out the first space, as sentencepiece does
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=fast, eos_token="</s>")
    ids = [1, 2, 3, 4, 5, tokenizer.eos_token_id]
    assert "".join(token_texts(tokenizer, ids)) == tokenizer.decode(ids)
    assert token_texts(tokenizer, ids)[:3] == ["def", " f", "("]
    assert token_texts(tokenizer, ids)[-1].strip() == "</s>"


def test_parts_of_characters_are_spelled_as_the_vocabulary_does(tokenizer: Any) -> None:
    (start, *_), (letter,) = tokenizer("😀")["input_ids"], tokenizer("x")["input_ids"]
    texts = vocabulary_texts(tokenizer, {start, letter})
    assert texts[letter] == "x"
    assert "\ufffd" not in texts[start] and texts[start]
