"""The documentation as a site: it builds without a warning, which a broken link would be."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from runs import ROOT

from ssd.config.reference import SECTION, reference

pytest.importorskip("mkdocs", reason="pip install -e '.[docs]'")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)],
        capture_output=True, text=True, check=False, cwd=ROOT,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return folder


def test_every_page_of_docs_and_the_root_is_on_the_site(site: Path) -> None:
    pages = {path.stem for path in (ROOT / "docs").glob("*.md")}
    pages |= {"changelog", "contributing", "configuration"}
    assert {path.parent.name for path in site.glob("*/index.html")} >= pages
    front = (site / "index.html").read_text(encoding="utf-8")
    assert "simple self-distillation" in front
    assert (site / "results/default_run/figures/programs.png").is_file()


def test_the_configuration_page_has_every_setting_with_its_sentence(site: Path) -> None:
    text = (site / "configuration" / "index.html").read_text(encoding="utf-8")
    settings = [setting for setting in reference().values() if setting.kind != SECTION]
    assert len(settings) > 100
    names = [setting.name for setting in settings]
    assert [name for name in names if f"<code>{name}</code>" not in text] == []
