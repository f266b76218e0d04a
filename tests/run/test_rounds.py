"""Rounds: which artifacts each depends on, what is refused, and when a run stops."""

from collections.abc import Callable
from itertools import pairwise

import pytest
from runs import compose_config

from ssd.arms import BASE, TUNED, UNIT
from ssd.config.settings import RunConfig
from ssd.errors import ConfigError
from ssd.run import Run, evidence, lineage, load_run, save_run
from ssd.run.rounds import all_rounds, begun_from, drawn_by, fall, of_round

THREE = ("rounds=3", "eval.controls=[t1]")


def places(run: Run) -> list[str]:
    """Fingerprints of everything that a run of one round has."""
    both = lineage.trainings(run).values()
    made = [locate(each) for each in both for locate in (lineage.corpus, lineage.checkpoint)]
    answers = [
        evidence.generations(run, model, "mbpp") for model in (BASE, *lineage.trainings(run))
    ]
    return [artifact.fingerprint for artifact in (*made, *answers)]


def test_the_first_of_several_rounds_is_the_run_of_one(make_run: Callable[..., Run]) -> None:
    alone = places(make_run("eval.controls=[t1]"))
    for settings in ([], ["rounds.train_from=previous"], ["rounds.accumulate=true"]):
        assert places(make_run(*THREE, *settings)) == alone
    corpus = lineage.corpus(make_run())
    assert corpus.inputs["weights"] == make_run().weights.identity


def test_more_rounds_leave_the_earlier_ones_as_they_are(make_run: Callable[..., Run]) -> None:
    two, three = (all_rounds(make_run(f"rounds={n}", THREE[1])) for n in (2, 3))
    assert [places(run) for run in two] == [places(run) for run in three][:2]
    everything = {name for run in three for name in places(run)}
    assert len(everything) == 3 * 6 + 1  # the base model answers once


@pytest.mark.parametrize("start", ["base", "previous"])
def test_each_round_samples_from_what_the_one_before_trained(
    make_run: Callable[..., Run], start: str
) -> None:
    run = make_run(*THREE, f"rounds.train_from={start}")
    for model in (TUNED, UNIT):
        chain = [lineage.trainings(round_)[model] for round_ in all_rounds(run)]
        for earlier, later in pairwise(chain):
            trained = lineage.checkpoint(earlier)
            assert drawn_by(later) == (earlier, TUNED)
            assert lineage.corpus(later).inputs["weights"] == trained.fingerprint
            begins = lineage.checkpoint(later).inputs["weights"]
            assert begins == (run.weights.identity if start == "base" else trained.fingerprint)
            folder = lineage.start_folder(later)
            assert (folder == trained.folder / "model") is (start == "previous")
            teacher = lineage.teacher_folder(later)
            assert teacher == (trained.folder / "model" if start == "base" else None)
    assert evidence.generations(of_round(run, 3), BASE, "mbpp").inputs["model"] == (
        run.weights.identity
    )


def test_the_control_goes_through_rounds_of_its_own(make_run: Callable[..., Run]) -> None:
    second = of_round(make_run(*THREE), 2)
    unit = lineage.control(second)
    assert unit.config.sampler.temp == 1 and unit.config.truncation.top_k is None
    assert drawn_by(unit) == (lineage.control(of_round(second, 1)), TUNED)
    assert unit.folder == of_round(second, 1).folder / "t1" / "rounds" / "2"


def test_accumulated_samples_are_those_of_all_rounds_so_far(make_run: Callable[..., Run]) -> None:
    alone, joined = (make_run("rounds=3", f"rounds.accumulate={on}") for on in (False, True))
    corpora = [lineage.corpora(round_) for round_ in all_rounds(joined)]
    assert [len(each) for each in corpora] == [1, 2, 3]
    assert corpora[2][:2] == corpora[1]
    assert lineage.corpora(of_round(alone, 3)) == [lineage.corpus(of_round(alone, 3))]
    same = [
        lineage.checkpoint(of_round(alone, n)).fingerprint
        == lineage.checkpoint(of_round(joined, n)).fingerprint
        for n in (1, 2, 3)
    ]
    assert same == [True, False, False]


