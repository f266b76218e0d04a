"""Markdown of a report. Text from files is escaped, so that a run name stays a name."""

import re

from ssd.report.render.document import (
    Block,
    Code,
    CodeMap,
    Document,
    Figure,
    Finding,
    Heading,
    Listing,
    Paragraph,
    Table,
)

SPECIAL = re.compile(r"[\\`*|#~]|(?<=\])\(|(?<!\w)_|_(?!\w)")
RULES = {"l": ":--", "r": "--:"}


def markdown(document: Document) -> str:
    """The whole report; images are named relative to the run folder."""
    parts = [f"# {escape(document.title)}", escape(document.subtitle)]
    for section in document.sections:
        parts.append(f"## {escape(section.title)}")
        parts += [block_markdown(block) for block in section.blocks]
    return "\n\n".join(parts) + "\n"


def markdown_table(table: Table) -> str:
    """A table whose columns also line up in a terminal."""
    lines = [[escape(cell) for cell in line] for line in (table.columns, *table.rows)]
    widths = [max(3, *(len(line[i]) for line in lines)) for i in range(len(table.columns))]
    rules = [RULES[side].rjust(width, "-") if side == "r" else RULES[side].ljust(width, "-")
             for side, width in zip(table.align, widths, strict=True)]  # fmt: skip
    padded = [
        [cell.rjust(width) if side == "r" else cell.ljust(width)
         for cell, side, width in zip(line, table.align, widths, strict=True)]
        for line in lines
    ]  # fmt: skip
    return "\n".join(f"| {' | '.join(line)} |" for line in [padded[0], rules, *padded[1:]])


def escape(text: str) -> str:
    """`text` on one line, with what Markdown or HTML would read as markup made literal."""
    plain = " ".join(text.split()).replace("&", "&amp;").replace("<", "&lt;")
    return SPECIAL.sub(lambda match: f"\\{match.group()}", plain)


def block_markdown(block: Block) -> str:
    """One block, as it stands in a section."""
    match block:
        case Paragraph():
            return escape(block.text)
        case Heading():
            return f"### {escape(block.text)}"
        case Finding():
            return f"- **{escape(block.benchmark)}: {escape(block.verdict)}.** {escape(block.text)}"
        case Listing():
            return "\n".join(f"- {escape(item)}" for item in block.entries)
        case Table(folded=True):
            return _folded(block.caption, markdown_table(block))
        case Table():
            return f"*{escape(block.caption)}*\n\n{markdown_table(block)}"
        case Figure():
            alt = escape(block.alt).replace("[", "\\[").replace("]", "\\]")
            return f"![{alt}](figures/{block.name}.png)\n\n*{escape(block.caption)}*"
        case Code():
            return _code(block)
        case CodeMap():
            return f"*{escape(block.caption)} The HTML report shows them token by token.*"


def _folded(caption: str, content: str) -> str:
    return f"<details>\n<summary>{escape(caption)}</summary>\n\n{content}\n\n</details>"


def _code(code: Code) -> str:
    longest = max((len(run) for run in re.findall(r"`+", code.text)), default=0)
    fence = "`" * max(3, longest + 1)
    fenced = f"{fence}\n{code.text.rstrip()}\n{fence}"
    if not code.folded:
        return f"{escape(code.caption)}:\n\n{fenced}"
    return _folded(code.caption, fenced)
