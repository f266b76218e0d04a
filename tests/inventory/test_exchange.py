"""Corpora leave as chat and as ids, and come back: exactly, or with what is unknown said."""

import dataclasses
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest
from corpora import write_corpus
from datasets import load_dataset
from transformers import AutoTokenizer

from ssd.artifacts.names import CORPUS, STORE
from ssd.artifacts.store import Artifact, verify
from ssd.config.settings import TruncationConfig
from ssd.drive.checks import check_data
from ssd.errors import ConfigError, DataError
from ssd.inventory.exchange import CHAT, IDS, export_corpus, file_format
from ssd.inventory.imports import Provenance, import_corpus
from ssd.models.chat import encode_chat, stop_token_ids
from ssd.models.names import MODEL_WEIGHTS
from ssd.problems.prompts import load_prompts
from ssd.records.samples import Sample, read_samples, write_samples
from ssd.run import Run, lineage
from ssd.train.trainer import train

Make = Callable[..., Run]
ANSWER = "Here:\n```python\nprint(1 + 2)\n```"
QUICK = (
    "train.precision=fp32",
    "train.max_steps=8",
    "analyse.live_points=0",
    "train.seq_len=256",
)
KNOWN = Provenance(temp=1.5, truncation=TruncationConfig(top_k=20))


def asked_corpus(run: Run, *, ended: bool = True) -> list[Sample]:
    """A corpus of the run's own prompts, all answered alike."""
    tokenizer = AutoTokenizer.from_pretrained(run.weights.path)
    end = stop_token_ids(run.weights.path, tokenizer)[:1] if ended else []
    config = run.config
    samples = [
        Sample(
            prompt_id=problem.problem_id,
            sample_index=0,
            seed=1,
            prompt_token_ids=encode_chat(problem, config.prompt_format, config.model, tokenizer),
            completion_token_ids=tokenizer(ANSWER, add_special_tokens=False)["input_ids"] + end,
            text=ANSWER,
            finish_reason="stop" if ended else "length",
        )
        for problem in load_prompts(config.data)[0][:3]
    ]
    corpus = lineage.corpus(run)
    write_samples(corpus.folder / CORPUS, samples)
    corpus.finish(started=time.time(), counts={})
    return samples


def brought_in(run: Run, file: Path, known: Provenance = KNOWN) -> Artifact:
    return import_corpus(file, file.parent / STORE, run.config.model, run.weights, known)


def ids(samples: list[Sample]) -> list[tuple[list[int], list[int]]]:
    return [sample.training_ids() for sample in samples]


def test_ids_that_were_exported_and_imported_train_to_the_same_weights(
    make_run: Make, tmp_path: Path
) -> None:
    run = make_run(*QUICK)
    write_corpus(run, [(30, 40), (20, 60), (50, 9), (12, 33)])
    file = tmp_path / "ids.parquet"
    export_corpus(lineage.corpus(run), file, IDS, None, None)
    corpus = brought_in(run, file, Provenance(exact=True))
    assert corpus.manifest()["provenance"]["unknown"] == []
    again = make_run(*QUICK, f"train.corpus={corpus.folder}", name="again")
    for each in (run, again):
        train(each)
    weights = [lineage.model_folder(each, "tuned") / MODEL_WEIGHTS for each in (run, again)]
    assert weights[0] != weights[1]
    assert weights[0].read_bytes() == weights[1].read_bytes()


def test_exported_ids_have_the_columns_that_trainers_take_as_tokenised(
    make_run: Make, tmp_path: Path
) -> None:
    run = make_run()
    (first, *_) = asked_corpus(run)
    file = tmp_path / "ids.parquet"
    export_corpus(lineage.corpus(run), file, IDS, None, None)
    rows = load_dataset("parquet", data_files=str(file), split="train", cache_dir=str(tmp_path))
    assert set(rows.column_names) == {"input_ids", "attention_mask", "labels"}
    prompt, completion = first.training_ids()
    assert rows[0]["input_ids"] == prompt + completion
    assert rows[0]["labels"] == [-100] * len(prompt) + completion
    assert rows[0]["attention_mask"] == [1] * len(prompt + completion)


def test_a_chat_that_encodes_alike_comes_back_as_the_same_ids(
    make_run: Make, tmp_path: Path
) -> None:
    run = make_run()
    samples = asked_corpus(run)
    file = tmp_path / "chat.jsonl"
    exported = export_corpus(lineage.corpus(run), file, CHAT, run.config.model, run.weights)
    assert (exported.num_samples, exported.num_other_ids) == (3, 0)
    rows = load_dataset("json", data_files=str(file), split="train", cache_dir=str(tmp_path))
    messages = rows[0]["messages"]
    assert [turn["role"] for turn in messages] == ["system", "user", "assistant"]
    assert messages[0]["content"] == run.config.prompt_format.system
    assert messages[1]["content"] == load_prompts(run.config.data)[0][0].question
    assert messages[2]["content"] == ANSWER
    corpus = brought_in(run, file)
    assert ids(read_samples(corpus.folder / CORPUS)) == ids(samples)
    assert verify(corpus.folder) == []
    provenance = corpus.manifest()["provenance"]
    assert provenance["unknown"] == ["weights", "seed"]
    assert "text" in provenance["token_ids"]


