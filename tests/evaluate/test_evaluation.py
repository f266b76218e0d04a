"""The whole stage on the tiny model: real engine, real sandbox, real artifacts."""

import json
import shutil
import time
from collections.abc import Callable

import pytest
from answers import fenced, make_sample

from ssd.artifacts import read_json, verify
from ssd.errors import ArtifactError, DataError
from ssd.evaluate.benchmarks import load_benchmark
from ssd.evaluate.evaluation import answer_rows, evaluate
from ssd.evaluate.generate import benchmark_requests, generate
from ssd.evaluate.grading import read_verdicts
from ssd.generation import read_samples
from ssd.generation.records import write_samples
from ssd.models.chat import load_tokenizer
from ssd.problems import packaged_rows
from ssd.run import Run
from ssd.tracking import read_metrics

SMALL = (
    "eval=humaneval",
    "eval.limit=4",
    "eval.num_samples=2",
    "eval.k=[1,2]",
    "eval.bootstrap=500",
    "eval.timeout=3",
)


def finish_checkpoint(run: Run) -> None:
    """A tuned model that is the base model."""
    with run.checkpoint.writing() as folder:
        shutil.copytree(run.weights.path, folder / "model")
        run.checkpoint.finish(started=time.time(), counts={})


def finish_answers(run: Run, role: str, solved: int) -> None:
    """Stored answers that solve the first `solved` problems and hold no code otherwise."""
    solutions = {
        row["task_id"]: row["prompt"] + row["canonical_solution"]
        for row in packaged_rows("humaneval", "test")
    }
    generations = run.generations(role, "humaneval")
    with generations.writing() as folder:
        samples = [
            make_sample(name, fenced(solutions[name]) if number < solved else "I cannot.", index)
            for number, name in enumerate(
                task.problem.problem_id for task in load_benchmark("humaneval", 4)
            )
            for index in range(2)
        ]
        write_samples(folder / "shards" / "00000.parquet", samples)
        generations.finish(started=time.time(), counts={})


def test_stored_answers_become_verdicts_scores_metrics_and_a_table(
    make_run: Callable[..., Run], capsys: pytest.CaptureFixture[str]
) -> None:
    run = make_run(*SMALL)
    finish_checkpoint(run)
    finish_answers(run, "base", solved=1)
    finish_answers(run, "tuned", solved=3)
    evaluate(run)

    scores = read_json(run.folder / "scores.json")
    one = scores["benchmarks"]["humaneval"]
    assert (scores["version"], scores["sandbox"]) == (1, "namespaces")
    assert (one["num_problems"], one["num_samples"], one["split"]) == (4, 2, "test")
    base, tuned = one["models"]["base"], one["models"]["tuned"]
    assert (base["pass@1"]["value"], tuned["pass@2"]["value"]) == (0.25, 0.75)
    assert tuned["statuses"] == {"passed": 6, "no_code": 2}
    assert (tuned["fence_share"], tuned["cut_share"]) == (0.75, 0)
    assert (base["temp"], base["top_p"]) == (
        run.config.eval.base_temp,
        run.config.eval.base_truncation.top_p,
    )
    assert tuned["verdicts"] == run.verdicts("tuned", "humaneval").fingerprint
    assert tuned["generations"] == run.generations("tuned", "humaneval").fingerprint
    assert one["difference"]["pass@1"]["value"] == 0.5
    assert set(one["difference"]["pass@2"]) == {"value", "low", "high", "p_value"}

    metrics = read_metrics(run.folder)[-1]
    assert (
        metrics["eval/humaneval/tuned/pass@1"],
        metrics["eval/humaneval/difference/pass@1"],
    ) == (0.75, 0.5)
    verdicts = run.verdicts("tuned", "humaneval")
    assert verdicts.manifest()["sandbox"] == "namespaces"
    assert verdicts.manifest()["counts"]["num_passed"] == 6
    assert verify(verdicts.folder) == []
    assert len(read_verdicts(verdicts.folder / "verdicts.parquet")) == 8
    assert [row[4] for row in answer_rows(run, scores)].count("passed") == 8
    assert "difference  +50.0" in capsys.readouterr().out


def test_what_is_graded_is_not_graded_again(make_run: Callable[..., Run]) -> None:
    run = make_run(*SMALL, "stages=[evaluate]")
    finish_answers(run, "base", solved=2)
    evaluate(run)
    manifest = run.verdicts("base", "humaneval").folder / "manifest.json"
    before, scores = manifest.stat().st_mtime_ns, (run.folder / "scores.json").read_text()
    evaluate(run)
    assert manifest.stat().st_mtime_ns == before
    assert (run.folder / "scores.json").read_text() == scores


def test_without_a_checkpoint_and_without_training_only_the_base_is_scored(
    make_run: Callable[..., Run],
) -> None:
    run = make_run(*SMALL, "stages=[evaluate]", "eval.sandbox=none")
    finish_answers(run, "base", solved=2)
    evaluate(run)
    scores = read_json(run.folder / "scores.json")
    assert scores["sandbox"] == "process"
    assert list(scores["benchmarks"]["humaneval"]["models"]) == ["base"]
    assert "difference" not in scores["benchmarks"]["humaneval"]


def test_a_run_that_trains_needs_its_checkpoint(make_run: Callable[..., Run]) -> None:
    run = make_run(*SMALL)
    with pytest.raises(ArtifactError, match=r"no finished checkpoint: run python -m ssd\.train"):
        evaluate(run)
    with pytest.raises(ArtifactError, match="no finished checkpoint"):
        generate(run, "tuned")


def test_a_prompt_without_room_for_an_answer_names_setting_and_problem(
    make_run: Callable[..., Run],
) -> None:
    run = make_run(*SMALL, "eval.max_model_len=300")
    tokenizer = load_tokenizer(run.weights.path)
    with pytest.raises(
        DataError, match=r"HumanEval/\d+ has \d+ tokens and eval\.max_model_len is 300"
    ):
        benchmark_requests(run, "humaneval", tokenizer)


def test_the_stage_generates_grades_and_scores_both_models(make_run: Callable[..., Run]) -> None:
    decoding = ("eval.max_new_tokens=12", "eval.num_samples=1", "eval.k=[1]")
    run = make_run("sampler=transformers", "eval=humaneval_mbpp", "eval.limit=2", *decoding)
    finish_checkpoint(run)
    evaluate(run)
    for role in ("base", "tuned"):
        generations = run.generations(role, "mbpp")
        manifest = generations.manifest()
        assert manifest["counts"]["num_samples"] == manifest["counts"]["num_problems"] == 2
        assert manifest["tokens_per_second"] > 0
        assert manifest["decoding"]["max_new_tokens"] == 12
        assert all(
            len(sample.completion_token_ids) <= 12
            for sample in read_samples(generations.folder / "shards")
        )
    scores = json.loads((run.folder / "scores.json").read_text())
    assert set(scores["benchmarks"]) == {"humaneval", "mbpp"}
    assert scores["benchmarks"]["mbpp"]["models"]["tuned"]["statuses"] == {"no_code": 2}
