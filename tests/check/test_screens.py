"""The table of architectures in docs/models.md: the lines of the check that differ by architecture.

`python tests/check/test_screens.py` prints the table anew.
"""

import re
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest
import yaml

sys.path.insert(0, str(Path(__file__).parents[1]))  # as a script
from runs import ROOT, compose_config
from transformers import CONFIG_MAPPING
from transformers.models.auto.modeling_auto import (
    MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
    MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES,
)

from ssd.artifacts.files import read_json, write_json
from ssd.check import engine, items
from ssd.check.subject import Subject
from ssd.models.random_init import RANDOM_MODELS, random_fields
from ssd.plan.architecture import KNOWN

PRESETS = sorted((ROOT / "conf" / "model").glob("*.yaml"))
DOCS = (ROOT / "docs" / "models.md").read_text(encoding="utf-8")
ROWS = [
    [cell.strip() for cell in line.strip("|").split("|")]
    for line in re.findall(r"^\| \w+For\w+ \|.*\|$", DOCS, re.MULTILINE)
]

QUICK = ("MistralForCausalLM", "Qwen3_5ForConditionalGeneration")
"""Those with windows and without `layer_types`, and with linear attention."""


def class_of(fields: dict[str, Any]) -> str:
    """The class that a published `config.json` of this kind names."""
    kind = fields["model_type"]
    seeing = MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES.get(kind)
    return str(seeing or MODEL_FOR_CAUSAL_LM_MAPPING_NAMES[kind])


def text_kind(fields: dict[str, Any]) -> str:
    return str(fields.get("text_config", fields)["model_type"])


def architectures() -> dict[str, tuple[dict[str, Any], list[str], list[str]]]:
    """By class: the fields of one configuration, the presets and the random models that have it."""
    published = read_json(KNOWN)
    found: dict[str, tuple[dict[str, Any], list[str], list[str]]] = {}
    for preset in PRESETS:
        fields = published[yaml.safe_load(preset.read_text(encoding="utf-8"))["name"]]
        if "tiny" not in preset.stem:
            found.setdefault(class_of(fields), (fields, [], []))[1].append(preset.stem)
    for name in RANDOM_MODELS:
        fields = random_fields(name)
        # Qwen3.5 is published as a model that also sees, and random models read text alone.
        kin = (entry for entry in found.values() if text_kind(entry[0]) == text_kind(fields))
        own = found.get(class_of(fields)) or next(kin, None)
        (own or found.setdefault(class_of(fields), (fields, [], [])))[2].append(name)
    return found


def row(name: str, folder: Path) -> list[str]:
    """The cells of one class, from a folder that holds nothing but `config.json`."""
    fields, presets, random_models = architectures()[name]
    config = CONFIG_MAPPING[fields["model_type"]].from_dict({**fields, "architectures": [name]})
    write_json(folder / "config.json", config.to_dict())
    subject = Subject(folder=folder, config=compose_config("model=tiny", "hardware=cpu"))
    kinds, _, rows = items.layers(subject).text.partition("; ")
    return [
        name,
        ", ".join(f"`{preset}`" for preset in presets),
        ", ".join(f"`{model}`" for model in random_models),
        kinds,
        "yes" if "share rows apart" in rows else "no",
        re.sub(r"^vLLM's code for \w+ (needs \w+), .*", r"\1", engine.fault_of(subject) or "yes"),
    ]


def test_every_architecture_of_presets_and_random_models_has_a_row() -> None:
    assert {cells[0]: (cells[1], cells[2]) for cells in ROWS} == {
        name: tuple(", ".join(f"`{model}`" for model in models) for models in (presets, small))
        for name, (_, presets, small) in architectures().items()
    }


@pytest.mark.parametrize(
    "cells",
    [
        pytest.param(cells, marks=[] if cells[0] in QUICK else pytest.mark.slow, id=cells[0])
        for cells in ROWS
    ],
)
def test_a_row_is_what_the_check_says(cells: list[str], tmp_path: Path) -> None:
    assert row(cells[0], tmp_path) == cells


if __name__ == "__main__":
    for name in sorted(architectures()):
        with tempfile.TemporaryDirectory() as scratch:
            print(f"| {' | '.join(row(name, Path(scratch)))} |", flush=True)
