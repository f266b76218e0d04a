"""The table of models in docs/presets.md: what the plan accepts on a card, and nothing shorter.

`python tests/plan/test_presets.py` prints the table anew.
"""

import re
import sys
import tempfile
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))  # as a script
from runs import ROOT, compose_config

from ssd.plan.plan import make_plan

CARDS = {24: 22.4, 48: 44.9, 80: 79.1}
"""GB as sold, and GiB that nvidia-smi reports: L4, L40S, H100."""
CHANGES = (
    "nothing",
    "optimizer=adamw8bit",
    "adapter=lora",
    "adapter=lora analyse.dtype=bfloat16",
    "adapter=qlora analyse.dtype=bfloat16",
)
"""In the order to try: full fine-tuning first."""
NONE = "no"
DOCS = (ROOT / "docs" / "presets.md").read_text(encoding="utf-8")
ROW = r"^\| `(\w+)` \| (\S+) \| ([^|]*) \| ([^|]*) \| ([^|]*) \|$"
ROWS = re.findall(ROW, DOCS, re.MULTILINE)
CELLS = [
    (model, card, cell.strip().strip("`"))
    for model, _, *cells in ROWS
    for card, cell in zip(CARDS, cells, strict=True)
]


def accepts(model: str, card: int, change: str, folder: Path) -> bool:
    """Whether one card of this size takes a model with its own recipe and this change."""
    changes = [] if change == "nothing" else change.split()
    one = ("hardware.accelerator=gpu", "hardware.devices=1", f"output_dir={folder}")
    memory = f"plan.device_memory_gib={CARDS[card]}"
    plan = make_plan(compose_config(f"model={model}", *one, memory, *changes), folder)
    return not plan.misfits and plan.tight is None and plan.engine <= plan.engine_capacity


def verdict(model: str, card: int, folder: Path) -> str:
    """The first change with which a card takes a model."""
    return next((change for change in CHANGES if accepts(model, card, change, folder)), NONE)


def test_every_preset_stands_in_the_table() -> None:
    presets = {path.stem for path in (ROOT / "conf" / "model").glob("*.yaml")}
    assert {model for model, *_ in ROWS} == {name for name in presets if "tiny" not in name}
    for model, name, *_ in ROWS:
        assert name == compose_config(f"model={model}").model.name


def test_a_shared_recipe_says_that_none_is_published_and_whose_it_is() -> None:
    for name in ("instruct", "thinking", "llama32"):
        recipe = compose_config(f"recipe={name}").recipe
        assert recipe.startswith("none published for this model: arXiv 2604.01193")


@pytest.mark.parametrize(
    ("model", "card", "cell"),
    [cell if cell[1] == 24 and "0_" in cell[0] else pytest.param(*cell, marks=pytest.mark.slow)
     for cell in CELLS],
)  # fmt: skip
def test_a_cell_is_the_first_change_with_which_the_card_takes_the_model(
    model: str, card: int, cell: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert verdict(model, card, tmp_path) == cell


if __name__ == "__main__":
    for name in sorted(path.stem for path in (ROOT / "conf" / "model").glob("*.yaml")):
        if "tiny" in name:
            continue
        with tempfile.TemporaryDirectory() as scratch:
            cells = [verdict(name, size, Path(scratch)) for size in CARDS]
        texts = [cell if cell in ("nothing", NONE) else f"`{cell}`" for cell in cells]
        hub_id = compose_config(f"model={name}").model.name
        print(f"| `{name}` | {hub_id} | {' | '.join(texts)} |", flush=True)
