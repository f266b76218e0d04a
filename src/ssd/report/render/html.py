"""HTML of a report: one file that loads nothing from a server; inline images, autoescaped text.

Its content policy refuses every request and every script but the page's own, which it names by
hash. Completions are hostile text: they reach the page as escaped text and as JSON without a `<`.
"""

import base64
import hashlib
import json
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

from ssd.config.run_name import between
from ssd.report.render.code_map import CHANGE_STEPS, ENTROPY_STEPS, page_data, ranges, shades
from ssd.report.render.document import Document

FOLDER = Path(__file__).parent
TEMPLATE, STYLE, SCRIPT = "report.html.jinja", "report.css", "report.js"


def html(document: Document) -> str:
    """The whole report as one self-contained page."""
    environment = Environment(
        loader=FileSystemLoader(FOLDER),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "kind": lambda block: type(block).__name__,
        "data_uri": lambda png: f"data:image/png;base64,{_base64(png)}",
        "breakable": _breakable,
        "unbroken": _unbroken,
        "shades": shades,
        "visible": _visible,
        "page_data": lambda block: _json(page_data(block)),
    }
    script = (FOLDER / SCRIPT).read_text(encoding="utf-8")
    return environment.get_template(TEMPLATE).render(
        document=document,
        style=Markup((FOLDER / STYLE).read_text(encoding="utf-8")),
        script=Markup(script),
        script_hash=f"sha256-{_base64(hashlib.sha256(script.encode()).digest())}",
        entropy_ranges=ranges(ENTROPY_STEPS),
        change_ranges=ranges(CHANGE_STEPS),
    )


def _json(value: Any) -> Markup:
    """JSON inside a script element, whose end it cannot contain."""
    text = json.dumps(value, separators=(",", ":"), allow_nan=False)
    return Markup(text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026"))


def _visible(token: str) -> Markup:
    """A token's text, with a mark before each line's end."""
    return Markup('<i class="end"></i>\n').join(escape(line) for line in token.split("\n"))


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")


def _breakable(name: str) -> Markup:
    """A run name that may wrap after each override."""
    separator = between(name)
    return Markup(f"{separator}<wbr>").join(escape(part) for part in name.split(separator))


def _unbroken(cell: str) -> str:
    """A number that may wrap before its interval and nowhere else."""
    return cell.replace(" ", "\N{NO-BREAK SPACE}").replace("\N{NO-BREAK SPACE}[", " [")
