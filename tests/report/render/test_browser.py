"""The HTML report in a real browser: tables sort, the code map answers, nothing is requested."""

import re
import shutil
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest
from analyses import HOSTILE, PROGRAM, finish_analysis
from run_folders import (
    BETTER,
    controlled_scores,
    finish_checkpoint,
    finish_corpus,
    interval,
    make_run,
    write_scores,
)

from ssd.records.analysis import Analysis
from ssd.report import report
from ssd.report.run.facts import collect
from ssd.run import lineage

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed"),
]
RUN = "run,</title><script>document.title='taken'</script>"
Page = "sync_api.Page"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A whole report, of a run with a hostile name and a hostile completion."""
    run = make_run(tmp_path_factory.mktemp("browser"), RUN, "eval.controls=[t1]")
    finish_corpus(lineage.control(run))
    finish_checkpoint(lineage.control(run))
    differences = {"base": interval(0.15, 0.09, 0.21, p_value=0.0001), "t1": BETTER}
    write_scores(run, humaneval=controlled_scores(run, differences))
    finish_analysis(run, num_samples=4)
    report(run.folder)
    return run.folder


@pytest.fixture(scope="module")
def analysis(folder: Path) -> Analysis:
    found = collect(folder).analysis
    assert found is not None
    return found


@pytest.fixture(scope="module")
def browser() -> Iterator["sync_api.Browser"]:
    with sync_api.sync_playwright() as playwright:
        made = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield made
        made.close()


def opened(
    browser: "sync_api.Browser", folder: Path, width: int = 1280, **settings: object
) -> Page:
    """The report in a window of its own; what the console says is in `page.said`, and every request
    beyond the file itself in `page.asked`."""
    page = browser.new_context(viewport={"width": width, "height": 900}, **settings).new_page()
    page.said, page.asked = [], []
    page.on("console", lambda message: page.said.append(message.text))
    page.on("pageerror", lambda error: page.said.append(str(error)))
    page.on("request", lambda request: page.asked.append(request.url))
    address = (folder / "report.html").as_uri()
    page.goto(address)
    page.asked = [url for url in page.asked if url != address and not url.startswith("data:")]
    return page


@pytest.fixture
def page(browser: "sync_api.Browser", folder: Path) -> Iterator[Page]:
    made = opened(browser, folder)
    yield made
    assert (made.said, made.asked) == ([], [])
    made.context.close()


def table_of(page: Page, caption: str) -> "sync_api.Locator":
    return page.locator("table", has=page.locator("caption", has_text=caption))


def column(table: "sync_api.Locator", number: int) -> list[str]:
    cells = table.locator(f"tbody tr > :nth-child({number})").all_inner_texts()
    return [" ".join(cell.split()) for cell in cells]


def program_of(page: Page, number: int = 0) -> "sync_api.Locator":
    """A completion's program, opened; by its number in the analysis."""
    box = page.locator(".program", has=page.locator("summary", has_text=f"Set/{number},"))
    if box.get_attribute("open") is None:
        box.locator("summary").click()
    return box


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_page_renders_in_both_schemes_and_says_and_asks_nothing(
    browser: "sync_api.Browser", folder: Path, scheme: str
) -> None:
    page = opened(browser, folder, color_scheme=scheme)
    assert (page.said, page.asked) == ([], [])
    backdrop = page.evaluate("getComputedStyle(document.body).backgroundColor")
    levels = [int(level) for level in re.findall(r"\d+", backdrop)]
    assert (min(levels) > 200) == (scheme == "light")
    assert page.evaluate("[...document.images].every((image) => image.naturalWidth > 500)")
    page.context.close()


def test_headings_are_read_from_answer_to_scores_to_reasons_to_making(page: Page) -> None:
    titles = page.locator("main h2").all_inner_texts()
    assert titles == [
        "Summary", "Scores", "Controls", "Choice of settings", "Why: token distributions",
        "Tokens that changed most", "Programs token by token", "Settings", "Sampling", "Training",
        "Cost", "Provenance", "Glossary",
    ]  # fmt: skip
    levels = page.evaluate("[...document.querySelectorAll('h1,h2,h3')].map((h) => +h.tagName[1])")
    assert levels[0] == 1
    assert all(after - before <= 1 for before, after in pairwise(levels))
    links = page.get_by_role("navigation", name="Contents").get_by_role("link")
    assert links.count() == len(titles)


