"""The whole stage on the tiny model: real engine, real sandbox, real artifacts."""

import dataclasses
import json
import shutil
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from answers import fenced, make_sample

from ssd.arms import BASE, BOX, BOX_OR_NUMBER, TUNED, UNIT
from ssd.artifacts.files import read_json
from ssd.artifacts.store import verify
from ssd.config.choices import Extraction
from ssd.errors import ArtifactError, DataError
from ssd.evaluate.evaluation import evaluate
from ssd.evaluate.generate import benchmark_requests, generate
from ssd.evaluate.metrics import answer_rows
from ssd.evaluate.selection import Job, choice_jobs, list_jobs, load_part
from ssd.models.chat import load_tokenizer
from ssd.problems.extraction import RULES
from ssd.problems.problem import packaged_rows
from ssd.records.samples import read_samples, write_samples
from ssd.records.scores import read_scores, scores_json
from ssd.records.verdicts import read_verdicts, write_verdicts
from ssd.run import Run, evidence, lineage, protocol
from ssd.run.protocol import ALL, TEST, VALIDATION
from ssd.run.tracking import read_metrics

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
    with lineage.checkpoint(run).writing() as folder:
        shutil.copytree(run.weights.path, folder / "model")
        lineage.checkpoint(run).finish(started=time.time(), counts={})


def finish_answers(run: Run, model: str, solved: int, write: Callable[[str], str] = fenced) -> None:
    """Stored answers that solve the first `solved` problems and hold no code otherwise."""
    finish_job(run, Job(model, "humaneval", ALL, protocol.candidates(run, model)[0]), solved, write)


def finish_job(run: Run, job: Job, solved: int, write: Callable[[str], str] = fenced) -> None:
    """The same for one part of HumanEval under one setting."""
    solutions = {
        row["task_id"]: row["prompt"] + row["canonical_solution"]
        for row in packaged_rows("humaneval", "test")
    }
    tasks = load_part(run.config.eval, job.benchmark, job.part).tasks
    generations = job.generations(run)
    with generations.writing() as folder:
        samples = [
            make_sample(name, write(solutions[name]) if number < solved else "I cannot.", index)
            for number, name in enumerate(task.problem.problem_id for task in tasks)
            for index in range(run.config.eval.num_samples)
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
    (run.folder / "report.html").write_text("of other scores, by a clock that has since gone back")
    evaluate(run)
    assert not (run.folder / "report.html").exists()

    scores = read_json(run.folder / "scores.json")
    one = scores["benchmarks"]["humaneval"]
    assert (scores["version"], scores["selection"]) == (2, None)
    assert scores["sandbox"] in ("bwrap", "namespaces")
    assert (one["num_problems"], one["num_samples"], one["split"]) == (4, 2, "all")
    assert (one["grading"], one["extraction"]) == ("official", RULES[Extraction.official])
    base, tuned = one["models"]["base"], one["models"]["tuned"]
    assert (base["pass@1"]["value"], tuned["pass@2"]["value"]) == (0.25, 0.75)
    assert tuned["statuses"] == {"passed": 6, "no_code": 2}
    assert (tuned["fence_share"], tuned["cut_share"]) == (0.75, 0)
    assert (base["temp"], base["top_p"]) == (
        run.config.eval.base_temp,
        run.config.eval.base_truncation.top_p,
    )
    assert tuned["verdicts"] == evidence.verdicts(run, "tuned", "humaneval").fingerprint
    assert tuned["generations"] == evidence.generations(run, "tuned", "humaneval").fingerprint
    assert one["comparisons"]["base"]["pass@1"]["value"] == 0.5
    assert set(one["comparisons"]["base"]["pass@2"]) == {"value", "low", "high", "p_value"}

    metrics = read_metrics(run.folder)[-1]
    assert (
        metrics["eval/humaneval/tuned/pass@1"],
        metrics["eval/humaneval/tuned_minus_base/pass@1"],
    ) == (0.75, 0.5)
    verdicts = evidence.verdicts(run, "tuned", "humaneval")
    assert verdicts.manifest()["sandbox"] == scores["sandbox"]
    assert verdicts.manifest()["counts"]["num_passed"] == 6
    assert verify(verdicts.folder) == []
    rows = read_verdicts(verdicts.folder / "verdicts.parquet")
    record = read_scores(run.folder)
    assert record is not None and scores_json(record).items() <= scores.items()
    assert [row.backend for row in rows] == [scores["sandbox"]] * 8
    assert [row[4] for row in answer_rows(run, record)].count("passed") == 8
    assert "+50.0" in capsys.readouterr().out


def test_the_base_model_alone_is_evaluated_where_the_store_holds_a_tuned_one(
    make_run: Callable[..., Run], capsys: pytest.CaptureFixture[str]
) -> None:
    run = make_run(*SMALL, "eval.arms=[base]")
    finish_checkpoint(run)
    finish_answers(run, "base", solved=1)
    evaluate(run)
    assert set(read_json(run.folder / "scores.json")["benchmarks"]["humaneval"]["models"]) == {BASE}
    printed = capsys.readouterr().out
    assert "no checkpoint" not in printed
    assert "decoded differently" not in printed


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        (("eval.temp=0.2",), "(eval.base_temp for the base model, eval.temp for the tuned one)"),
        (
            ("truncation@eval.truncation=none",),
            "(eval.base_truncation for the base model, eval.truncation for the tuned one)",
        ),
        ((), ""),
    ],
)
def test_a_table_says_which_settings_decode_base_and_tuned_model_differently(
    make_run: Callable[..., Run],
    capsys: pytest.CaptureFixture[str],
    settings: tuple[str, ...],
    named: str,
) -> None:
    run = make_run(*SMALL, *settings)
    finish_checkpoint(run)
    for model in (BASE, TUNED):
        finish_answers(run, model, solved=1)
    evaluate(run)
    printed = " ".join(capsys.readouterr().out.split())
    assert ("decoded differently" in printed) == bool(named)
    assert named in printed
    assert ("eval.controls=[base_same_decoding]" in printed) == bool(named)


