"""Rows of the embedding that stand for no token: many vocabularies are padded to a round number."""

from functools import cache
from pathlib import Path

from ssd.models.chat import load_tokenizer, stop_token_ids
from ssd.models.weights import vocabulary_size


@cache
def unnamed_ids(folder: Path) -> tuple[int, ...]:
    """Ids that the model of the checkpoint in `folder` can draw and its tokenizer does not know, in
    order; those that end an answer apart. Nobody draws them and nobody trains on them."""
    tokenizer = load_tokenizer(str(folder))
    named = {*tokenizer.get_vocab().values(), *stop_token_ids(str(folder), tokenizer)}
    return tuple(sorted(set(range(vocabulary_size(folder))) - named))
