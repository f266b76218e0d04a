"""Run folders: names that a shell takes, one per list of overrides, and the old ones found."""

import re
import shlex
import urllib.parse
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st
from runs import ROOT

from ssd.config.run_name import between, old_run_slug, run_name, run_slug, shared_parts

SETTINGS = ("seed", "sampler.temp", "eval.k", "model", "model.path", "truncation@eval.truncation")
TRICKY = st.sampled_from("-_=,.[]'\"~@/ +{}19afä")
"""What names are made of, and what they must do without."""
LISTS = st.lists(
    st.builds(
        "{}{}={}".format, st.sampled_from(["", "+", "~"]), st.sampled_from(SETTINGS),
        st.text(TRICKY, max_size=6),
    ),
    max_size=3,
    unique_by=lambda text: text.lstrip("+~").partition("=")[0],
)  # fmt: skip


def said(overrides: list[str]) -> list[str]:
    """A list without its order and the spaces beside brackets and commas, outside of quotes."""
    return sorted(re.sub(r"\s*([\[\]{},:=])\s*", r"\1", text.strip()) for text in overrides)


def test_a_run_is_named_by_what_changes_its_numbers() -> None:
    assert run_slug([]) == "defaults"
    overrides = [
        "sampler.temp=1.6",
        "model=tiny",
        "study=x",
        "hardware=cpu",
        "seed=-1",
        "sampler.url=x",
    ]
    assert run_slug(overrides) == "model-tiny__sampler.temp-1.6__seed--1"
    assert re.fullmatch(r"eval\.k-1_2-[0-9a-f]{8}", run_slug(["eval.k=[1,2]"]))
    assert re.fullmatch(
        r"data\.path-a_b-[0-9a-f]{8}__seed-1", run_slug(["seed=1", "data.path=/a/b"])
    )


def test_spelling_and_order_make_no_new_run_and_the_last_of_two_values_does() -> None:
    assert run_slug(["eval.k=[1, 2]", "seed=1"]) == run_slug(["seed=1", "eval.k=[1,2]"])
    assert run_slug(["data.path='a, b'"]) != run_slug(["data.path='a,b'"])
    assert run_slug(["seed=1", "seed=2"]) != run_slug(["seed=2", "seed=1"])
    assert run_slug(["model={a:1}", "model.a=2"]) != run_slug(["model.a=2", "model={a:1}"])


def test_a_long_name_is_cut_with_what_sweeps_vary_at_its_head() -> None:
    long = [f"data.limit{i}={i}" for i in range(50)]
    names = {run_slug(long), run_slug([*long, "seed=1"]), run_slug([*long, "sampler.temp=1.2"])}
    assert [len(name) for name in names] == [180] * 3
    assert run_slug([*long, "sampler.temp=1.2"]).startswith("sampler.temp-1.2__data")


@given(LISTS, LISTS)
def test_two_lists_of_overrides_share_a_name_only_where_they_say_the_same(
    first: list[str], second: list[str]
) -> None:
    if said(first) != said(second):
        assert run_slug(first) != run_slug(second)


@given(LISTS)
def test_a_name_goes_into_shells_and_urls_as_it_is(overrides: list[str]) -> None:
    name = run_slug(overrides)
    assert re.fullmatch(r"[A-Za-z][A-Za-z0-9._-]*", name)
    assert shlex.quote(name) == name == urllib.parse.quote(name)


def test_a_part_that_looks_like_a_hash_cannot_take_anothers_folder() -> None:
    name = run_slug(["eval.k=[1,2]"])
    setting, _, value = name.partition("-")
    assert run_slug([f"{setting}={value}"]) != name
    joined = run_slug(["model=a", "seed=1"])
    assert run_slug([joined.replace("-", "=", 1)]) != joined


def test_a_run_goes_on_in_the_folder_that_has_its_old_name(tmp_path: Path) -> None:
    overrides = ["sampler.temp=1.6", "eval.k=[1,2]", "data.path=/a/b"]
    old = "data.path=_a_b,eval.k=1,2,sampler.temp=1.6"
    assert old_run_slug(overrides) == old
    assert run_name(overrides, str(tmp_path)) == run_slug(overrides)
    (tmp_path / old).mkdir()
    assert run_name(overrides, str(tmp_path)) == old
    (tmp_path / old).rename(tmp_path / run_slug(overrides))
    assert run_name(overrides, str(tmp_path)) == run_slug(overrides)


def test_what_all_runs_share_is_found_in_both_spellings() -> None:
    names = ["model=tiny,sampler.temp=1.6", "model-tiny__sampler.temp-1.2"]
    assert [between(name) for name in names] == [",", "__"]
    assert shared_parts(names) == {"model-tiny", "model=tiny"}
    assert shared_parts([]) == set()


def test_the_names_in_the_docs_are_those_that_are_given() -> None:
    docs = (ROOT / "docs" / "sweeps.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `([^`]*=[^`]*)` \| `([\w.-]+)`", docs, re.MULTILINE)
    assert len(rows) == 2
    for overrides, name in rows:
        assert run_slug(overrides.split()) == name
