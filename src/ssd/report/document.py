"""What a report consists of before it is Markdown or HTML: plain text, escaped where rendered."""

from dataclasses import dataclass
from typing import ClassVar


@dataclass(frozen=True, slots=True)
class Paragraph:
    """Running text."""

    kind: ClassVar[str] = "paragraph"
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """The answer on one benchmark: a word, and the sentences that carry it."""

    kind: ClassVar[str] = "finding"
    benchmark: str
    verdict: str
    text: str


@dataclass(frozen=True, slots=True)
class Listing:
    """Short statements without order."""

    kind: ClassVar[str] = "listing"
    entries: list[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """Rows of cells; the first cell of a row names it."""

    kind: ClassVar[str] = "table"
    caption: str
    columns: list[str]
    align: str
    """One letter per column: `l`, or `r` for numbers."""
    rows: list[list[str]]


@dataclass(frozen=True, slots=True)
class Drawing:
    """One image in two formats, as the bytes of its files."""

    png: bytes
    svg: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """An image, stored as `figures/<name>.png` and `.svg`."""

    kind: ClassVar[str] = "figure"
    name: str
    caption: str
    alt: str
    """What the image shows, with its numbers."""
    drawing: Drawing


@dataclass(frozen=True, slots=True, kw_only=True)
class Code:
    """Text to copy as it is."""

    kind: ClassVar[str] = "code"
    caption: str
    text: str
    folded: bool = False


Block = Paragraph | Finding | Listing | Table | Figure | Code


@dataclass(frozen=True, slots=True)
class Section:
    """A heading and what stands below it."""

    title: str
    blocks: list[Block]


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """A whole report."""

    title: str
    subtitle: str
    sections: list[Section]

    @property
    def figures(self) -> list[Figure]:
        return [
            block
            for section in self.sections
            for block in section.blocks
            if isinstance(block, Figure)
        ]
