"""Samples of models that reason: what is graded, and what is said of their reasoning."""

import dataclasses
import json
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from answers import fenced, make_sample, make_verdict
from reasoning_checkpoints import CHAT, HYBRID, OPENS, reasoning_checkpoint
from score_records import benchmark, model, scores

from ssd.arms import BASE
from ssd.artifacts.names import SHARDS
from ssd.config.choices import ModelKind
from ssd.config.settings import ReasoningConfig
from ssd.drive.pipeline import pin_model
from ssd.evaluate.evaluation import evaluate
from ssd.evaluate.generate import benchmark_requests
from ssd.evaluate.reading import Reading, reader
from ssd.evaluate.scores import reasoning
from ssd.evaluate.table import score_table
from ssd.models import Weights
from ssd.models.chat import load_tokenizer
from ssd.problems.problem import packaged_rows
from ssd.records.benchmark_scores import Reasoning
from ssd.records.samples import Sample, write_samples
from ssd.records.scores import read_scores, write_scores
from ssd.records.verdicts import CLOSED, NO_REASONING, UNCLOSED, Verdict
from ssd.run import Run, evidence, save_run
from ssd.run.protocol import ALL

MAGISTRAL = ReasoningConfig(open="[THINK]", close="[/THINK]")
EVALUATION = ("eval=humaneval", "eval.limit=4", "eval.num_samples=1", "eval.k=[1]")
CLOSES = HYBRID.replace("is defined and enable_thinking is false", "is not defined")
"""The same with the empty reasoning that `enable_thinking=false` writes into the prompt."""
SOLUTIONS = {
    row["task_id"]: row["prompt"] + row["canonical_solution"]
    for row in packaged_rows("humaneval", "test")
}


def pinned(run: Run) -> Run:
    """The run as the driver saves it."""
    run = dataclasses.replace(run, config=pin_model(run.config, run.weights))
    save_run(run, ["python", "train.py"])
    return run


def drawn(run: Run, text: str, index: int = 0, name: str = "humaneval") -> Sample:
    """A sample with a prompt of the run's model, its text stored as earlier versions decoded it."""
    tokenizer = load_tokenizer(run.weights.path)
    request = benchmark_requests(run, name, ALL, tokenizer)[index]
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    return dataclasses.replace(
        make_sample(request.prompt_id, tokenizer.decode(ids, skip_special_tokens=True)),
        prompt_token_ids=list(request.prompt_token_ids),
        completion_token_ids=ids,
        finish_reason="length" if "[cut]" in text else "stop",
    )


def read(run: Run, text: str) -> Reading:
    return reader(run)(drawn(run, text))


@pytest.mark.parametrize("kind", [kind.value for kind in ModelKind])
def test_drafts_are_never_graded_where_the_prompt_opens_reasoning(
    make_run: Callable[..., Run], tiny_weights: Weights, tmp_path: Path, kind: str
) -> None:
    folder = reasoning_checkpoint(tiny_weights, tmp_path / "model", OPENS)
    run = pinned(make_run(*EVALUATION, f"model.path={folder}", f"model.kind={kind}"))
    draft = fenced("draft = 1")
    assert read(run, f"{draft}[cut]").answer == ""
    assert read(run, f"{draft}[cut]").reasoning == UNCLOSED
    done = read(run, f"{draft}</think>x")
    assert done == Reading(
        answer="x", reasoning=CLOSED, num_reasoning_tokens=len(f"{draft}</think>")
    )


@pytest.mark.parametrize("template", [HYBRID, CLOSES])
def test_hybrid_models_that_do_not_think_are_graded_on_their_whole_answer(
    make_run: Callable[..., Run], tiny_weights: Weights, tmp_path: Path, template: str
) -> None:
    folder = reasoning_checkpoint(tiny_weights, tmp_path / "model", template)
    run = pinned(make_run(*EVALUATION, f"model.path={folder}", "model.kind=thinking"))
    for text in ("x = 1", "print('</think>')"):
        assert read(run, text) == Reading(
            answer=text, reasoning=NO_REASONING, num_reasoning_tokens=0
        )
    assert read(run, "<think>x").answer == ""


def test_marks_that_are_special_tokens_are_read_from_the_token_ids(
    make_run: Callable[..., Run], tiny_weights: Weights, tmp_path: Path
) -> None:
    folder = reasoning_checkpoint(tiny_weights, tmp_path / "m", CHAT, ("[THINK]", "[/THINK]"))
    run = pinned(make_run(*EVALUATION, f"model.path={folder}", "model.kind=thinking"))
    assert run.config.model.reasoning == MAGISTRAL
    sample = drawn(run, "[THINK]draft[/THINK]x<|im_end|>")
    assert sample.text == "draftx"
    assert reader(run)(sample) == Reading(
        answer="x", reasoning=CLOSED, num_reasoning_tokens=1 + len("draft") + 1
    )


def test_runs_of_earlier_versions_are_read_by_their_texts(make_run: Callable[..., Run]) -> None:
    for kind, answer in (("instruct", "draft</think>x"), ("thinking", "x")):
        run = make_run(f"model.kind={kind}")
        assert run.config.model.reasoning is None
        assert reader(run)(make_sample("a", "draft</think>x")) == Reading(answer=answer)


