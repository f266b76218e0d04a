"""Which programs the code map shows, and how they reach the page."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
from analyses import HOSTILE, finish_analysis
from run_folders import make_run

from ssd.analyse.summary import base_kinds
from ssd.config.settings import AnalyseConfig
from ssd.records.analysis import Analysis, read_analysis
from ssd.report.render.code_map import (
    CHANGE_STEPS,
    ENTROPY_STEPS,
    chosen_programs,
    code_map,
    page_data,
    ranges,
    shades,
    visible,
)
from ssd.report.render.document import CodeMap, Document, Section
from ssd.report.render.html import html
from ssd.run import evidence

SETTINGS = AnalyseConfig()


@pytest.fixture
def analysis(tmp_path: Path) -> Analysis:
    run = make_run(tmp_path)
    finish_analysis(run, num_samples=5, models=("base", "tuned"))
    return read_analysis(evidence.analysis(run, evidence.reported_steps(run)).folder)


def kinds_of(analysis: Analysis) -> np.ndarray:
    return base_kinds(analysis, SETTINGS)


def map_of(analysis: Analysis, num_programs: int = 6) -> CodeMap:
    first = code_map(analysis, SETTINGS, num_programs)
    assert isinstance(first, CodeMap)
    return first


def test_programs_whose_forks_changed_most_come_first(analysis: Analysis) -> None:
    kinds = kinds_of(analysis)
    change = np.abs(analysis.positions["tuned"].entropy - analysis.positions["base"].entropy)
    sample = analysis.positions["base"].sample
    means = [change[(sample == number) & (kinds == "fork")].mean() for number in range(5)]
    assert chosen_programs(analysis, kinds, 3) == np.argsort(-np.array(means))[:3].tolist()


def test_plain_text_comes_after_programs(analysis: Analysis) -> None:
    kinds = kinds_of(analysis)
    first = chosen_programs(analysis, kinds, 1)[0]
    tokens = analysis.samples[first].tokens
    tokens[:] = ["word"] * len(tokens)
    assert chosen_programs(analysis, kinds, 5)[-1] == first


def test_a_program_is_its_completion_token_by_token(analysis: Analysis) -> None:
    shown = map_of(analysis)
    program = next(one for one in shown.programs if one.name.startswith("Set/0"))
    assert "".join(program.tokens) == "".join(analysis.samples[0].tokens)
    here = np.flatnonzero(analysis.positions["tuned"].sample == 0)
    place = 4
    row = here[place]
    tuned = analysis.positions["tuned"]
    assert program.readings["tuned"].entropy[place] == tuned.entropy[row]
    text, share = program.readings["tuned"].top[place][0]
    assert text == analysis.tokens[tuned.top_ids[row, 0]]
    assert share == tuned.top_probs[row, 0]


def test_shades_follow_the_borders_that_the_legend_names(analysis: Analysis) -> None:
    assert ranges(ENTROPY_STEPS)[0] == "below 0.05"
    assert len(ranges(CHANGE_STEPS)) == len(CHANGE_STEPS) + 1
    program = map_of(analysis).programs[0]
    base, tuned = program.readings["base"].entropy, program.readings["tuned"].entropy
    for place, shaded in enumerate(shades(program)):
        entropy, change = base[place], tuned[place] - base[place]
        assert shaded["classes"].split() == [
            f"e{sum(entropy >= border for border in ENTROPY_STEPS)}",
            f"c{sum(change >= border for border in CHANGE_STEPS)}",
            program.kinds[place],
        ]


def test_numbers_that_are_none_reach_the_page_as_null(analysis: Analysis) -> None:
    analysis.positions["tuned"].entropy[:] = np.nan
    shown = map_of(analysis)
    page = html(Document(title="", subtitle="", sections=[Section("Why", [shown])]))
    assert "NaN" not in json.dumps(page_data(shown), allow_nan=False)
    assert "c3 fork" in page


def test_hostile_completions_cannot_leave_their_place(analysis: Analysis) -> None:
    page = html(Document(title="", subtitle="", sections=[Section("Why", [map_of(analysis)])]))
    assert HOSTILE not in page
    assert "&lt;/script&gt;&lt;script&gt;document.title" in page
    (stored,) = re.findall(r'<script type="application/json">(.*?)</script>', page, re.DOTALL)
    assert HOSTILE in json.loads(stored)["words"]
    assert page.count("<script") == page.count("</script>") == 2


def test_no_programs_are_shown_where_none_are_wanted(analysis: Analysis) -> None:
    assert code_map(analysis, SETTINGS, 0) is None


def test_text_that_cannot_be_seen_is_named() -> None:
    assert visible("\n\tif x:\r") == "⏎⇥if·x:␍"
    assert visible("") == "(empty)"
    assert visible("a\x00\x1b") == "a<U+0000><U+001B>"