def test_answers_lost_to_their_form_are_counted_and_pass_under_the_lenient_rule(
    make_run: Callable[..., Run],
) -> None:
    official = make_run(*SMALL, "stages=[evaluate]")
    finish_answers(official, "base", solved=2, write=lambda code: f"```python\n{code}\n")
    lenient = make_run(*SMALL, "stages=[evaluate]", "eval.extraction=lenient", name="lenient")
    models = {}
    for run in (official, lenient):
        evaluate(run)
        one = read_json(run.folder / "scores.json")["benchmarks"]["humaneval"]
        models[one["extraction"]] = one["models"]["base"]
    strict, read = models[RULES[Extraction.official]], models[RULES[Extraction.lenient]]
    assert (strict["pass@1"]["value"], read["pass@1"]["value"]) == (0, 0.5)
    assert strict["lost_to_form"] == {"usage block": 0, "unclosed fence": 0.5, "no fence": 0}
    assert read["lost_to_form"] is None


def test_what_is_graded_is_not_graded_again(make_run: Callable[..., Run]) -> None:
    run = make_run(*SMALL, "stages=[evaluate]")
    finish_answers(run, "base", solved=2)
    evaluate(run)
    manifest = evidence.verdicts(run, "base", "humaneval").folder / "manifest.json"
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
    assert scores["sandbox"] == "none"
    assert list(scores["benchmarks"]["humaneval"]["models"]) == ["base"]
    assert scores["benchmarks"]["humaneval"]["comparisons"] == {}


def test_a_run_that_trains_needs_its_checkpoint(make_run: Callable[..., Run]) -> None:
    run = make_run(*SMALL)
    with pytest.raises(ArtifactError, match=r"no finished checkpoint: run ssd train"):
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
        benchmark_requests(run, "humaneval", ALL, tokenizer)


