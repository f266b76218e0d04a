"""The HTML report as a browser and a screen reader meet it."""

import base64
import hashlib
import re
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path

import pytest
from run_folders import UNDECIDED, benchmark_scores, make_run, write_scores

from ssd.report.render.html import html
from ssd.report.render.markdown import markdown
from ssd.report.run.facts import collect
from ssd.report.run.sections import document

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


def page_of(folder: Path, name: str = "first") -> tuple[Page, str]:
    run = make_run(folder, name)
    write_scores(run, humaneval=benchmark_scores(run, UNDECIDED))
    text = html(document(collect(run.folder)))
    return Page(text), text


@pytest.fixture(scope="module")
def parsed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Page, str]:
    return page_of(tmp_path_factory.mktemp("page"))


def test_page_is_well_formed_and_asks_no_server(
    parsed: tuple[Page, str],
) -> None:
    page, text = parsed
    for _, attributes in page.elements:
        for name in ("src", "srcset", "action", "data", "poster"):
            assert (attributes.get(name) or "data:").startswith("data:")
    assert all((attributes["href"] or "").startswith("#") for attributes in page.all("a"))
    assert not re.search(r"url\(|@import", text)
    assert page.all("link", "iframe", "object", "base") == []


def test_the_only_script_is_the_one_that_the_content_policy_names(
    parsed: tuple[Page, str],
) -> None:
    page, text = parsed
    assert page.all("script") == [{}]
    script = text[text.index("<script>") + len("<script>") : text.rindex("</script>")]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    (policy,) = (
        meta["content"] or ""
        for meta in page.all("meta")
        if meta.get("http-equiv") == "Content-Security-Policy"
    )
    rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
    assert rules["default-src"] == "'none'"
    assert rules["script-src"] == f"'sha256-{digest}'"
    assert not any(name.startswith("on") for _, attributes in page.elements for name in attributes)


def test_page_follows_the_colour_scheme_and_the_width_of_the_device(
    parsed: tuple[Page, str],
) -> None:
    page, text = parsed
    assert "@media (prefers-color-scheme: dark)" in text
    assert {"name": "viewport", "content": "width=device-width, initial-scale=1"} in page.all(
        "meta"
    )


def test_tables_have_captions_and_scopes_and_images_say_their_numbers(
    parsed: tuple[Page, str],
) -> None:
    page, _ = parsed
    assert len(page.all("caption")) == len(page.all("table")) > 5
    assert {attributes.get("scope") for attributes in page.all("th")} == {"col", "row"}
    texts = [attributes["alt"] or "" for attributes in page.all("img")]
    assert len(texts) == 4
    assert "humaneval pass@1 tuned 41.7% [20.0, 65.0]" in texts[0]
    assert "humaneval tuned 41.7% at k 1, 50.0% at k 2" in texts[1]
    assert "humaneval base 120.0 tokens, 75.0% with a fence, 12.5% cut off" in texts[2]
    assert "loss from 0.9 to 0.75" in texts[3]


def test_contents_name_every_section_in_order(
    parsed: tuple[Page, str],
) -> None:
    page, text = parsed
    targets = [link["href"] for link in page.all("a")]
    sections = [f"#{heading['id']}" for heading in page.all("h2")]
    assert targets == ["#section-1", *sections]
    assert text.index('class="skip"') < text.index("<h1>")


def test_headings_go_down_one_level_at_a_time(
    parsed: tuple[Page, str],
) -> None:
    page, _ = parsed
    levels = [int(tag[1]) for tag, _ in page.elements if re.fullmatch(r"h\d", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after - before <= 1 for before, after in pairwise(levels))


def test_hostile_names_stay_text(tmp_path: Path) -> None:
    page, text = page_of(tmp_path, HOSTILE)
    assert page.all("script") == [{}]
    assert all((attributes["href"] or "").startswith("#") for attributes in page.all("a"))
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in text


def test_hostile_names_stay_text_in_markdown(tmp_path: Path) -> None:
    run = make_run(tmp_path, HOSTILE)
    title = markdown(document(collect(run.folder))).splitlines()[0]
    assert title.startswith("# &lt;script>alert(1)&lt;/script>\\|\\`x\\`\\*y\\* &amp;")
    assert "[a]\\(javascript" in title
