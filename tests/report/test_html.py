"""The HTML report as a browser and a screen reader meet it."""

import re
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path

from run_folders import UNDECIDED, benchmark_scores, make_run, write_scores

from ssd.report import report

VOID = {"meta", "img", "br", "link", "input", "hr", "wbr"}
HOSTILE = '<script>alert(1)</script>|`x`*y* & "quoted" [a](javascript:alert(1))'


class Page(HTMLParser):
    """Checks that tags balance, and collects elements with their attributes."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def all(self, *tags: str) -> list[dict[str, str | None]]:
        return [attributes for tag, attributes in self.elements if tag in tags]


def page_of(tmp_path: Path, name: str = "first") -> tuple[Page, str]:
    run = make_run(tmp_path, name)
    write_scores(run, humaneval=benchmark_scores(run, UNDECIDED))
    report(run.folder)
    text = (run.folder / "report.html").read_text(encoding="utf-8")
    return Page(text), text


def test_page_is_well_formed_and_asks_no_server(tmp_path: Path) -> None:
    page, text = page_of(tmp_path)
    for _, attributes in page.elements:
        for name in ("src", "href", "srcset", "action", "data", "poster"):
            assert (attributes.get(name) or "data:").startswith("data:")
    assert not re.search(r"url\(|@import", text)
    assert page.all("script", "link", "iframe") == []
    assert "default-src 'none'" in text


def test_page_follows_the_colour_scheme_and_the_width_of_the_device(tmp_path: Path) -> None:
    page, text = page_of(tmp_path)
    assert "@media (prefers-color-scheme: dark)" in text
    assert {"name": "viewport", "content": "width=device-width, initial-scale=1"} in page.all(
        "meta"
    )


def test_tables_have_captions_and_scopes_and_images_say_their_numbers(tmp_path: Path) -> None:
    page, _ = page_of(tmp_path)
    assert len(page.all("caption")) == len(page.all("table")) > 5
    assert {attributes.get("scope") for attributes in page.all("th")} == {"col", "row"}
    texts = [attributes["alt"] or "" for attributes in page.all("img")]
    assert len(texts) == 2
    assert "humaneval pass@1 tuned 41.7% [20.0, 65.0]" in texts[0]
    assert "loss from 0.9 to 0.75" in texts[1]


def test_headings_go_down_one_level_at_a_time(tmp_path: Path) -> None:
    page, _ = page_of(tmp_path)
    levels = [int(tag[1]) for tag, _ in page.elements if re.fullmatch(r"h\d", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after - before <= 1 for before, after in pairwise(levels))


def test_hostile_names_stay_text(tmp_path: Path) -> None:
    page, text = page_of(tmp_path, HOSTILE)
    assert page.all("script") == []
    assert page.all("a") == []
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in text


def test_hostile_names_stay_text_in_markdown(tmp_path: Path) -> None:
    run = make_run(tmp_path, HOSTILE)
    report(run.folder)
    title = (run.folder / "report.md").read_text(encoding="utf-8").splitlines()[0]
    assert title.startswith("# &lt;script>alert(1)&lt;/script>\\|\\`x\\`\\*y\\* &amp;")
    assert "[a]\\(javascript" in title