def test_a_round_is_a_run_folder_of_its_own(make_run: Callable[..., Run]) -> None:
    run = make_run(*THREE)
    for round_ in all_rounds(run):
        for training in lineage.trainings(round_).values():
            save_run(training, ["python", "train.py"])
            again = load_run(training.folder)
            assert again == training
            assert places(again) == places(training)
    second = load_run(run.folder / "rounds" / "2")
    assert second.config.title == "test, round 2"
    assert all_rounds(second) == [second]


def test_an_adapter_alone_draws_the_next_corpus_on_the_base_model(
    make_run: Callable[..., Run],
) -> None:
    second = of_round(make_run("rounds=2", "adapter=lora", "adapter.merge=false"), 2)
    source = drawn_by(second)
    assert lineage.model_folder(*source) == lineage.model_folder(second, BASE)
    trained = lineage.checkpoint(source[0])
    assert lineage.adapter_folder(*source) == trained.folder / "adapter"
    assert lineage.corpus(second).inputs["weights"] == f"{trained.fingerprint}+adapter"
    assert begun_from(second) == (second, BASE)


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        (["train.corpus=outputs/store/corpus/1"], "train.corpus=outputs/store/corpus/1"),
        (["stages=[sample]"], "add train to stages"),
        (["adapter=lora", "adapter.merge=false", "rounds.train_from=previous"],
         "adapter.merge=true"),
        (["adapter=lora", "adapter.merge=false", "objective=soft"], "adapter.merge=true"),
        (["objective=soft", "rounds.accumulate=true"], "rounds.accumulate=true"),
        (["objective=tail", "rounds.accumulate=true"], "objective=tail"),
        (["rounds.max_drop=0.05"], "eval.temps=["),
        (["rounds.max_drop=0.05", "eval.temps=[0.5,1.0]", "eval.selection=test"], "heldout"),
        (["rounds.max_drop=0.05", "eval.temps=[0.5,1.0]", "stages=[sample,train]"],
         "add evaluate to stages"),
        (["rounds=1", "rounds.max_drop=0.05"], "rounds=3"),
    ],
)  # fmt: skip
def test_what_rounds_cannot_do_is_refused_by_name(settings: list[str], named: str) -> None:
    with pytest.raises(ConfigError) as refusal:
        compose_config("model=tiny", "rounds=3", *settings)
    assert named in str(refusal.value)
    assert len(str(refusal.value).splitlines()) == 1


@pytest.mark.parametrize(
    "settings",
    [
        ["objective=soft"],
        ["objective=soft", "adapter=lora"],
        ["objective=soft", "adapter=qlora", "rounds.train_from=previous"],
        ["adapter=lora", "adapter.merge=false"],
        ["rounds.max_drop=0.05", "eval.temps=[0.5,1.0]"],
        ["rounds.max_drop=0.05", "eval.temps=[0.5,1.0]", "stages=[report]"],
    ],
)
def test_what_rounds_can_do_is_not(settings: list[str]) -> None:
    assert isinstance(compose_config("model=tiny", "rounds=3", *settings), RunConfig)


def test_a_run_stops_where_a_round_falls_too_far_below_the_best() -> None:
    assert fall([0.4]) is None
    rise = fall([0.4, 0.5])
    assert rise is not None and not rise.exceeds(0)
    assert "10.0 points above round 1" in rise.sentence(0)
    low = fall([0.4, 0.5, 0.45])
    assert low is not None
    assert (low.number, low.best_number) == (3, 2)
    assert low.exceeds(0.04) and not low.exceeds(0.05)  # 0.5 - 0.45 is above 0.05 in floats
    assert "45.0%" in low.sentence(0.04) and "5.0 points below round 2" in low.sentence(0.04)
    assert "rounds.max_drop=0.04" in low.sentence(0.04)