def test_reasoning_goes_from_the_answers_to_the_scores_and_the_table(
    make_run: Callable[..., Run], tiny_weights: Weights, tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    folder = reasoning_checkpoint(tiny_weights, tmp_path / "model", OPENS)
    run = pinned(
        make_run(*EVALUATION, f"model.path={folder}", "stages=[sample,evaluate]", "eval.timeout=5")
    )
    generations = evidence.generations(run, BASE, "humaneval")
    with generations.writing() as place:
        requests = benchmark_requests(run, "humaneval", ALL, load_tokenizer(str(folder)))
        right = [fenced(SOLUTIONS[request.prompt_id]) for request in requests]
        texts = ["a</think>" + right[0], right[1] + "[cut]", right[2], "b</think>" + right[3]]
        samples = [drawn(run, text, index) for index, text in enumerate(texts)]
        write_samples(place / SHARDS / "00000.parquet", samples)
        generations.finish(started=time.time(), counts={})
    evaluate(run)
    record = read_scores(run.folder)
    assert record is not None
    arm = record.benchmarks[0].models[BASE]
    assert arm.statuses == {"passed": 2, "no_code": 2}
    length = 2 * len("a</think>") + len(samples[1].text) + len(samples[2].text)
    assert arm.reasoning == Reasoning(closed_share=0.5, cut_share=0.25, mean_tokens=length / 4)
    assert "base 50% closed, 25% cut off" in capsys.readouterr().out


PRINTS = {
    "no marks": (CHAT, "", {"passed": 1}),
    "reasoning that the prompt opens": (OPENS, "a tag</think>", {"passed": 1}),
    "reasoning of its own": (HYBRID, "<think>a tag</think>", {"passed": 1}),
    "a model that could reason and does not": (HYBRID, "", {"passed": 1}),
    "a draft in reasoning that the program's text ends": (OPENS, "", {"no_code": 1}),
}


@pytest.mark.parametrize(("template", "before", "statuses"), PRINTS.values(), ids=PRINTS)
def test_a_program_that_prints_a_mark_is_graded_by_what_it_prints(
    make_run: Callable[..., Run], tiny_weights: Weights, tmp_path: Path,
    template: str, before: str, statuses: dict[str, int],
) -> None:  # fmt: skip
    question = "Print the tag that ends a thought."
    tests = [{"input": "", "output": "</think>"}]
    own = tmp_path / "own.jsonl"
    own.write_text(json.dumps({"version": 1, "id": "a", "question": question, "tests": tests}))
    folder = reasoning_checkpoint(tiny_weights, tmp_path / "model", template)
    run = pinned(
        make_run("eval=jsonl", f"eval.files.jsonl={own}", "eval.num_samples=1", "eval.k=[1]",
                 f"model.path={folder}", "stages=[sample,evaluate]", "eval.timeout=5")
    )  # fmt: skip
    generations = evidence.generations(run, BASE, "jsonl")
    with generations.writing() as place:
        sample = drawn(run, before + fenced("print('</think>')"), name="jsonl")
        write_samples(place / SHARDS / "00000.parquet", [sample])
        generations.finish(started=time.time(), counts={})
    evaluate(run)
    record = read_scores(run.folder)
    assert record is not None
    assert record.benchmarks[0].models[BASE].statuses == statuses


def reasoned(*ends: str | None, finish_reason: str = "stop") -> list[Verdict]:
    return [
        dataclasses.replace(
            make_verdict("a", index, passed=True, finish_reason=finish_reason),
            reasoning=end, num_reasoning_tokens=None if end is None else 4,
        )
        for index, end in enumerate(ends)
    ]  # fmt: skip


def test_only_answers_that_reason_say_how_it_went() -> None:
    assert reasoning(reasoned(None, None)) is None
    assert reasoning(reasoned(NO_REASONING, NO_REASONING)) is None
    assert reasoning(reasoned(CLOSED, None)) is None  # in part graded by an earlier version
    assert reasoning(reasoned(CLOSED, NO_REASONING)) == Reasoning(
        closed_share=0.5, cut_share=0, mean_tokens=4
    )
    assert reasoning(reasoned(UNCLOSED)) == Reasoning(closed_share=0, cut_share=0, mean_tokens=4)
    cut = reasoning(reasoned(UNCLOSED, finish_reason="length"))
    assert cut is not None and cut.cut_share == 1


def test_reasoning_is_stored_and_shown_only_where_there_is_some(tmp_path: Path) -> None:
    facts = Reasoning(closed_share=0.9, cut_share=0.1, mean_tokens=512.0)
    plain, thinking = model(0.4), model(0.4, reasoning=facts)
    record = scores(benchmark({"base": thinking, "tuned": plain}, {}))
    write_scores(tmp_path, record)
    assert read_scores(tmp_path) == record
    assert "base 90% closed, 10% cut off within it, 512 tokens" in score_table(record)
    assert "reasoning" not in score_table(scores(benchmark({"base": plain}, {})))