def test_skip_link_is_the_first_stop_and_leads_past_the_contents(page: Page) -> None:
    page.keyboard.press("Tab")
    focused = page.locator(":focus")
    assert focused.inner_text() == "Skip to Summary"
    assert focused.bounding_box()["x"] >= 0
    page.keyboard.press("Enter")
    assert page.url.endswith("#section-1")


def test_a_table_sorts_by_click_down_and_back_to_its_own_order(page: Page) -> None:
    table = table_of(page, "Spread by kind of position")
    before = column(table, 3)
    numbers = [float(cell) for cell in before]
    head = table.locator("thead th").nth(2)
    assert head.get_attribute("aria-sort") == "none"
    for order, expected in (
        ("ascending", sorted(numbers)),
        ("descending", sorted(numbers, reverse=True)),
    ):
        head.get_by_role("button").click()
        assert head.get_attribute("aria-sort") == order
        assert [float(cell) for cell in column(table, 3)] == expected
    head.get_by_role("button").click()
    assert head.get_attribute("aria-sort") == "none"
    assert column(table, 3) == before


def test_a_table_sorts_by_keyboard_and_only_one_column_at_a_time(page: Page) -> None:
    table = table_of(page, "the tuned model beside every control")
    heads = table.locator("thead th")
    heads.nth(0).get_by_role("button").focus()
    page.keyboard.press("Space")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    assert heads.nth(0).get_attribute("aria-sort") == "none"
    assert heads.nth(1).get_attribute("aria-sort") == "ascending"
    assert column(table, 2)[0] == "40.0% [33.0, 47.0]"
    assert column(table, 2)[-1] == "55.0% [48.0, 62.0]"


def test_durations_sort_as_time_and_cells_without_a_value_come_last(page: Page) -> None:
    cost = table_of(page, "Wall time of the process")
    cost.locator("thead th").nth(1).get_by_role("button").click()
    assert column(cost, 2)[0] == "30 s"
    assert column(cost, 2)[-1] == "2 h 13 min"
    spread = table_of(page, "Spread by kind of position")
    for order in ("ascending", "descending"):
        spread.locator("thead th").nth(3).get_by_role("button").click()
        assert spread.locator("thead th").nth(3).get_attribute("aria-sort") == order
        assert column(spread, 4)[-4:] == ["-"] * 4


def test_a_short_table_has_no_buttons(page: Page) -> None:
    assert table_of(page, "pass@k with 95% intervals").get_by_role("button").count() == 0


def test_pointing_at_a_token_shows_what_each_model_expects(page: Page, analysis: Analysis) -> None:
    place = PROGRAM.index("for")
    program = program_of(page)
    program.locator("code > span").nth(place).hover()
    panel = page.locator(".panel")
    assert panel.locator(".head code").inner_text() == "for"
    assert panel.locator(".model .name").all_inner_texts() == ["base", "tuned", "t1"]
    row = {
        model: next(
            n for n in range(len(one.sample)) if (one.sample[n], one.index[n]) == (0, place)
        )
        for model, one in analysis.positions.items()
    }
    base, tuned = (analysis.positions[model] for model in ("base", "tuned"))
    before, after = base.entropy[row["base"]], tuned.entropy[row["tuned"]]
    head = panel.locator(".head").inner_text()
    assert f"entropy {before:.3f} to {after:.3f} nats ({after - before:+.3f})" in head
    shown = panel.locator(".model").nth(1)
    assert shown.locator("li").count() == 5
    top = analysis.tokens[tuned.top_ids[row["tuned"], 0]].replace(" ", "·")
    assert shown.locator("li code").first.inner_text() == top
    share = 100 * tuned.top_probs[row["tuned"], 0]
    assert shown.locator("li .share").first.inner_text() == f"{share:.1f}%"
    assert f"keeps {tuned.support[row['tuned']]}" in shown.locator(".facts").inner_text()
    widths = shown.locator(".bar").evaluate_all("(bars) => bars.map((bar) => bar.offsetWidth)")
    assert widths == sorted(widths, reverse=True)
    page.mouse.move(5, 5)
    assert panel.locator(".head").count() == 0


