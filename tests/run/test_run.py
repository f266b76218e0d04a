"""Which artifact depends on which setting."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from ssd.arms import BASE, TUNED, UNIT
from ssd.config.settings import TruncationConfig
from ssd.errors import ArtifactError, DataError
from ssd.records.selection import Choice, Selection, write_choice
from ssd.run import Run, evidence, lineage, load_run, protocol, save_run

EVERY = ("corpus", "checkpoint", "base", "tuned", "base verdicts", "tuned verdicts")
STEPS = {BASE: None, TUNED: None}


def fingerprints(run: Run) -> dict[str, str]:
    return {
        "corpus": lineage.corpus(run).fingerprint,
        "checkpoint": lineage.checkpoint(run).fingerprint,
        "base": evidence.generations(run, "base", "mbpp").fingerprint,
        "tuned": evidence.generations(run, "tuned", "mbpp").fingerprint,
        "base verdicts": evidence.verdicts(run, "base", "mbpp").fingerprint,
        "tuned verdicts": evidence.verdicts(run, "tuned", "mbpp").fingerprint,
    }


@pytest.mark.parametrize(
    ("override", "changed"),
    [
        ("sampler.temp=1.1", ["corpus", "checkpoint", "tuned", "tuned verdicts"]),
        ("truncation=none", ["corpus", "checkpoint", "tuned", "tuned verdicts"]),
        ("sampler.filters=[]", ["corpus", "checkpoint", "tuned", "tuned verdicts"]),
        ("prompt_format=raw", ["corpus", "checkpoint", "tuned", "tuned verdicts"]),
        ("data.limit=3", ["corpus", "checkpoint", "tuned", "tuned verdicts"]),
        ("optimizer.lr=1e-4", ["checkpoint", "tuned", "tuned verdicts"]),
        ("objective=cross_entropy_per_sample", ["checkpoint", "tuned", "tuned verdicts"]),
        ("objective=soft", ["checkpoint", "tuned", "tuned verdicts"]),
        ("objective=tail", ["checkpoint", "tuned", "tuned verdicts"]),
        ("adapter=lora", ["checkpoint", "tuned", "tuned verdicts"]),
        ("train.max_steps=4", ["checkpoint", "tuned", "tuned verdicts"]),
        ("train.precision=fp32", ["checkpoint", "tuned", "tuned verdicts"]),
        ("eval.temp=0.3", ["tuned", "tuned verdicts"]),
        ("eval.base_temp=0.3", ["base", "base verdicts"]),
        ("truncation@eval.base_truncation=none", ["base", "base verdicts"]),
        (
            "prompt_format@eval.prompt_format=lcb",
            ["base", "tuned", "base verdicts", "tuned verdicts"],
        ),
        ("eval.num_samples=4", ["base", "tuned", "base verdicts", "tuned verdicts"]),
        ("eval.timeout=2", ["base verdicts", "tuned verdicts"]),
        ("eval.grading=apple_release", ["base verdicts", "tuned verdicts"]),
        ("eval.grading=tolerant", ["base verdicts", "tuned verdicts"]),
        ("eval.extraction=lenient", ["base verdicts", "tuned verdicts"]),
        ("eval.temps=[0.3,0.5]", ["tuned", "tuned verdicts"]),
        ("seed=1", list(EVERY)),
        ("model.kind=thinking", list(EVERY)),
        ("model.template_args={enable_thinking: false}", list(EVERY)),
        ("model.system_role=user", list(EVERY)),
        (
            "eval.template_args={enable_thinking: false}",
            ["base", "tuned", "base verdicts", "tuned verdicts"],
        ),
        ("model.template_args={enable_thinking: null}", []),
        ("eval.template_args=null", []),
        (
            'model.reasoning={open: "[THINK]", close: "[/THINK]"}',
            ["base verdicts", "tuned verdicts"],
        ),
        # Earlier versions knew these.
        ('model.reasoning={open: "<think>", close: "</think>"}', []),
        ('model.reasoning={open: "<|channel|>", close: "<|channel|>final<|message|>"}', []),
        ("sampler=transformers", list(EVERY)),
        # None of these changes what is computed.
        ("train.router_aux_coef=0.01", ["checkpoint", "tuned", "tuned verdicts"]),
        ("eval.checkpoint_step=1", ["tuned", "tuned verdicts"]),
        ("hardware.micro_batch_tokens=64", []),
        ("hardware.activation_checkpointing=full", []),
        ("hardware.recompute_layers=1", []),
        ("train.packing=false", []),
        ("train.keep_checkpoints=3", []),
        ("plan.tokens_per_sample=300", []),
        ("hardware.max_num_seqs=8", []),
        ("sampler.shard_size=1", []),
        ("train.checkpoint_every=1", []),
        ("eval.k=[1]", []),
        ("eval.controls=[t1]", []),
        ("eval.selection=test", []),
        ("eval.regression=[humaneval_plus]", []),
        ("eval.resample=both", []),
        ("eval.workers=1", []),
        ("study=other", []),
    ],
)
def test_a_setting_changes_exactly_what_depends_on_it(
    make_run: Callable[..., Run], override: str, changed: list[str]
) -> None:
    before, after = fingerprints(make_run()), fingerprints(make_run(override))
    assert [name for name in EVERY if before[name] != after[name]] == changed


@pytest.mark.parametrize(
    "setting",
    [
        "truncation@objective.truncation=none", "objective.temp=1", "objective.soft_weight=0.5",
        "objective.special_tokens=false",
    ],
)  # fmt: skip
def test_every_setting_of_a_soft_target_makes_another_checkpoint_of_the_same_corpus(
    make_run: Callable[..., Run], setting: str
) -> None:
    whole, part = make_run("objective=soft"), make_run("objective=soft", setting)
    assert lineage.corpus(whole).fingerprint == lineage.corpus(part).fingerprint
    assert lineage.checkpoint(whole).fingerprint != lineage.checkpoint(part).fingerprint


def test_checkpoints_from_before_there_were_objectives_keep_their_inputs(
    make_run: Callable[..., Run],
) -> None:
    assert lineage.checkpoint(make_run()).inputs["objective"] == {"norm": "token"}
    by_sample = make_run("objective=cross_entropy_per_sample")
    assert lineage.checkpoint(by_sample).inputs["objective"] == {"norm": "sample"}


def test_a_soft_run_shares_its_control_with_the_plain_one(make_run: Callable[..., Run]) -> None:
    settings = ("eval.controls=[t1]", "objective=soft", "objective.temp=1.2")
    soft, plain = make_run(*settings), make_run(settings[0])
    mine, usual = (lineage.checkpoint(lineage.control(run)) for run in (soft, plain))
    assert mine.fingerprint == usual.fingerprint


@pytest.mark.parametrize(
    ("override", "changes"),
    [
        ("analyse.num_samples=3", True),
        ("analyse.max_tokens=9", True),
        ("analyse.dtype=bfloat16", True),
        ("truncation@eval.truncation=none", True),
        ("sampler.temp=1.1", True),
        ("optimizer.lr=1e-4", True),
        ("analyse.plausible=0.2", False),
        ("analyse.lock_top1=0.9", False),
        ("analyse.live_points=3", False),
        ("analyse.live_samples=1", False),
        ("analyse.live_tokens=8", False),
        ("report.num_programs=1", False),
        ("eval.temp=0.3", False),
    ],
)
def test_what_an_analysis_depends_on(
    make_run: Callable[..., Run], override: str, changes: bool
) -> None:
    before, after = make_run(), make_run(override)
    assert (
        evidence.analysis(before, STEPS).fingerprint != evidence.analysis(after, STEPS).fingerprint
    ) is changes
    if override.startswith(("analyse", "report")):
        assert fingerprints(before) == fingerprints(after)


def test_the_steps_that_are_reported_are_those_of_the_models_that_are_there(
    make_run: Callable[..., Run],
) -> None:
    run = make_run("eval.controls=[t1]", "eval.checkpoint_step=2")
    assert evidence.reported_steps(run) == {BASE: None}
    for trained in lineage.trainings(run).values():
        lineage.checkpoint(trained).folder.mkdir(parents=True)
        lineage.checkpoint(trained).finish(started=0, counts={})
    assert evidence.reported_steps(run) == {BASE: None, UNIT: 2, TUNED: 2}
    swept = make_run("eval.checkpoint_steps=[2,4]", "train.max_steps=4")
    assert evidence.reported_steps(swept) == {BASE: None}
    lineage.checkpoint(swept).folder.mkdir(parents=True)
    lineage.checkpoint(swept).finish(started=0, counts={})
    with pytest.raises(ArtifactError, match="does not hold this configuration's choice"):
        evidence.reported_steps(swept)
    assert evidence.finished_analysis(swept) is None
    write_choice(
        swept.folder,
        Choice(
            inputs=evidence.score_inputs(swept),
            chosen={model: protocol.candidates(swept, model)[0] for model in (BASE, TUNED)},
            selection=Selection(mode="heldout", validation="hash", problems={}, sweeps={}),
        ),
    )
    assert evidence.reported_steps(swept) == {BASE: None, TUNED: 2}


def test_the_loss_is_that_of_the_corpus_that_is_trained_on(make_run: Callable[..., Run]) -> None:
    given = make_run("sampler.temp=1.9", "truncation=none")
    lineage.corpus(given).folder.mkdir(parents=True)
    lineage.corpus(given).finish(started=0, counts={})
    run = make_run(f"train.corpus={lineage.corpus(given).folder}", "sampler.temp=0.8")
    inputs = evidence.analysis(run, STEPS).inputs
    assert (inputs["temp"], inputs["truncation"]) == (1.9, {"top_k": None, "top_p": 1.0})


def test_a_saved_run_loads_as_it_was(make_run: Callable[..., Run]) -> None:
    run = make_run("truncation=none", "sampler.filters=[empty]", "eval.k=[1,2]")
    assert load_run(run.folder) == run


def test_the_paper_models_settings_survive_saving(make_run: Callable[..., Run]) -> None:
    run = make_run("recipe=gpt_oss_20b", "model.reasoning_effort=high", "data=mbpp")
    assert load_run(run.folder) == run


def test_what_means_the_same_to_a_template_has_one_fingerprint(
    make_run: Callable[..., Run],
) -> None:
    short = make_run("model.reasoning_effort=low")
    inputs = lineage.corpus(short).inputs
    assert inputs["reasoning_effort"] == "low" and "template_args" not in inputs
    for same in (
        ["model.template_args={reasoning_effort: high}", "model.reasoning_effort=low"],
        ["model.template_args.reasoning_effort=low", "eval.template_args={reasoning_effort: low}"],
    ):
        assert fingerprints(make_run(*same)) == fingerprints(short)


def test_an_unset_template_leaves_the_inputs_of_earlier_artifacts(
    make_run: Callable[..., Run],
) -> None:
    run = make_run()
    for artifact in (lineage.corpus(run), evidence.generations(run, BASE, "mbpp")):
        assert artifact.inputs["reasoning_effort"] is None
        assert not {"template_args", "system_role"} & artifact.inputs.keys()


def test_template_arguments_survive_saving(make_run: Callable[..., Run]) -> None:
    run = make_run(
        "model.template_args={enable_thinking: false, date: 2026-01-31, x: [1, {y: 2}]}",
        "eval.template_args={enable_thinking: null}",
    )
    assert load_run(run.folder) == run
    assert run.config.model.template_args["date"] == "2026-01-31"


def test_candidates_are_the_grid_and_the_base_models_own_decoding_comes_first(
    make_run: Callable[..., Run],
) -> None:
    one = make_run()
    assert (
        not protocol.selects(one)
        and len(protocol.candidates(one, BASE)) == len(protocol.candidates(one, TUNED)) == 1
    )
    grid = ("eval.temps=[0.4,0.8]", "eval.truncations=[{top_k:20},{top_p:0.9}]")
    swept = make_run(*grid, "eval.checkpoint_steps=[2,4]", "train.max_steps=4")
    assert len(protocol.candidates(swept, TUNED)) == 8
    assert {how.checkpoint_step for how in protocol.candidates(swept, TUNED)} == {2, None}
    assert len(protocol.candidates(swept, BASE)) == 1
    wide = make_run(*grid, "eval.controls=[base_swept]", "eval.base_temp=0.1")
    assert [how.temp for how in protocol.candidates(wide, BASE)] == [0.1, 0.4, 0.8, 0.4, 0.8]


def test_the_control_at_temperature_one_differs_in_its_samples_alone(
    make_run: Callable[..., Run],
) -> None:
    run = make_run("eval.controls=[t1]")
    control = lineage.trainings(run)[UNIT]
    assert (control.config.sampler.temp, control.config.truncation) == (1.0, TruncationConfig())
    alone = make_run("sampler.temp=1.0", "truncation=none")
    assert lineage.checkpoint(control).fingerprint == lineage.checkpoint(alone).fingerprint
    assert (
        evidence.generations(run, UNIT, "mbpp").fingerprint
        == evidence.generations(alone, TUNED, "mbpp").fingerprint
    )
    save_run(control, ["python", "train.py"])
    assert load_run(control.folder) == control


def test_held_out_problems_may_be_answered_less_often(make_run: Callable[..., Run]) -> None:
    settings = ("eval.temps=[0.3,0.5]", "eval.benchmarks=[mbpp]", "eval.validation=mbpp_validation")
    run = make_run(*settings, "eval.num_samples=2")
    fewer = make_run(*settings, "eval.num_samples=3", "eval.num_validation_samples=2")
    for model in (BASE, TUNED):
        held_out, reported = (
            (evidence.generations(run, model, name), evidence.generations(fewer, model, name))
            for name in ("mbpp_validation", "mbpp")
        )
        assert held_out[0].fingerprint == held_out[1].fingerprint
        assert reported[0].fingerprint != reported[1].fingerprint


def test_completions_of_another_model_or_prompt_are_named_in_all_parts(
    make_run: Callable[..., Run], capsys: pytest.CaptureFixture[str]
) -> None:
    run = make_run()
    own = lineage.corpus(run)
    lineage.require_tokenizer(run, own, "train.corpus")
    assert capsys.readouterr().out == ""
    lineage.require_tokenizer(run, lineage.corpus(make_run("prompt_format=lcb")), "train.corpus")
    lineage.require_tokenizer(
        run, replace(own, inputs={**own.inputs, "weights": "hub:org/other@1"}), "train.corpus"
    )
    prompt, model = capsys.readouterr().out.splitlines()
    for line, part in ((prompt, "template lcb-"), (model, "model hub:org/other@1, tokenizer")):
        assert line.startswith(f"note: train.corpus={own.folder.parent}")
        assert part in line
        assert (
            f"this run has model {run.weights.identity}, tokenizer {run.weights.tokenizer}" in line
        )
    other = replace(own, inputs={**own.inputs, "tokenizer": "another"})
    with pytest.raises(DataError, match="tokenizer another, template paper-") as refused:
        lineage.require_tokenizer(run, other, "train.corpus")
    assert run.weights.tokenizer in str(refused.value)
    evidence_of = evidence.generations(run, "base", "mbpp")
    lineage.require_tokenizer(run, evidence_of, "analyse.probe")
    assert capsys.readouterr().out == ""
