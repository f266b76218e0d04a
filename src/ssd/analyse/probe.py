"""The probe set: the completions that every model reads, and the text of their tokens."""

import heapq
from typing import Any

from ssd.artifacts.names import CORPUS, SHARDS
from ssd.artifacts.store import Artifact
from ssd.errors import DataError
from ssd.problems.rows import place_of
from ssd.records.samples import Sample
from ssd.records.tables import read_chosen, read_lengths, shard_files


def read_probe(
    artifact: Artifact, num_samples: int, max_tokens: int, max_length: int | None
) -> list[Sample]:
    """The completions of a corpus or of generations that are read: `num_samples` of those with a
    token, fixed by the hash of prompt id and sample index, each cut to `max_tokens`.

    Raises:
        DataError: no completion has a token, or one with its prompt exceeds the `max_length` tokens
            that the model takes.
    """
    if artifact.kind == "corpus":
        files = [artifact.intact(CORPUS) / CORPUS]
    else:
        files = shard_files(artifact.intact(f"{SHARDS}/") / SHARDS)
    keys = (key for key, num_tokens in read_lengths(files) if num_tokens)
    first = heapq.nsmallest(num_samples, keys, key=lambda key: place_of(f"{key[0]}\0{key[1]}"))
    chosen = read_chosen(files, first)
    if not chosen:
        raise DataError(
            f"analyse.probe={artifact.folder} holds no completion with a token: "
            "name another corpus or other generations"
        )
    for sample in chosen:
        del sample.completion_token_ids[max_tokens:]
        length = len(sample.prompt_token_ids) + len(sample.completion_token_ids)
        if max_length is not None and length > max_length:
            raise DataError(
                f"analyse.probe={artifact.folder}: {sample.prompt_id} has {length} tokens and the "
                f"model takes {max_length}: lower analyse.max_tokens, or name another probe"
            )
    return chosen


def token_texts(tokenizer: Any, token_ids: list[int]) -> list[str]:
    """Each token's own text; together they are the text of all.

    A character whose bytes are spread over several tokens goes to the last of them, and the others
    are empty. Bytes that never become a character are U+FFFD where they stand.
    """
    whole = _decode(tokenizer, token_ids)
    texts: list[str] = []
    placed = 0  # characters of `whole` that have gone to a token
    first, settled, settled_to = 0, 0, 0  # ids[:settled] are whole[:settled_to]; read from `first`
    for end in range(1, len(token_ids) + 1):
        num_characters = len(_decode(tokenizer, token_ids[first:settled]))
        new = _decode(tokenizer, token_ids[first:end])[num_characters:]
        shared = _shared_length(new, whole[settled_to:])
        texts.append(whole[placed : settled_to + shared])
        placed = max(placed, settled_to + shared)
        if shared == len(new):
            first, settled, settled_to = settled, end, settled_to + shared
    texts[-1] += whole[placed:]
    return texts


def vocabulary_texts(tokenizer: Any, token_ids: set[int]) -> dict[int, str]:
    """The text of single tokens by id, spelled as in the vocabulary if it is not a whole
    character."""
    texts = {}
    for token in sorted(token_ids):
        text = _decode(tokenizer, [token])
        spelled = tokenizer.convert_ids_to_tokens(token)
        texts[token] = str(spelled) if "\ufffd" in text and spelled is not None else text
    return texts


def _shared_length(first: str, second: str) -> int:
    pairs = enumerate(zip(first, second, strict=False))
    return next((n for n, (a, b) in pairs if a != b), min(len(first), len(second)))


def _decode(tokenizer: Any, token_ids: list[int]) -> str:
    text: str = tokenizer.decode(
        token_ids, skip_special_tokens=False, clean_up_tokenization_spaces=False
    )
    return text
