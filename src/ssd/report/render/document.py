"""The parts of a report before it is Markdown or HTML: plain text, escaped when rendered."""

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Paragraph:
    """Running text."""

    text: str


@dataclass(frozen=True, slots=True)
class Heading:
    """A title within a section."""

    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """The answer on one benchmark: a word, and the sentences that carry it."""

    benchmark: str
    verdict: str
    text: str


@dataclass(frozen=True, slots=True)
class Listing:
    """Short statements without order."""

    entries: list[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """Rows of cells; the first cell of a row names it."""

    caption: str
    columns: list[str]
    rows: list[list[str]]
    sides: str = ""
    """One letter per column: `l`, or `r` for numbers; where it is empty, all but the first are."""
    folded: bool = False

    @property
    def align(self) -> str:
        """`sides` of every column."""
        return self.sides or "l" + "r" * (len(self.columns) - 1)


Drawing = Callable[[str], bytes]
"""The bytes of an image's file in a format, `png` or `svg`; made when first requested, because that
takes most of a report's time and Markdown needs neither."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """An image, stored as `figures/<name>.png` and `.svg`."""

    name: str
    caption: str
    alt: str
    """What the image shows, with its numbers."""
    drawing: Drawing


@dataclass(frozen=True, slots=True, kw_only=True)
class Code:
    """Text to copy as it is."""

    caption: str
    text: str
    folded: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """What one model predicts at each of a program's N tokens."""

    entropy: list[float]
    """(N,) in nats."""
    tail_mass: list[float]
    """(N,) probability outside the most probable tokens that were kept."""
    support: list[int]
    """(N,) tokens that the training truncation keeps."""
    top: list[list[tuple[str, float]]]
    """(N, 5) the most probable tokens and their probabilities, the first most so."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """One completion, token by token."""

    name: str
    tokens: list[str]
    """(N,) their texts, which add up to the completion."""
    kinds: list[str]
    """(N,) `lock`, `fork` or `other`."""
    readings: dict[str, Reading]
    """By model, `base` first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CodeMap:
    """Programs coloured by how sure a model is of each token, with what every model expects there;
    Markdown only names it."""

    caption: str
    programs: list[Program]


Block = Paragraph | Heading | Finding | Listing | Table | Figure | Code | CodeMap


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