def test_the_stage_generates_grades_and_scores_both_models(make_run: Callable[..., Run]) -> None:
    decoding = ("eval.max_new_tokens=12", "eval.num_samples=1", "eval.k=[1]")
    run = make_run("sampler=transformers", "eval=humaneval_mbpp", "eval.limit=2", *decoding)
    finish_checkpoint(run)
    evaluate(run)
    for role in ("base", "tuned"):
        generations = evidence.generations(run, role, "mbpp")
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


SHORT = ("sampler=transformers", "eval.max_new_tokens=8")
CHOICE = ("eval.limit=24", "eval.num_samples=1", "eval.k=[1]", "eval.temps=[0.4,0.8]")


def test_held_out_problems_choose_and_only_the_others_are_reported(
    make_run: Callable[..., Run], capsys: pytest.CaptureFixture[str]
) -> None:
    controls = "eval.controls=[base_swept,base_same_decoding,t1]"
    run = make_run(*SMALL, *CHOICE, controls, "eval.base_temp=0.2")
    for one in lineage.trainings(run).values():
        finish_checkpoint(one)
    # The tuned models are best at 0.8, the base model at 0.4, on the problems that choose.
    best = {TUNED: 0.8, UNIT: 0.8, BASE: 0.4}
    jobs = [job for model in protocol.models(run) for job in choice_jobs(run, model)]
    assert {(job.benchmark, job.part) for job in jobs} == {("humaneval", VALIDATION)}
    assert len(jobs) == 3 + 2 + 2  # the base model's own decoding competes too
    for job in jobs:
        finish_job(run, job, solved=3 if job.how.temp == best[job.model] else 1)
    for model, solved in ((BASE, 2), (UNIT, 5), (TUNED, 8)):
        for temp in (0.2, 0.4, 0.8):
            how = dataclasses.replace(protocol.candidates(run, TUNED)[0], temp=temp)
            finish_job(run, Job(model, "humaneval", TEST, how), solved + (temp == 0.8))
    evaluate(run)

    scores = read_json(run.folder / "scores.json")
    selection, one = scores["selection"], scores["benchmarks"]["humaneval"]
    chosen_on, total = selection["problems"]["humaneval"], one["num_total"]
    assert (selection["mode"], total) == ("heldout", 24)
    assert len(chosen_on) + one["num_problems"] == total
    reported = {row.problem_id for row in read_verdicts(verdicts_file(run, one, "tuned"))}
    assert reported.isdisjoint(chosen_on)
    arms = one["models"]
    assert list(arms) == ["base", "base_swept", "base_same_decoding", "t1", "tuned"]
    assert [arms[name]["temp"] for name in arms] == [0.2, 0.4, 0.8, 0.8, 0.8]
    gains = [round(part["pass@1"]["value"] * len(reported)) for part in arms.values()]
    assert gains == [2, 2, 3, 6, 9]
    assert set(one["comparisons"]) == set(arms) - {"tuned"}
    assert [row["chosen"] for row in selection["sweeps"]["base"]] == [False, True, False]
    printed = capsys.readouterr().out
    assert "base_same_decoding" in printed and "CHOSEN ON THE TEST" not in printed


def verdicts_file(run: Run, benchmark: dict[str, Any], arm: str) -> Path:
    fingerprint = benchmark["models"][arm]["verdicts"]
    return run.store / "verdicts" / fingerprint / "verdicts.parquet"


def test_choosing_on_the_reported_problems_is_stamped(
    make_run: Callable[..., Run], capsys: pytest.CaptureFixture[str]
) -> None:
    run = make_run(*SMALL, *CHOICE, "eval.selection=test", "eval.limit=4")
    finish_checkpoint(run)
    for job in [*choice_jobs(run, TUNED), *list_jobs(run, BASE)]:
        finish_job(run, job, solved=2 if job.how.temp == 0.8 else 1)
    evaluate(run)
    one = read_json(run.folder / "scores.json")["benchmarks"]["humaneval"]
    assert (one["split"], one["num_problems"]) == ("all", 4)
    assert one["models"]["tuned"]["temp"] == 0.8
    assert "CHOSEN ON THE TEST PROBLEMS" in capsys.readouterr().out


