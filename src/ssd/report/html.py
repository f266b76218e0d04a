"""HTML of a report: one file that asks no server for anything, images inline, text autoescaped."""

import base64
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

from ssd.report.document import Document

TEMPLATE = "report.html.jinja"


def html(document: Document) -> str:
    """The whole report as one self-contained page."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"data_uri": _data_uri, "breakable": _breakable, "unbroken": _unbroken}
    return environment.get_template(TEMPLATE).render(document=document)


def _data_uri(png: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(png).decode('ascii')}"


def _breakable(name: str) -> Markup:
    """A run name that may wrap after each override."""
    return Markup(",<wbr>").join(escape(part) for part in name.split(","))


def _unbroken(cell: str) -> str:
    """A number that wraps before its interval or not at all."""
    return cell.replace(" ", "\N{NO-BREAK SPACE}").replace("\N{NO-BREAK SPACE}[", " [")
