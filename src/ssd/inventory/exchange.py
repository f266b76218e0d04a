"""Corpora as files of other trainers: conversations as JSON Lines, and token ids as Parquet.

`{"messages": [{"role", "content"}, ...]}` is what TRL, axolotl (`type: chat_template`) and
LLaMA-Factory (`formatting: sharegpt` with these names) read; TRL's `prompt` and `completion` put
the loss on the answer alone, as training does here. `input_ids`, `attention_mask`, `labels`, -100
on the prompt, is what axolotl takes as tokenised already, and TRL too.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ssd.artifacts.files import replacing
from ssd.artifacts.names import CORPUS
from ssd.artifacts.store import Artifact
from ssd.config.settings import ModelConfig, PromptFormatConfig
from ssd.errors import ConfigError
from ssd.models.chat import chat_messages, load_tokenizer, stop_token_ids
from ssd.models.templates import render
from ssd.models.weights import Weights
from ssd.problems.problem import Problem
from ssd.records.samples import Sample, read_samples

CHAT, PROMPT_COMPLETION, SHAREGPT, ALPACA, IDS = (
    "chat", "prompt-completion", "sharegpt", "alpaca", "ids",
)  # fmt: skip
FORMATS = (CHAT, PROMPT_COMPLETION, SHAREGPT, ALPACA, IDS)
SHAREGPT_ROLES = {"user": "human", "assistant": "gpt", "system": "system"}
IGNORED = -100
"""The label of a token without loss, as PyTorch has it."""
ORIGIN = b"ssd"
"""Key of the Parquet schema's metadata under which a corpus says where it is from."""
MARK = "\ufffc"
Message = dict[str, str]


@dataclass(frozen=True, slots=True)
class Exported:
    """What an export wrote, and what its form does not hold."""

    num_samples: int
    num_other_ids: int = 0
    """Samples that the chat template and the tokenizer do not encode to the ids trained on here."""
    num_cut: int = 0
    """Those of them that the length cap ended: a chat always ends its answer."""


def file_format(path: Path, named: str | None) -> str:
    """The format that a file's ending tells, or the named one.

    Raises:
        ConfigError: neither tells.
    """
    known = {".jsonl": CHAT, ".json": CHAT, ".gz": CHAT, ".parquet": IDS}
    if named is None and path.suffix not in known:
        raise ConfigError(
            f"{path} does not say its format: end it in .jsonl or .parquet, or add "
            f"--format with one of {', '.join(FORMATS)}"
        )
    return named or known[path.suffix]


def export_corpus(
    corpus: Artifact, to: Path, form: str, model: ModelConfig | None, weights: Weights | None
) -> Exported:
    """Write a finished corpus into a file; `model` and its weights are needed for chat.

    Raises:
        ArtifactError: the corpus is not as it was written, or the file cannot be written.
    """
    samples = read_samples(corpus.intact(CORPUS, setting="CORPUS") / CORPUS)
    if form == IDS:
        write_ids(to, samples, {"corpus": corpus.fingerprint, "inputs": corpus.inputs})
        return Exported(len(samples))
    assert model is not None and weights is not None
    return write_chat(
        to, samples, PromptFormatConfig(**corpus.inputs["prompt_format"]), model, weights, form
    )


def write_ids(path: Path, samples: Sequence[Sample], origin: dict[str, Any]) -> None:
    """The ids that training uses, as columns."""
    import pyarrow
    import pyarrow.parquet

    columns: dict[str, list[list[int]]] = {"input_ids": [], "attention_mask": [], "labels": []}
    for prompt, completion in (sample.training_ids() for sample in samples):
        columns["input_ids"].append([*prompt, *completion])
        columns["attention_mask"].append([1] * (len(prompt) + len(completion)))
        columns["labels"].append([IGNORED] * len(prompt) + completion)
    types = {
        "input_ids": pyarrow.int32(),
        "attention_mask": pyarrow.int8(),
        "labels": pyarrow.int32(),
    }
    schema = pyarrow.schema([(name, pyarrow.list_(kind)) for name, kind in types.items()])
    table = pyarrow.table(columns, schema.with_metadata({ORIGIN: json.dumps(origin)}))
    with replacing(path) as temporary:
        pyarrow.parquet.write_table(table, temporary, compression="zstd")


def write_chat(
    path: Path,
    samples: Sequence[Sample],
    prompt_format: PromptFormatConfig,
    model: ModelConfig,
    weights: Weights,
    form: str = CHAT,
) -> Exported:
    """The conversations that training sees, as text; counts those that do not encode alike."""
    tokenizer = load_tokenizer(weights.path)
    stops = stop_token_ids(weights.path, tokenizer)
    other = cut = 0
    with replacing(path) as temporary, temporary.open("w", encoding="utf-8") as file:
        for sample, messages in zip(
            samples, conversations(samples, prompt_format, model, tokenizer, stops), strict=True
        ):
            file.write(json.dumps(chat_row(messages, form), ensure_ascii=False) + "\n")
            prompt, completion = sample.training_ids()
            if not encodes_to([*prompt, *completion], messages, model, tokenizer):
                other += 1
                cut += completion[-1] not in stops
    return Exported(len(samples), other, cut)


def chat_row(messages: list[Message], form: str) -> dict[str, Any]:
    """A conversation as a row of one of the formats that hold text."""
    if form == PROMPT_COMPLETION:
        return {"prompt": messages[:-1], "completion": messages[-1:]}
    if form == SHAREGPT:
        turns = [{"from": SHAREGPT_ROLES[t["role"]], "value": t["content"]} for t in messages]
        return {"conversations": turns}
    if form == ALPACA:
        by_role = {turn["role"]: turn["content"] for turn in messages}
        system = {"system": by_role["system"]} if "system" in by_role else {}
        asked = {"instruction": by_role["user"], "input": "", "output": by_role["assistant"]}
        return asked | system
    return {"messages": messages}


def conversations(
    samples: Sequence[Sample],
    prompt_format: PromptFormatConfig,
    model: ModelConfig,
    tokenizer: Any,
    stops: Sequence[int],
) -> Iterator[list[Message]]:
    """The messages behind each sample's ids. A prompt that is no rendered chat is the user's."""
    chat = prompt_format.chat or prompt_format.train_as_chat
    plain = PromptFormatConfig(name="", system=prompt_format.system)
    frame = chat_messages(Problem(problem_id="", question=MARK), plain, model)
    rendered = render(frame, model, tokenizer, answer_follows=True) if chat else MARK
    before, _, behind = rendered.partition(MARK)
    for sample in samples:
        prompt, completion = sample.training_ids()
        text = tokenizer.decode(prompt, skip_special_tokens=False)
        asked: list[Message] = [{"role": "user", "content": text}]
        if chat and text.startswith(before) and text.endswith(behind):
            content = text[len(before) : len(text) - len(behind)]
            asked = [{**turn, "content": turn["content"].replace(MARK, content)} for turn in frame]
        answer = completion[:-1] if completion[-1] in stops else completion
        said = tokenizer.decode(answer, skip_special_tokens=False)
        yield [*asked, {"role": "assistant", "content": said}]


def encodes_to(ids: list[int], messages: list[Message], model: ModelConfig, tokenizer: Any) -> bool:
    """Whether a trainer that renders and encodes these messages gets these ids, white space behind
    the answer's end aside."""
    text = render(messages, model, tokenizer, answer_follows=False)
    encoded: list[int] = tokenizer(text, add_special_tokens=False)["input_ids"]
    rest = tokenizer.decode(encoded[len(ids) :], skip_special_tokens=False)
    return encoded[: len(ids)] == ids and not rest.strip()