def test_another_benchmark_can_choose_and_a_regression_benchmark_does_not(
    make_run: Callable[..., Run],
) -> None:
    run = make_run(
        "eval=humaneval", "eval.temps=[0.4,0.8]", "eval.validation=mbpp_validation",
        "eval.regression=[mbpp]",
    )  # fmt: skip
    finish_checkpoint(run)
    assert protocol.chosen_on(run) == [("mbpp_validation", ALL)]
    assert protocol.reported_on(run) == [("humaneval", ALL), ("mbpp", ALL)]
    asked = {job.benchmark for job in list_jobs(run, TUNED)}
    assert asked == {"mbpp_validation"}  # what is reported is not known yet
    with pytest.raises(ArtifactError, match=r"does not hold this configuration's choice: run"):
        evidence.chosen_settings(run)


def starts_by_job(run: Run, *, model: str) -> Counter[tuple[int | None, str]]:
    """How often an engine was started for answers of a training step to a part."""
    return Counter(
        (job.how.checkpoint_step, job.part)
        for job in list_jobs(run, model)
        if job.generations(run).manifest()["engine_start_seconds"] > 0
    )


@pytest.mark.slow
def test_one_engine_answers_what_chooses_and_then_what_is_reported(
    make_run: Callable[..., Run],
) -> None:
    run = make_run(*SMALL, *CHOICE, *SHORT, "eval.limit=12", "eval.controls=[base_same_decoding]")
    finish_checkpoint(run)
    evaluate(run)
    assert starts_by_job(run, model=BASE) == {(None, TEST): 1}
    assert starts_by_job(run, model=TUNED) == {(None, VALIDATION): 1}


@pytest.mark.slow
def test_a_step_that_is_chosen_starts_again_after_other_steps(make_run: Callable[..., Run]) -> None:
    steps = ("eval.checkpoint_steps=[2,4]", "train.max_steps=4", "eval.limit=12")
    run = make_run(*SMALL, *CHOICE, *SHORT, *steps)
    finish_checkpoint(run)
    shutil.copytree(run.weights.path, lineage.model_folder(run, TUNED, 2))
    evaluate(run)
    # No answer is right, so the first candidate is chosen, and its engine has ended by then.
    expected = {(2, VALIDATION): 1, (None, VALIDATION): 1, (2, TEST): 1}
    assert starts_by_job(run, model=TUNED) == expected


def test_a_split_that_holds_out_nothing_names_what_to_raise(make_run: Callable[..., Run]) -> None:
    settings = make_run(*SMALL, "eval.limit=1", "eval.temps=[0.4,0.8]").config.eval
    with pytest.raises(DataError, match=r"holds out none|leaves none to report"):
        for part in (VALIDATION, TEST):
            load_part(settings, "humaneval", part)


def test_the_held_out_problems_are_the_same_in_every_subset(make_run: Callable[..., Run]) -> None:
    def held_out(limit: str) -> set[str]:
        settings = make_run("eval=humaneval", f"eval.limit={limit}").config.eval
        tasks = load_part(settings, "humaneval", VALIDATION).tasks
        return {task.problem.problem_id for task in tasks}

    whole = held_out("null")
    assert held_out("40") < whole
    assert 0.15 < len(whole) / 164 < 0.35


def test_a_grading_that_was_killed_goes_on_with_what_was_graded(
    make_run: Callable[..., Run],
) -> None:
    run = make_run(*SMALL, "stages=[evaluate]")
    finish_answers(run, "base", solved=2)
    evaluate(run)
    verdicts = evidence.verdicts(run, "base", "humaneval")
    rows = read_verdicts(verdicts.folder / "verdicts.parquet")
    # As a kill would have left it: the first verdicts in a part, here with one that was changed.
    shutil.rmtree(verdicts.folder)
    changed = dataclasses.replace(rows[0], detail="graded before the kill")
    write_verdicts(verdicts.folder / "parts" / "1.parquet", [changed, *rows[1:3]])
    evaluate(run)
    assert read_verdicts(verdicts.folder / "verdicts.parquet")[0] == changed
    assert len(read_verdicts(verdicts.folder / "verdicts.parquet")) == len(rows)
    assert not (verdicts.folder / "parts").exists()


