"""selection.json: what is written is what is read, and a choice is found by its model."""

import json
from pathlib import Path

import pytest
from runs import ROOT
from score_records import selection

from ssd.artifacts.files import read_json, write_json
from ssd.artifacts.names import SELECTION
from ssd.errors import ArtifactError
from ssd.method.decoding import Setting
from ssd.records.selection import Choice, read_choice, write_choice

CHOICE = Choice(
    inputs={"k": [1]},
    chosen={"base": Setting(0.7, 20, 0.8), "tuned": Setting(0.9, None, 1.0, 20)},
    selection=selection(),
)


def test_what_is_written_is_read(tmp_path: Path) -> None:
    assert read_choice(tmp_path) is None
    write_choice(tmp_path, CHOICE)
    assert read_choice(tmp_path) == CHOICE
    stored = read_json(tmp_path / SELECTION)
    assert list(stored) == [
        "version", "inputs", "mode", "validation", "problems", "chosen", "sweeps", "digest",
    ]  # fmt: skip
    assert list(stored["sweeps"]["tuned"][0]) == [
        "temp", "top_k", "top_p", "checkpoint_step", "num_problems", "pass@1", "chosen",
    ]  # fmt: skip


@pytest.mark.parametrize("results", sorted((ROOT / "results").rglob(SELECTION)), ids=str)
def test_published_choices_are_rewritten_as_they_are(results: Path, tmp_path: Path) -> None:
    choice = read_choice(results.parent)
    assert choice is not None
    write_choice(tmp_path, choice)
    written, published = read_json(tmp_path / SELECTION), read_json(results)
    assert written | {"digest": None} == published | {"digest": None}


def test_what_was_chosen_is_found_by_model() -> None:
    chosen = CHOICE.selection.chosen("tuned")
    assert chosen is not None and chosen.setting.temp == 0.9
    assert CHOICE.selection.chosen("t1") is None


@pytest.mark.parametrize(
    ("changed", "message"), [({"version": 9}, "version 9"), ({"chosen": {"base": {}}}, "damaged")]
)
def test_a_damaged_choice_is_refused(
    changed: dict[str, object], message: str, tmp_path: Path
) -> None:
    write_choice(tmp_path, CHOICE)
    stored = json.loads((tmp_path / SELECTION).read_text()) | changed
    del stored["digest"]
    write_json(tmp_path / SELECTION, stored)
    with pytest.raises(ArtifactError, match=message):
        read_choice(tmp_path)
