"""Mistakes on the command line are answered by a line that says what to write instead."""

import re
import subprocess
from pathlib import Path

import pytest
from hydra.errors import HydraException
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from runs import compose_config

from ssd.artifacts.fingerprints import plain
from ssd.config.composition import overrides_first
from ssd.config.mistakes import explain
from ssd.config.reference import reference


def answer(*overrides: str) -> str:
    """What train.py says to overrides that Hydra refuses."""
    with pytest.raises((HydraException, OmegaConfBaseException)) as refused:
        compose_config(*overrides)
    return str(explain(refused.value))


def typed_in_bash(argument: str) -> str:
    """What a program gets of an argument as it is written in a shell."""
    printed = subprocess.run(
        ["bash", "-c", f"printf %s {argument}"], capture_output=True, text=True, check=True
    )
    return printed.stdout


@pytest.mark.parametrize(
    "path",
    ["a/sampler.temp=1.6/x", "/data (old)/x", "a/größe/模型", "it's/#1", 'say "x"; y', "a&b|c*!"],
)
def test_a_text_that_needs_quotes_is_answered_by_a_line_to_paste(path: str) -> None:
    message = answer(f"model.path={path}")
    assert f"model.path={path}" in message
    line = message.partition(": write ")[2]
    assert compose_config(typed_in_bash(line)).model.path == path


def test_a_home_folder_in_quotes_is_still_the_home_folder() -> None:
    line = answer("output_dir=~/x (1)").partition(": write ")[2]
    assert compose_config(typed_in_bash(line)).output_dir == str(Path("~/x (1)").expanduser())


PATHS = (
    "model.path", "data.path", "train.corpus", "analyse.probe", "output_dir", "eval.files.lcb",
    "eval.files.humaneval_plus", "eval.files.mbpp_plus", "eval.files.jsonl", "eval.files.gsm8k",
    "eval.files.math500", "eval.files.aime", "eval.files.values",
)  # fmt: skip


def test_every_path_is_expanded() -> None:
    config = compose_config("data=file", *(f'{name}="~/{name}"' for name in PATHS))
    values = OmegaConf.create(plain(config))
    for name in PATHS:
        assert OmegaConf.select(values, name) == str(Path("~").expanduser() / name)


def test_a_text_with_a_comma_is_told_from_a_sweep_and_a_list() -> None:
    message = answer("data=file", "data.path=a,b.jsonl")
    assert "-m" in message
    assert "'data.path=[a,b.jsonl]'" in message
    line = message.partition("one text with a comma ")[2]
    assert compose_config("data=file", typed_in_bash(line)).data.path == "a,b.jsonl"


@pytest.mark.parametrize(
    ("override", "remedy"),
    [
        ("eval.k=[1,", "'eval.k=[A,B]'"),
        ("tiny", "SETTING=VALUE"),
        ("two words=3", "two words"),
    ],
)
def test_what_quotes_do_not_mend_says_what_it_lacks(override: str, remedy: str) -> None:
    message = answer(override)
    assert override in message
    assert remedy in message
    assert "hydra.cc" not in message


@pytest.mark.parametrize(
    ("override", "near", "listed"),
    [
        ("data.zzz=1", None, "data has dedup, hub_config, hub_name"),
        ("sampler.tmep=1", "'sampler.temp'", "Sampling temperature"),
        ("eval.truncation.topk=3", "'eval.truncation.top_k'", "Number of most likely tokens"),
        (
            "truncation.temp=3",
            "'sampler.temp' or 'objective.temp' or 'eval.temp'",
            "objective.temp: For `soft`",
        ),
        ("lr=1", "'optimizer.lr'", "Peak learning rate"),
        ("foo.bar=1", None, "there are adapter, analyse"),
    ],
)
def test_an_unknown_setting_is_answered_by_a_near_one_or_those_of_its_section(
    override: str, near: str | None, listed: str
) -> None:
    message = answer(override)
    assert listed in message
    guess = re.search(r"did you mean (.*)\?", message)
    assert (guess and guess[1]) == near


def test_the_settings_of_a_section_are_listed_in_full() -> None:
    inside = [name.removeprefix("model.") for name in reference() if name.startswith("model.")]
    listed = answer("model.zzz=false").partition("model has ")[2].partition(" (")[0].split(", ")
    assert listed == sorted(name for name in inside if "." not in name)


def test_options_may_stand_between_overrides() -> None:
    typed = ["model=tiny", "-m", "seed=0,1", "--cfg", "job", "~sweep", "sampler.temp=1"]
    expected = ["model=tiny", "seed=0,1", "~sweep", "sampler.temp=1", "-m", "--cfg", "job"]
    assert overrides_first(typed) == expected