def test_values_are_asked_judged_and_reported_beside_programs(
    make_run: Callable[..., Run], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own = tmp_path / "own.jsonl"
    faulty = {"difficulty": "hard", "errata": "has two answers"}
    rows = [
        {"version": 1, "id": str(n), "question": f"{n}?", "answer": str(n), **(faulty if n else {})}
        for n in range(2)
    ]
    own.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    settings = ("eval.regression=[values]", f"eval.files.values={own}", "stages=[evaluate]")
    run = make_run(*SMALL, *settings)
    finish_answers(run, "base", solved=2)
    how = protocol.candidates(run, "base")[0]
    texts = {("0", 0): r"<think>\boxed{7}</think>\boxed{0}", ("0", 1): "It is 0.",
             ("1", 0): r"\boxed{0}", ("1", 1): "I cannot."}  # fmt: skip
    answered = Job("base", "values", ALL, how).generations(run)
    with answered.writing() as folder:
        samples = [make_sample(name, text, index) for (name, index), text in texts.items()]
        write_samples(folder / "shards" / "00000.parquet", samples)
        answered.finish(started=time.time(), counts={})
    evaluate(run)

    prompt = benchmark_requests(run, "values", ALL, load_tokenizer(run.weights.path))[0]
    asked = load_tokenizer(run.weights.path).decode(prompt.prompt_token_ids)
    assert r"\boxed{}" in asked and "Python" not in asked
    scores = read_json(run.folder / "scores.json")
    assert scores["sandbox"] in ("bwrap", "namespaces")
    values = scores["benchmarks"]["values"]
    assert (values["grading"], values["extraction"]) == ("number", BOX_OR_NUMBER)
    base = values["models"]["base"]
    assert (base["pass@1"]["value"], base["fence_share"], base["lost_to_form"]) == (0.5, 0.5, None)
    assert base["statuses"] == {"passed": 2, "failed": 1, "no_value": 1}
    assert base["distinct_programs"] == 1.0
    assert set(base["groups"]) == {"hard", "without errata"}
    printed = capsys.readouterr().out
    assert "number grading, last box or number" in printed
    assert "boxed" in printed and "fenced" in printed and "code ran" in printed


def test_the_strict_rule_counts_values_without_a_box(make_run: Callable[..., Run]) -> None:
    own = '{"version": 1, "id": "0", "question": "?", "answer": "3"}'
    settings = (
        "eval=values", "eval.num_samples=2", "eval.k=[1]", "stages=[evaluate]",
        "eval.extraction=boxed", "eval.sandbox=bwrap",
    )  # fmt: skip
    run = make_run(*settings)
    path = run.folder / "own.jsonl"
    path.write_text(own)
    run = make_run(*settings, f"eval.files.values={path}")
    answered = Job("base", "values", ALL, protocol.candidates(run, "base")[0]).generations(run)
    with answered.writing() as folder:
        samples = [make_sample("0", r"\boxed{3}", 0), make_sample("0", "It is 3.", 1)]
        write_samples(folder / "shards" / "00000.parquet", samples)
        answered.finish(started=time.time(), counts={})
    evaluate(run)
    scores = read_json(run.folder / "scores.json")
    base = scores["benchmarks"]["values"]["models"]["base"]
    assert (base["pass@1"]["value"], base["lost_to_form"]["no box"]) == (0.5, 0.5)
    assert (scores["sandbox"], scores["benchmarks"]["values"]["extraction"]) == ("", BOX)


def test_what_is_asked_of_values_is_no_part_of_the_fingerprints_of_programs(
    make_run: Callable[..., Run],
) -> None:
    plain = make_run("eval=humaneval", "stages=[evaluate]")
    change = "prompt_format@eval.value_prompt_format=raw"
    other = make_run("eval=humaneval", "stages=[evaluate]", change)
    assert other.config.eval.value_prompt_format != plain.config.eval.value_prompt_format
    for kind in (evidence.generations, evidence.verdicts):
        assert kind(plain, "base", "humaneval") == kind(other, "base", "humaneval")
