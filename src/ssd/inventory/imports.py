"""Corpora from elsewhere: chat JSON Lines, what apple/ml-ssd's sampling writes, and token ids.

What a file does not say is unknown, and stays so in the manifest: who drew it, at which
temperature, from which seed. Nothing is guessed.
"""

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ssd.artifacts.fingerprints import hash_file
from ssd.artifacts.names import CORPUS
from ssd.artifacts.store import Artifact, artifact
from ssd.config.settings import ModelConfig, TruncationConfig
from ssd.errors import ConfigError, DataError, one_line
from ssd.inventory.exchange import IDS, IGNORED, ORIGIN, Message
from ssd.models.chat import load_tokenizer, stop_token_ids
from ssd.models.templates import end_token, render
from ssd.models.weights import Weights, vocabulary_size
from ssd.problems.prompts import question_text
from ssd.problems.rows import numbered_rows
from ssd.records.samples import Sample, write_samples
from ssd.records.tables import read_outline, sample_counts
from ssd.run.lineage import template_inputs

ROLES = {"human": "user", "gpt": "assistant"}
"""ShareGPT's names."""
UNKNOWN_SEED = -1


@dataclass(frozen=True, slots=True, kw_only=True)
class Provenance:
    """What the user knows of a file; None where it is unknown."""

    temp: float | None = None
    truncation: TruncationConfig | None = None
    """Known with the temperature."""
    exact: bool = False
    """Refuse a file that does not hold the drawn ids and how they were drawn."""


def import_corpus(
    file: Path, store: Path, model: ModelConfig, weights: Weights, known: Provenance
) -> Artifact:
    """The file as a corpus of the store.

    Raises:
        ConfigError: exactness is asked for, and the file does not have it.
        DataError: it cannot be read, or is of another tokenizer.
    """
    started = time.time()
    tokenizer = load_tokenizer(weights.path)
    rows, form, origin = read_rows(file)
    if known.exact and (form != IDS or (origin is None and known.temp is None)):
        lacks = "text, not the drawn ids" if form != IDS else "ids, not how they were drawn"
        raise ConfigError(
            f"--exact: {file} holds {lacks}: export the corpus it is from with --format ids, "
            "or import without --exact"
        )
    inputs = corpus_inputs(origin, model, weights, known)
    if inputs["tokenizer"] != weights.tokenizer:
        raise DataError(
            f"{file} was exported with tokenizer {inputs['tokenizer']} and the model's is "
            f"{weights.tokenizer}: name its model with --model"
        )
    corpus = artifact(store, "corpus", inputs | {"imported": hash_file(file)})
    with corpus.writing() as folder:
        if corpus.done:
            return corpus
        samples, num_empty = [], 0
        size = vocabulary_size(Path(weights.path))
        for place, row in rows:
            sample = (
                _ids_sample(row, place, file, tokenizer, size)
                if form == IDS
                else _chat_sample(row, place, file, model, weights, tokenizer)
            )
            num_empty += sample is None
            samples += [] if sample is None else [sample]
        if not samples:
            raise DataError(f"{file} holds no answer with a token")
        write_samples(folder / CORPUS, samples)
        num_fenced = sum("```" in sample.text for sample in samples)
        counts = {
            "num_prompts": len({sample.prompt_id for sample in samples}),
            "rows": len(samples) + num_empty, "not_passed": 0, "duplicates": 0, "beyond_limit": 0,
            "skipped_long_prompts": 0, "num_drawn": len(samples) + num_empty,
            "dropped": {"empty": num_empty}, **sample_counts(read_outline([folder / CORPUS])),
            "fence_share": round(num_fenced / len(samples), 4),
        }  # fmt: skip
        unknown = [
            name for name in ("weights", "temp", "truncation", "seed") if inputs.get(name) is None
        ]
        corpus.finish(
            started=started,
            counts=counts,
            provenance={
                "imported_from": file.name,
                "token_ids": "as they were drawn" if form == IDS else "encoded again from text",
                "unknown": unknown,
            },
        )
    return corpus


def corpus_inputs(
    origin: dict[str, Any] | None, model: ModelConfig, weights: Weights, known: Provenance
) -> dict[str, Any]:
    """The inputs of the corpus that was exported, or what is known of one from elsewhere."""
    if origin is not None:
        inputs: dict[str, Any] = origin["inputs"]
        return inputs
    return {
        "weights": None,
        "tokenizer": weights.tokenizer,
        "model_kind": model.kind,
        **template_inputs(model),
        "prompt_format": {"name": "imported"},
        "temp": known.temp,
        "truncation": known.truncation,
        "seed": None,
    }


