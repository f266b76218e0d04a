"""What a check found out, one item a line."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum


class State(Enum):
    """What an item says of what is checked."""

    ok = "ok"
    note = "note"
    """Something that the user should know, and that stops nothing."""
    refused = "refused"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One item of a check, in one line."""

    item: str
    state: State
    text: str
    """What is so; where it is refused, the remedy too."""


def ok(item: str, text: str) -> Finding:
    """What is so, and stops nothing."""
    return Finding(item=item, state=State.ok, text=text)


def note(item: str, text: str) -> Finding:
    """What stops nothing and should be known."""
    return Finding(item=item, state=State.note, text=text)


def refused(item: str, text: str) -> Finding:
    """What would fail later, with the remedy."""
    return Finding(item=item, state=State.refused, text=text)


def screen(findings: Sequence[Finding]) -> str:
    """A line per item: its name, its state, what is so."""
    return "\n".join(map(line, findings))


def line(finding: Finding) -> str:
    """One of them."""
    return f"{finding.item:12}  {finding.state.value:7}  {finding.text}"