def test_arrow_keys_move_over_tokens_from_one_tab_stop_and_escape_closes(page: Page) -> None:
    program = program_of(page)
    tokens = program.locator("code > span")
    panel = page.locator(".panel")
    assert program.locator("code > span[tabindex='0']").count() == 1
    program.locator("summary").focus()
    page.keyboard.press("Tab")
    assert panel.locator(".head code").inner_text() == "```"
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    assert panel.locator(".head code").inner_text() == "⏎"
    assert (page.locator(":focus").get_attribute("aria-label") or "").startswith("new line. lock,")
    page.keyboard.press("Home")
    page.keyboard.press("ArrowDown")
    assert panel.locator(".head code").inner_text() == "def"
    page.keyboard.press("ArrowUp")
    assert panel.locator(".head code").inner_text() == "```"
    page.keyboard.press("End")
    assert tokens.last.evaluate("(token) => token === document.activeElement")
    assert program.locator("code > span[tabindex='0']").count() == 1
    page.keyboard.press("Escape")
    assert panel.locator(".head").count() == 0
    page.keyboard.press("ArrowLeft")
    assert panel.locator(".head code").inner_text() == "```"
    page.keyboard.press("Tab")
    assert panel.locator(".head").count() == 0


def test_the_focused_token_is_not_hidden_by_the_panel(page: Page) -> None:
    program = program_of(page)
    program.locator("code > span").first.focus()
    page.keyboard.press("End")
    token = page.locator(":focus").bounding_box()
    panel = page.locator(".panel").bounding_box()
    assert token["y"] + token["height"] <= panel["y"] or token["y"] >= panel["y"] + panel["height"]


def test_screen_readers_get_a_list_of_tokens_that_name_themselves(page: Page) -> None:
    program = program_of(page)
    tokens = program.get_by_role("listbox", name="Tokens of Set/0,").get_by_role("option")
    assert tokens.count() == len(PROGRAM) + 1
    place = PROGRAM.index(" values")
    tokens.nth(place).focus()
    spoken = tokens.nth(place).get_attribute("aria-label") or ""
    assert re.match(r"values\. (lock|fork|other), entropy \d\.\d{3} to \d\.\d{3} nats", spoken)
    assert re.search(r"base: .+ \d+\.\d+%, .+\. t1: .+\. tuned: .+%$", spoken)


def test_the_colour_can_show_the_change_instead(page: Page) -> None:
    program = program_of(page)
    token = program.locator("code > span.fork").first

    def color() -> str:
        shade: str = token.evaluate("(one) => getComputedStyle(one).backgroundColor")
        return shade

    before = color()
    page.get_by_role("radio", name="its change by training").check()
    assert color() != before
    assert page.locator(".key.of-change").is_visible()
    assert not page.locator(".key.of-entropy").is_visible()


def test_hostile_text_stays_text(page: Page) -> None:
    assert page.title().startswith("run,</title><script>")
    program = program_of(page)
    program.locator("code > span").last.hover()
    assert page.locator(".panel .head code").inner_text() == HOSTILE.replace(" ", "·")
    assert HOSTILE in program.locator("pre").inner_text()
    assert page.locator("img[src=x]").count() == 0


def test_a_narrow_screen_does_not_scroll_sideways(
    browser: "sync_api.Browser", folder: Path
) -> None:
    page = opened(browser, folder, width=360)
    program_of(page).locator("code > span").first.click()
    assert page.locator(".panel .model").count() == 3
    widths = page.evaluate("[document.documentElement.scrollWidth, innerWidth]")
    assert widths[0] <= widths[1] == 360
    page.context.close()


def test_without_scripts_the_page_reads_the_same(browser: "sync_api.Browser", folder: Path) -> None:
    page = opened(browser, folder, java_script_enabled=False)
    assert page.get_by_role("button").count() == 0
    assert page.locator("table").count() > 10
    first = page.locator(".program pre").first
    assert "def total(values):" in first.inner_text()
    page.context.close()


def luminance(color: str) -> float:
    """Relative luminance of `#rrggbb` (WCAG 2.2)."""
    shares = [int(color[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    linear = [x / 12.92 if x <= 0.04045 else ((x + 0.055) / 1.055) ** 2.4 for x in shares]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_contrasts_with_every_shade(
    browser: "sync_api.Browser", folder: Path, scheme: str
) -> None:
    page = opened(browser, folder, color_scheme=scheme)
    names = [*(f"--e{n}" for n in range(7)), *(f"--c{n}" for n in range(7)), "--page", "--card"]
    colors = page.evaluate(
        "(names) => names.map((name) => getComputedStyle(document.documentElement)"
        ".getPropertyValue(name).trim())",
        ["--ink", "--soft", "--link", *names],
    )
    page.context.close()
    (ink, soft, link), shades = map(luminance, colors[:3]), list(map(luminance, colors[3:]))

    def contrast(one: float, other: float) -> float:
        return (max(one, other) + 0.05) / (min(one, other) + 0.05)

    assert min(contrast(ink, shade) for shade in shades) >= 4.5
    for quiet in (soft, link):
        assert min(contrast(quiet, shade) for shade in shades[-2:]) >= 4.5
