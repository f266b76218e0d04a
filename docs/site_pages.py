"""Pages of the site that other files hold: README, CHANGELOG, CONTRIBUTING, and every setting.

mkdocs calls these functions (its hooks); docs/ alone holds everything else.
"""

import os
import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

from ssd.config.reference import SECTION, Setting, inside, reference

ROOT = Path(__file__).parents[1]
PAGES = {
    "index.md": "README.md",
    "changelog.md": "CHANGELOG.md",
    "contributing.md": "CONTRIBUTING.md",
}
"""Pages, and the file at the project's root that each shows."""
SETTINGS, SETTINGS_FILE = "configuration.md", "src/ssd/config/settings.py"
LINK = re.compile(r"(!?)\[([^\]]*)\]\(([^)#\s]+)(#[^)\s]*)?\)")
PICTURES = (".png", ".svg")


def on_files(files: Files, config: Any) -> Files:
    """Add what lies elsewhere."""
    for page, source in PAGES.items():
        text = (ROOT / source).read_text(encoding="utf-8")
        files.append(File.generated(config, page, content=text))
        for shown, _, target, _ in LINK.findall(text):
            if shown and target.endswith(PICTURES):
                files.append(File.generated(config, target, abs_src_path=str(ROOT / target)))
    files.append(File.generated(config, SETTINGS, content=settings()))
    return files


def on_page_markdown(markdown: str, *, page: Any, **_: Any) -> str:
    """Links as the site has them; to a file that is no page, its name."""
    source = PAGES.get(page.file.src_uri, f"docs/{page.file.src_uri}")
    folder = Path(source).parent

    def link(match: re.Match[str]) -> str:
        shown, words, target, anchor = match.groups()
        if "://" in target or shown:
            return match[0]
        path = os.path.normpath(folder / target)
        places = {source: page for page, source in PAGES.items()} | {SETTINGS_FILE: SETTINGS}
        if path in places:
            return f"[{words}]({places[path]}{anchor or ''})"
        if path.startswith("docs/") and path.endswith(".md"):
            return f"[{words}]({path.removeprefix('docs/')}{anchor or ''})"
        return words

    return LINK.sub(link, markdown)


def settings() -> str:
    """Every setting with its sentence, type, range and default."""
    lines = [
        "# Configuration",
        "",
        "Every setting, as the schema has it. Groups and recipes set many of them: `python "
        "train.py --cfg job` prints what a run has. `ssd settings NAME` prints a part of this.",
    ]
    sections = [setting for setting in reference().values() if inside(setting.name)]
    lines += ["", *map(item, inside(""))]
    for section in sections:
        lines += ["", f"## {section.name}", "", section.sentence, ""]
        lines += map(item, inside(section.name))
    return "\n".join(lines) + "\n"


def item(setting: Setting) -> str:
    """A setting as an entry of a list; a section as its name."""
    if setting.kind == SECTION:
        return f"- [`{setting.name}`](#{setting.name.replace('.', '')}): a section"
    head, _, sentence = setting.text().partition("\n")
    name, _, facts = head.partition(": ")
    return f"- `{name}`: `{facts}`" + (f"  \n  {sentence.strip()}" if sentence else "")