def read_rows(
    file: Path,
) -> tuple[Iterator[tuple[str, dict[str, Any]]], str, dict[str, Any] | None]:
    """Rows with their places, their format (`ids`, or `chat` for all that is text), and where the
    file says that it is from.

    Raises:
        DataError: it cannot be read.
    """
    if file.suffix != ".parquet":
        return numbered_rows(file), "chat", None
    import pyarrow
    import pyarrow.parquet

    try:
        table = pyarrow.parquet.read_table(file)
    except (pyarrow.ArrowException, OSError) as error:
        raise DataError(f"{file} is no readable Parquet file ({one_line(error)})") from error
    form = IDS if {"input_ids", "labels"} <= {*table.column_names} else "chat"
    origin = (table.schema.metadata or {}).get(ORIGIN)
    rows = ((f"row {number}", row) for number, row in enumerate(table.to_pylist(), start=1))
    return rows, form, None if origin is None else json.loads(origin)


def messages_of(row: dict[str, Any], place: str, file: Path) -> list[Message]:
    """The conversation in a row: `messages`, ShareGPT's `conversations`, TRL's `prompt` and
    `completion` (texts or messages), Alpaca's `instruction`, `input` and `output`, or `prompt` and
    `output` as apple/ml-ssd writes them.

    Raises:
        DataError: there is none that ends in an answer.
    """
    turns = row.get("messages") or row.get("conversations")
    if turns is None:
        turns = _asked_and_answered(row)
    turns = turns if isinstance(turns, list) else []
    messages = []
    for turn in (turn for turn in turns if isinstance(turn, dict)):
        role, content = turn.get("role", turn.get("from")), turn.get("content", turn.get("value"))
        if isinstance(role, str) and isinstance(content, str):
            messages.append({"role": ROLES.get(role, role), "content": content})
    whole = len(messages) == len(turns) > 1
    if not whole or messages[-1]["role"] != "assistant":
        raise DataError(
            f"{file}, {place} holds no conversation that ends in an answer: it needs messages with "
            "role and content, the last of the assistant"
        )
    return messages


def _asked_and_answered(row: dict[str, Any]) -> list[Any]:
    """The turns of a row with a field for the question and one for the answer."""
    prompt, completion = row.get("prompt"), row.get("completion")
    if isinstance(prompt, list) and isinstance(completion, list):
        return [*prompt, *completion]
    if isinstance(prompt, str) and isinstance(completion, str):
        return _turns(prompt, completion)
    if isinstance(prompt, str) and "output" in row:
        # Stripped, as apple/ml-ssd's own post-processing does before training.
        return _turns(prompt.strip(), str(row["output"] or "").strip())
    question = question_text(row, "instruction")
    if question is not None and isinstance(row.get("output"), str):
        system = row.get("system")
        first = [{"role": "system", "content": system}] if system else []
        return [*first, *_turns(question, row["output"])]
    return []


def _turns(question: str, answer: str) -> list[Message]:
    return [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]


def _chat_sample(
    row: dict[str, Any],
    place: str,
    file: Path,
    model: ModelConfig,
    weights: Weights,
    tokenizer: Any,
) -> Sample | None:
    """None where the answer is empty."""
    messages = messages_of(row, place, file)
    answer = messages[-1]["content"]
    if not answer.strip():
        return None
    prompt = render(messages[:-1], model, tokenizer, answer_follows=True)
    end = end_token(model, tokenizer, stop_token_ids(weights.path, tokenizer))
    # Text does not tell whether the length cap ended an answer; as other trainers do, it is ended.
    ids = tokenizer(answer, add_special_tokens=False)["input_ids"] + ([] if end is None else [end])
    return _sample(place, tokenizer(prompt, add_special_tokens=False)["input_ids"], ids, answer)


def _ids_sample(
    row: dict[str, Any], place: str, file: Path, tokenizer: Any, vocabulary: int
) -> Sample | None:
    """None where no token has a loss."""
    ids, labels = row["input_ids"], row["labels"]
    start = next((n for n, label in enumerate(labels) if label != IGNORED), len(labels))
    if not ids or max(ids) >= vocabulary or min(ids) < 0:
        raise DataError(
            f"{file}, {place} holds no ids, or ids that the model's {vocabulary} tokens do not "
            "have: name its model with --model"
        )
    if labels[start:] != ids[start:]:
        raise DataError(
            f"{file}, {place} has labels that are not its ids from the answer's first token on: "
            "only a prompt without loss in front of an answer can be imported"
        )
    text = tokenizer.decode(ids[start:], skip_special_tokens=True)
    return _sample(place, ids[:start], ids[start:], text) if start < len(ids) else None


def _sample(place: str, prompt: list[int], completion: list[int], text: str) -> Sample:
    return Sample(
        prompt_id=place.replace(" ", "/"),
        sample_index=0,
        seed=UNKNOWN_SEED,
        prompt_token_ids=prompt,
        completion_token_ids=completion,
        text=text,
        finish_reason="unknown",
    )
