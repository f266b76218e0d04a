"""Ids that are no words: rows of the embedding that stand for no token, since many vocabularies are
padded to a round number, and special tokens."""

from functools import cache
from pathlib import Path

from ssd.models.chat import load_tokenizer, stop_token_ids
from ssd.models.weights import vocabulary_size


@cache
def special_ids(folder: Path) -> tuple[int, ...]:
    """Ids of the special tokens of the checkpoint in `folder`, in order: those with a part to play
    (beginning, end, padding, turns), and those that end an answer."""
    tokenizer = load_tokenizer(str(folder))
    added = tokenizer.added_tokens_decoder.items()
    marked = {token_id for token_id, token in added if token.special}
    ends = stop_token_ids(str(folder), tokenizer)
    ids = {*tokenizer.all_special_ids, *marked, *ends}
    return tuple(sorted(ids & set(range(vocabulary_size(folder)))))


@cache
def unnamed_ids(folder: Path) -> tuple[int, ...]:
    """Ids that the model of the checkpoint in `folder` can draw and its tokenizer does not know, in
    order; those that end an answer apart. Nobody draws them and nobody trains on them."""
    tokenizer = load_tokenizer(str(folder))
    named = {*tokenizer.get_vocab().values(), *stop_token_ids(str(folder), tokenizer)}
    return tuple(sorted(set(range(vocabulary_size(folder))) - named))
