"""Every command that a page prints can be pasted: what a shell reads itself stands in quotes."""

import re
from pathlib import Path

import pytest
from runs import ROOT

PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("*/*.md"), *ROOT.glob("results/*/*.md")])
PROGRAM = (
    r"(?:\$ )?((?:[\w./-]*/)?(?:python3?|python3\.\d+|pip|uv|ssd|bash|wandb|hf|srun|sbatch) .*)"
)
READ_BY_SHELLS = re.compile(r"[\[\]{}()*?<>|;!`~]|&(?!&|$)(?<!&&)")
"""bash expands braces and splits at brackets' spaces; zsh refuses a pattern that fits no file."""


def commands(text: str) -> list[str]:
    """The command lines of fenced blocks and of code inside sentences, without comments."""
    blocks = re.findall(r"^ *```(?:bash)?\n(.*?)^ *```", text, re.DOTALL | re.MULTILINE)
    lines = [line.strip() for block in blocks for line in block.splitlines()]
    inline = re.findall(r"(?<!`)`([^`]+)`(?!`)", re.sub(r"```.*?```", "", text, flags=re.DOTALL))
    matches = [re.fullmatch(PROGRAM, " ".join(line.split("  #")[0].split("\n"))) for line in
               (*lines, *inline)]  # fmt: skip
    return [match[1].strip() for match in matches if match]


def unquoted(command: str) -> str:
    """A command without what stands in quotes."""
    return re.sub(r"'[^']*'|\"[^\"$`]*\"", "", command)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_printed_command_can_be_pasted(page: Path) -> None:
    refused = [
        command
        for command in commands(page.read_text(encoding="utf-8"))
        if READ_BY_SHELLS.search(unquoted(command).removesuffix(" &"))
    ]
    assert refused == []


def test_the_pages_print_commands() -> None:
    printed = [command for page in PAGES for command in commands(page.read_text(encoding="utf-8"))]
    assert len(printed) > 60


@pytest.mark.parametrize(
    "command",
    [
        "python train.py stages=[plan]",
        "python train.py eval.truncations=[{top_k:20,top_p:0.8}]",
        "python train.py model.path=~/x",
        "ssd publish RUN|STUDY FOLDER",
    ],
)
def test_what_a_shell_would_read_itself_is_noticed(command: str) -> None:
    assert READ_BY_SHELLS.search(unquoted(command))
    assert commands(f"```bash\n{command}   # comment\n```\nand `{command}`") == [command, command]
