"""Every row of docs/formats.md: what it says is read and written, is."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet
import pytest
from runs import ROOT, compose_config
from test_exchange import ANSWER, KNOWN, asked_corpus

from ssd.artifacts.names import CORPUS, STORE
from ssd.config.choices import Extraction, Grading
from ssd.config.settings import BenchmarkFiles
from ssd.evaluate.answers import read_answers
from ssd.inventory.exchange import CHAT, export_corpus, file_format
from ssd.inventory.imports import import_corpus, messages_of
from ssd.problems.benchmarks.registry import load_benchmark
from ssd.problems.problem import packaged_file
from ssd.problems.prompts import load_prompts
from ssd.problems.rows import read_jsonl
from ssd.records.samples import read_samples
from ssd.run import Run, lineage

PAGE = (ROOT / "docs/formats.md").read_text(encoding="utf-8")
HUMANEVAL = read_jsonl(packaged_file("humaneval"))[0]
TASKS = load_benchmark("humaneval", BenchmarkFiles(), Grading.official).tasks
QUESTION = "Add two numbers."


def rows(title: str) -> list[list[str]]:
    """The cells of the first table below a title."""
    (part,) = re.findall(rf"^## {title}\n(.*?)(?=^## |\Z)", PAGE, re.DOTALL | re.MULTILINE)
    first = re.split(r"\n\n(?=[^|])", part[part.index("|") :])[0]
    lines = [line for line in first.splitlines() if line.startswith("|")][2:]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines]


def quoted(cell: str) -> str:
    """The text between a cell's first backticks."""
    return re.findall(r"`([^`]+)`", cell)[0]


def named(title: str) -> list[Any]:
    return [pytest.param(*row, id=row[0]) for row in rows(title)]


@pytest.mark.parametrize(("source", "row", "field"), named("Prompts in"))
def test_prompts_are_read(source: str, row: str, field: str, tmp_path: Path) -> None:
    file = tmp_path / "prompts.jsonl"
    file.write_text(quoted(row))
    settings = ("data=file", f"data.path={file}", f"data.question_field={quoted(field)}")
    problems, _ = load_prompts(compose_config("model=tiny", *settings).data)
    assert [problem.question for problem in problems] == [QUESTION]


@pytest.mark.parametrize(("source", "row"), named("Corpora in"))
def test_corpora_are_read(source: str, row: str) -> None:
    messages = messages_of(json.loads(quoted(row)), "line 1", Path("file.jsonl"))
    assert messages == [
        {"role": "user", "content": QUESTION},
        {"role": "assistant", "content": "1"},
    ]


@pytest.mark.parametrize(("reader", "form", "fields"), named("Corpora out"))
def test_corpora_are_written_and_what_holds_text_comes_back(
    reader: str, form: str, fields: str, make_run: Callable[..., Run], tmp_path: Path
) -> None:
    run = make_run()
    samples = asked_corpus(run)
    name, keys = quoted(form), re.findall(r"`(\w+)`", fields)
    file = tmp_path / ("out.parquet" if name == "ids" else "out.jsonl")
    export_corpus(lineage.corpus(run), file, name, run.config.model, run.weights)
    if name == "ids":
        assert pyarrow.parquet.read_schema(file).names == keys
    else:
        (first, *_) = map(json.loads, file.read_text().splitlines())
        assert set(first) - {"system"} == set(keys)
        assert json.dumps(ANSWER) in json.dumps(first)
    corpus = import_corpus(file, tmp_path / STORE, run.config.model, run.weights, KNOWN)
    back = read_samples(corpus.folder / CORPUS)
    assert [each.training_ids() for each in back] == [each.training_ids() for each in samples]
    if name in (CHAT, "ids"):
        assert file_format(file, None) == name


def test_the_columns_of_a_corpus_are_those_that_the_page_lists(
    make_run: Callable[..., Run],
) -> None:
    run = make_run()
    asked_corpus(run)
    (part,) = re.findall(r"\| column \| \|\n.*?\n\n", PAGE, re.DOTALL)
    listed = re.findall(r"`(\w+)`", "".join(line.split(" | ")[0] for line in part.splitlines()))
    schema = pyarrow.parquet.read_schema(lineage.corpus(run).folder / CORPUS)
    assert sorted(schema.names) == sorted(listed)


@pytest.mark.parametrize(("source", "row"), named("Answers in"))
def test_answers_are_read(source: str, row: str, tmp_path: Path) -> None:
    body = HUMANEVAL["canonical_solution"]
    whole = HUMANEVAL["prompt"] + body
    text = f"Here:\n```python\n{whole}\n```"
    code = body if "completion" in row else whole
    filled = quoted(row).replace("CODE", json.dumps(code)).replace("TEXT", json.dumps(text))
    file = tmp_path / "answers.jsonl"
    file.write_text(filled)
    (answer,) = read_answers(file, TASKS, extraction=Extraction.official, thinking=False)
    assert answer.problem_id == "HumanEval/0"
    assert (answer.code or "").strip() == whole.strip()


def test_a_response_of_the_harness_without_a_fence_goes_on_where_the_prompt_ends(
    tmp_path: Path,
) -> None:
    row = {"doc_id": 0, "doc": {"task_id": "HumanEval/0"}, "resps": [["    return 1\n"]]}
    file = tmp_path / "samples_humaneval.jsonl"
    file.write_text(json.dumps(row))
    (answer,) = read_answers(file, TASKS, extraction=Extraction.official, thinking=False)
    assert answer.code == HUMANEVAL["prompt"] + "    return 1\n"
