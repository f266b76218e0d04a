"""`ssd COMMAND`: its help, its examples, what a shell completes, and a wheel in an empty folder."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from runs import ROOT

from ssd import __version__
from ssd.__main__ import COMMANDS, start
from ssd.runtime.command_line import COMPLETING


def ssd(*words: str, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "ssd", *words],
        capture_output=True, text=True, check=False, env={**os.environ, **variables},
    )  # fmt: skip


def examples(text: str) -> list[str]:
    """The lines below `examples:`, or all of a help that Hydra writes."""
    lines = text.partition("examples:")[2].splitlines()
    return [line.partition("  # ")[0].strip() for line in lines if line.strip()]


@pytest.mark.parametrize("name", [name for name in COMMANDS if name != "run"])
def test_the_help_of_each_command_ends_with_two_examples_of_it(
    name: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["ssd"])
    with pytest.raises(SystemExit) as ending:
        start(name, ["--help"])
    assert ending.value.code == 0
    text = capsys.readouterr().out
    assert text.startswith(f"usage: ssd {name} ")
    shown = examples(text)
    assert len(shown) >= 2
    assert all(shlex.split(line)[:2] == ["ssd", name] for line in shown)


def test_without_a_command_all_are_listed() -> None:
    text = ssd().stdout
    assert re.findall(r"^  (\w+)  +\S.*$", text, re.MULTILINE)[-len(COMMANDS) :]
    for name, command in COMMANDS.items():
        assert re.search(rf"^  {name} +{re.escape(command.says)}$", text, re.MULTILINE)
    assert ssd("--version").stdout == f"ssd {__version__}\n"


def test_a_command_that_is_none_is_refused() -> None:
    answer = ssd("tain")
    assert answer.returncode == 2
    assert "invalid choice: 'tain'" in answer.stderr


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("ssd sa", ["sample "]),
        ("ssd compare --a", ["--arm "]),
        ("ssd evaluate power --diff", ["--difference "]),
        ("ssd grade --bench", ["--benchmark "]),
        ("ssd analyse toy --train", ["--train-top-p "]),
        ("ssd run model=tin", ["tiny", "tiny_moe"]),
        ("ssd run sampler.tem", ["sampler.temp="]),
    ],
)
def test_a_shell_completes(line: str, offered: list[str], tmp_path: Path) -> None:
    """As argcomplete's shell function asks: by its variables."""
    answer = tmp_path / "answer"
    done = ssd(
        COMP_LINE=line,
        COMP_POINT=str(len(line)),
        _ARGCOMPLETE_STDOUT_FILENAME=str(answer),
        _ARGCOMPLETE_IFS="\n",
        _ARGCOMPLETE_COMP_WORDBREAKS=" =",
        **{COMPLETING: "1"},
    )
    assert answer.is_file(), done.stderr
    assert answer.read_text().split("\n") == offered


def test_the_completion_of_a_shell_is_printed() -> None:
    assert "complete " in ssd("--completion", "bash").stdout


def test_runs_of_both_forms_are_composed_alike(tmp_path: Path) -> None:
    overrides = ["model=tiny", "sampler.temp=1.4", "--cfg", "job"]
    by_name = ssd("run", *overrides)
    by_file = subprocess.run(
        [sys.executable, str(ROOT / "train.py"), *overrides],
        capture_output=True, text=True, check=False, cwd=tmp_path,
    )  # fmt: skip
    assert by_name.returncode == by_file.returncode == 0
    assert "temp: 1.4" in by_name.stdout
    assert by_name.stdout == by_file.stdout


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_a_wheel_runs_in_an_empty_folder(tmp_path: Path) -> None:
    """Built from a clone, installed beside nothing of it, it draws, trains, scores and reports."""
    clone, wheels, installed = (tmp_path / name for name in ("clone", "wheels", "installed"))
    pip = [sys.executable, "-m", "pip"]
    quiet = ["--quiet", "--no-deps"]
    subprocess.run(["git", "clone", "--quiet", str(ROOT), str(clone)], check=True)
    subprocess.run(
        [*pip, "wheel", *quiet, "--no-build-isolation", "-w", str(wheels), str(clone)], check=True
    )
    (wheel,) = wheels.glob("ssd-*.whl")
    subprocess.run([*pip, "install", *quiet, "--target", str(installed), str(wheel)], check=True)
    empty = tmp_path / "empty"
    empty.mkdir()
    done = subprocess.run(
        [str(installed / "bin" / "ssd"), "run", "model=tiny", "logger=none"],
        capture_output=True, text=True, check=False, cwd=empty,
        env={**os.environ, "PYTHONPATH": str(installed), "SSD_CACHE": str(tmp_path / "cache")},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert (empty / "outputs/main/model-tiny/report.html").is_file()
    assert '"ssd",\n' in (empty / "outputs/main/model-tiny/run.json").read_text()
