"""The table of cards in docs/your_gpu.md: the plan accepts every line on a card of that size."""

import re
from pathlib import Path

import pytest
from runs import ROOT, compose_config

from ssd.plan.plan import make_plan

README, PAGE = (
    (ROOT / name).read_text(encoding="utf-8") for name in ("README.md", "docs/your_gpu.md")
)
LINES = re.findall(r"^\| ((?:\d x )?\d+ GB) \| [^|]* \| `([^`]*)` \|$", PAGE, re.MULTILINE)
GIB = {"16": 15.6, "24": 22.4, "40": 39.4, "80": 79.1, "141": 140.0}
"""What nvidia-smi reports of the smallest common card sold with so many GB: RTX 4060 Ti, L4, A100,
H100, H200."""
GPU = "hardware.accelerator=gpu"


def test_the_table_has_every_size_of_card() -> None:
    sizes = [size.removesuffix(" GB") for size, _ in LINES]
    assert set(sizes) == {*GIB, "8 x 80", "8 x 141"}
    on_80 = [line for size, line in LINES if size == "80 GB"]
    assert any("model=qwen3_4b" in line and "adapter" not in line for line in on_80)


def test_the_first_command_for_gpus_is_a_line_of_the_table() -> None:
    for text in (README, PAGE):
        (command,) = re.findall(r"gpu-3.11.txt\n[^`]*python train.py ([^\n]*)\n", text)
        assert ("24 GB", command) in LINES


@pytest.mark.parametrize(("size", "line"), LINES)
def test_a_line_fits_its_card(
    size: str, line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    gib = GIB[size.split()[-2]]
    one = [] if "hardware=" in line else [GPU, "hardware.devices=1"]
    config = compose_config(
        *line.split(), *one, f"plan.device_memory_gib={gib}", f"output_dir={tmp_path}"
    )
    assert config.hardware.devices == (8 if " x " in size else 1)
    plan = make_plan(config, tmp_path)
    assert not plan.misfits
    assert plan.tight is None
    assert plan.engine <= plan.engine_capacity