def test_answers_that_were_cut_are_counted_as_lost_in_text(make_run: Make, tmp_path: Path) -> None:
    run = make_run()
    asked_corpus(run, ended=False)
    file = tmp_path / "chat.jsonl"
    exported = export_corpus(lineage.corpus(run), file, CHAT, run.config.model, run.weights)
    assert (exported.num_other_ids, exported.num_cut) == (3, 3)


def test_what_apples_sampling_writes_becomes_a_corpus(make_run: Make, tmp_path: Path) -> None:
    run = make_run()
    rows: list[dict[str, Any]] = [
        {"question": "q", "starter_code": None, "problem_type": "stdin",
         "prompt": "Add two numbers.\n", "output": f" {ANSWER}\n"},
        {"question": "q", "starter_code": "def f():", "problem_type": "function",
         "prompt": "Add three.", "output": ""},
    ]  # fmt: skip
    table, lines = tmp_path / "train.parquet", tmp_path / "train.jsonl"
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), table)
    turns = [("user", "Add two numbers."), ("assistant", ANSWER)]
    chat = {"messages": [{"role": role, "content": text} for role, text in turns]}
    lines.write_text(json.dumps(chat) + "\n")
    whole, filtered = brought_in(run, table), brought_in(run, lines)
    assert whole.fingerprint != filtered.fingerprint
    assert whole.manifest()["counts"]["dropped"] == {"empty": 1}
    (sample,) = read_samples(whole.folder / CORPUS)
    assert ids([sample]) == ids(read_samples(filtered.folder / CORPUS))
    tokenizer = AutoTokenizer.from_pretrained(run.weights.path)
    assert "Add two numbers." in tokenizer.decode(sample.prompt_token_ids)
    assert sample.text == ANSWER and sample.seed == -1


def test_exactness_that_a_file_does_not_have_is_refused(make_run: Make, tmp_path: Path) -> None:
    run = make_run()
    asked_corpus(run)
    file, bare = tmp_path / "chat.jsonl", tmp_path / "bare.parquet"
    export_corpus(lineage.corpus(run), file, CHAT, run.config.model, run.weights)
    pyarrow.parquet.write_table(pyarrow.table({"input_ids": [[1, 2]], "labels": [[-100, 2]]}), bare)
    for path in (file, bare):
        with pytest.raises(ConfigError, match="--exact"):
            brought_in(run, path, Provenance(exact=True))


def test_a_corpus_of_unknown_temperature_is_only_trained_on(make_run: Make, tmp_path: Path) -> None:
    run = make_run()
    asked_corpus(run)
    file = tmp_path / "chat.jsonl"
    export_corpus(lineage.corpus(run), file, CHAT, run.config.model, run.weights)
    unknown, known = brought_in(run, file, Provenance()), brought_in(run, file)
    assert "temp" in unknown.manifest()["provenance"]["unknown"]
    named = make_run(f"train.corpus={unknown.folder}", name="named").config
    with pytest.raises(ConfigError, match=r"train\.corpus=.*--temp.*analyse\.live_points=0"):
        check_data(named)
    check_data(make_run(f"train.corpus={known.folder}", name="known").config)
    alone = dataclasses.replace(named, stages=["train"])
    with pytest.raises(ConfigError, match=r"analyse\.live_points"):
        check_data(alone)
    silent = dataclasses.replace(alone.analyse, live_points=0)
    check_data(dataclasses.replace(alone, analyse=silent))


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"input_ids": [1, 2, 3], "labels": [-100, 2, -100]}, "labels"),
        ({"input_ids": [1, 10**6], "labels": [-100, 10**6]}, "--model"),
        ({"messages": [{"role": "user", "content": "a"}]}, "row 1"),
        ({"prompt": "a"}, "messages"),
    ],
)
def test_rows_that_are_no_sample_are_named(
    row: dict[str, Any], message: str, make_run: Make, tmp_path: Path
) -> None:
    file = tmp_path / "rows.parquet"
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist([row]), file)
    with pytest.raises(DataError, match=message):
        brought_in(make_run(), file)


def test_ids_of_another_tokenizer_are_refused(make_run: Make, tmp_path: Path) -> None:
    run = make_run()
    asked_corpus(run)
    file = tmp_path / "ids.parquet"
    export_corpus(lineage.corpus(run), file, IDS, None, None)
    other = dataclasses.replace(run.weights, tokenizer="another")
    with pytest.raises(DataError, match="another"):
        import_corpus(file, tmp_path / STORE, run.config.model, other, KNOWN)


def test_an_ending_that_tells_no_format_asks_for_it(tmp_path: Path) -> None:
    assert file_format(tmp_path / "a.parquet", None) == IDS
    assert file_format(tmp_path / "a", CHAT) == CHAT
    with pytest.raises(ConfigError, match="--format"):
        file_format(tmp_path / "a.arrow", None)
