"""Every command of the README and of docs/commands.md runs; those of the stages, in
`drive/test_pipeline.py`."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from runs import ROOT, compose_config

README, PAGE = (
    (ROOT / name).read_text(encoding="utf-8") for name in ("README.md", "docs/commands.md")
)
BLOCKS = re.findall(r"```bash\n(.*?)```", README + PAGE, re.DOTALL)
LINES = [
    line.split("  #")[0].strip() for block in BLOCKS for line in block.splitlines() if line.strip()
]
TRAIN = list(dict.fromkeys(line for line in LINES if line.startswith("python train.py")))
STAGES = [line for line in LINES if line.startswith("ssd ")]
INSTALL = [block for block in BLOCKS if block.startswith("python3.11 -m venv")]


def test_the_readme_has_no_other_commands() -> None:
    others = [line for block in INSTALL for line in block.splitlines()]
    assert set(LINES) == {*TRAIN, *STAGES, *others}
    assert len(INSTALL) == 3


@pytest.mark.parametrize("line", TRAIN)
def test_every_train_command_composes(line: str) -> None:
    arguments = shlex.split(line.replace("FOLDER", "folder"))[2:]
    if {"--help", "--cfg"}.isdisjoint(arguments):
        overrides = [argument for argument in arguments if argument != "-m"]
        if "-m" in arguments:
            overrides = [re.sub(r",.*", "", override) for override in overrides]
        assert compose_config(*overrides)
    else:
        done = subprocess.run(
            [sys.executable, "train.py", *arguments],
            capture_output=True, text=True, check=False, cwd=ROOT,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert done.stdout.strip()


def test_the_option_table_names_every_option() -> None:
    for path in (ROOT / "conf").glob("*/*.yaml"):
        if path.parent.name != "recipe":
            assert f"`{path.stem}`" in PAGE, f"{path.parent.name}={path.stem}"


@pytest.mark.slow
@pytest.mark.timeout(3000)
def test_the_first_command_works_from_a_fresh_clone(tmp_path: Path) -> None:
    clone = tmp_path / "clone"
    subprocess.run(["git", "clone", "--quiet", str(ROOT), str(clone)], check=True)
    environment = {**os.environ, "SSD_CACHE": str(tmp_path / "cache")}
    subprocess.run(["bash", "-ec", INSTALL[0]], check=True, cwd=clone, env=environment)
    (report,) = clone.glob("outputs/main/*/report.html")
    assert report.stat().st_size > 10_000
