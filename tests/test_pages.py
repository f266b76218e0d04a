"""What the pages say of the tree is true: trees, links, and files that text names."""

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from runs import ROOT

PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), ROOT / "benchmarks/README.md"])
TREES = (ROOT / "docs" / "architecture.md",)
LINK = re.compile(r"\]\(([^)#\s]+)(?:#[^)\s]*)?\)")
NAMED = re.compile(r"`((?:src/ssd|tests|conf)/[\w./-]+)`")
EXAMPLE = re.compile("arithmetic|NAME")
"""What the pages on adding something call the new files."""


def tree(page: Path) -> Iterator[str]:
    """Every path that a page's tree of files names."""
    fenced = re.split(r"^```.*\n", page.read_text(encoding="utf-8"), flags=re.MULTILINE)[1::2]
    (block,) = (text for text in fenced if "\nsrc/ssd/\n" in text)
    folder = ""
    for line in block.splitlines():
        names = re.split(r" {2,}", line.strip())[0].split()
        folder = folder if line.startswith(" ") else ""
        yield from (folder + name for name in names)
        folder = folder or (names[0] if line.endswith("/") else "")


@pytest.mark.parametrize("page", TREES, ids=lambda page: page.name)
def test_a_tree_names_what_is_there_and_every_room(page: Path) -> None:
    named = set(tree(page))
    assert [name for name in named if not (ROOT / name).exists() and name != "outputs/"] == []
    tracked = subprocess.run(
        ["git", "ls-files", "src/ssd"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.split()
    entries = {Path(path).relative_to("src/ssd").parts for path in tracked}
    rooms = {
        f"src/ssd/{parts[0]}/" if len(parts) > 1 else f"src/ssd/{parts[0]}" for parts in entries
    }
    assert rooms - named == {"src/ssd/__init__.py", "src/ssd/__init__.pyi", "src/ssd/py.typed"}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_and_named_files_are_there(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    links = [target for target in LINK.findall(text) if "://" not in target]
    assert [target for target in links if not (page.parent / target).exists()] == []
    named = [name for name in NAMED.findall(text) if not EXAMPLE.search(name)]
    assert [name for name in named if not (ROOT / name).exists()] == []
