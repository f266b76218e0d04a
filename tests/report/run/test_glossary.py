"""The words of the report and of the docs are the same."""

import re

from runs import ROOT

from ssd.report.run.glossary import WORDS


def test_the_docs_explain_the_words_of_the_report_as_it_does() -> None:
    page = (ROOT / "docs" / "glossary.md").read_text(encoding="utf-8")
    rows = dict(re.findall(r"^\| (.+?) \| (.+) \|$", page, re.MULTILINE)[1:])
    assert rows == WORDS
