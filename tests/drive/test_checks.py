"""What an objective needs of a corpus is asked before anything is sampled."""

from collections.abc import Callable

import pytest
from corpora import write_corpus

from ssd.drive.checks import check, require_target
from ssd.errors import ConfigError
from ssd.method.decoding import Decoding
from ssd.run import Run, lineage

Make = Callable[..., Run]


def test_a_soft_target_needs_a_distribution_to_be_drawn_from(make_run: Make) -> None:
    with pytest.raises(ConfigError, match=r"objective\.temp"):
        check(make_run("objective=soft", "sampler.temp=0", "stages=[train]"))
    require_target(make_run("objective=soft", "sampler.temp=0", "objective.temp=1.2"))
    require_target(make_run("sampler.temp=0"))


def test_a_soft_target_is_no_part_of_a_power_of_whole_answers(make_run: Make) -> None:
    soft = ("experiment=power", "objective=soft")
    with pytest.raises(ConfigError, match=r"sampler\.power\.alpha.*set objective\.temp"):
        check(make_run(*soft, "stages=[sample,train]"))
    named = (*soft, "objective.temp=0.25", "truncation@objective.truncation=none")
    require_target(make_run(*named))
    assert lineage.target(make_run(*named)) == Decoding(0.25)
    assert lineage.target(make_run("experiment=power")) is None


@pytest.mark.parametrize("unknown", ["temp", "truncation"])
def test_a_soft_target_needs_to_know_how_a_corpus_was_drawn(make_run: Make, unknown: str) -> None:
    run = make_run()
    write_corpus(run, [(3, 4)])
    corpus = lineage.corpus(run)
    named = (f"train.corpus={corpus.folder}", "objective=soft")
    corpus.inputs[unknown] = None
    corpus.finish(started=0.0, counts={"num_samples": 1})
    with pytest.raises(ConfigError, match=rf"objective\.{unknown}"):
        require_target(make_run(*named))
    require_target(make_run(*named, "objective.temp=1", "truncation@objective.truncation=none"))
