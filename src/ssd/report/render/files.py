"""A document as files: Markdown, one HTML page, and its figures beside them."""

from pathlib import Path

from ssd.artifacts.files import replacing, write_text
from ssd.artifacts.names import FIGURES
from ssd.report.render.document import Document

FORMATS = ("png", "svg")


def write_document(folder: Path, document: Document, name: str) -> None:
    """Write `<name>.md`, `<name>.html` and `figures/*.png` and `.svg` into a folder; figures of an
    earlier document that are not in this one are deleted.

    Raises:
        ArtifactError: the folder cannot be written.
    """
    # Importing jinja2 takes a quarter of a second; printing a study's table does not need it.
    from ssd.report.render.html import html
    from ssd.report.render.markdown import markdown

    for figure in document.figures:
        for kind in FORMATS:
            with replacing(folder / FIGURES / f"{figure.name}.{kind}") as temporary:
                temporary.write_bytes(figure.drawing(kind))
    drawn = {figure.name for figure in document.figures}
    for path in (folder / FIGURES).glob("*.*"):
        if path.stem not in drawn:
            path.unlink()
    write_text(folder / f"{name}.md", markdown(document))
    write_text(folder / f"{name}.html", html(document))
