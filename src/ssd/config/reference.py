"""What each setting means, read from the schema's own source: sentence, type, range and default."""

import ast
import dataclasses
import enum
import functools
import inspect
import itertools
import re
import textwrap
import typing
from dataclasses import dataclass
from types import ModuleType
from typing import Any

from omegaconf import MISSING

from ssd.config import choices, settings
from ssd.config.ranges import ALLOWED
from ssd.config.settings import RunConfig

WIDTH = 98
SECTION = "section"
RANGES = {"(0, inf)": "above 0", "[0, inf)": "0 or more"}
"""Words for intervals without an upper end."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """One setting, or a section of settings, of the schema."""

    name: str
    """Dotted, as it is typed."""
    sentence: str
    """What it means, in one paragraph; empty where the schema does not say."""
    kind: str
    """Its type, such as `int or null`; `SECTION` where it holds settings."""
    values: str
    """What it may be, such as `(0, 1]`; empty where any value of its type may."""
    default: str
    """The schema's own; empty where a group or recipe sets the value."""

    def text(self) -> str:
        """As a terminal shows it."""
        facts = [
            self.kind,
            *([self.values] if self.values else []),
            *([f"by default {self.default}"] if self.default else []),
        ]
        head = self.name if self.kind == SECTION else f"{self.name}: {'; '.join(facts)}"
        lines = textwrap.wrap(self.sentence, WIDTH, break_on_hyphens=False)
        return "\n  ".join([head, *lines])

    @property
    def short(self) -> str:
        """The first of its sentences."""
        return self.sentence.split(". ")[0].rstrip(".")


@functools.cache
def reference() -> dict[str, Setting]:
    """Every setting and section of a run, by dotted name, in the schema's order."""
    return {name: _setting(name, *declared) for name, declared in _fields(RunConfig).items()}


def inside(section: str) -> list[Setting]:
    """The settings and sections that stand directly in a section; the outermost for ""."""
    return [setting for name, setting in reference().items() if name.rpartition(".")[0] == section]


def mentioning(word: str) -> list[Setting]:
    """The settings whose name or sentence has a word in it."""
    pattern = re.compile(re.escape(word).replace("_", "[_ -]"), re.IGNORECASE)
    return [
        setting
        for setting in reference().values()
        if pattern.search(setting.name) or pattern.search(setting.sentence)
    ]


def _fields(
    schema: type, prefix: str = ""
) -> dict[str, tuple[type, "dataclasses.Field[Any]", Any]]:
    """Per dotted name the dataclass that declares it, its field and its type."""
    found = {}
    hints = typing.get_type_hints(schema)
    for field in dataclasses.fields(schema):
        hint = hints[field.name]
        found[prefix + field.name] = (schema, field, hint)
        for inner in (hint, *typing.get_args(hint)):
            if dataclasses.is_dataclass(inner) and isinstance(inner, type):
                found |= _fields(inner, f"{prefix}{field.name}.")
    return found


def _setting(name: str, owner: type, field: "dataclasses.Field[Any]", hint: Any) -> Setting:
    inner = [kind for kind in (hint, *typing.get_args(hint)) if isinstance(kind, type)]
    section = next((kind for kind in inner if dataclasses.is_dataclass(kind)), None)
    closed = next((kind for kind in inner if issubclass(kind, enum.Enum)), None)
    sentence = _sentences(settings)[owner.__name__].get(field.name, "")
    if section is not None and typing.get_origin(hint) is not list:
        own = inspect.cleandoc(section.__doc__ or "")
        return Setting(
            name=name, sentence=sentence or _line(own), kind=SECTION, values="", default=""
        )
    if closed is not None:
        sentence = f"{sentence} {_sentences(choices)[''].get(closed.__name__, '')}".strip()
    return Setting(
        name=name, sentence=sentence, kind=_kind(hint), values=_values(field),
        default=_default(field),
    )  # fmt: skip


def _kind(hint: Any) -> str:
    arguments = typing.get_args(hint)
    if typing.get_origin(hint) is list:
        return f"list of {_kind(arguments[0])}"
    if typing.get_origin(hint) in (tuple, dict):
        return "dictionary" if typing.get_origin(hint) is dict else "pair of float"
    if arguments:
        kinds = [_kind(kind) for kind in arguments if kind is not type(None)]
        return " or ".join([*kinds, "null"])
    if dataclasses.is_dataclass(hint):
        return "dictionaries"
    if issubclass(hint, enum.Enum):
        return f"one of {', '.join(member.value for member in hint)}"
    return str(hint.__name__)


def _values(field: "dataclasses.Field[Any]") -> str:
    allowed = field.metadata.get(ALLOWED, "")
    words = isinstance(allowed, tuple)
    return f"of {', '.join(allowed)}" if words else RANGES.get(allowed, allowed)


def _default(field: "dataclasses.Field[Any]") -> str:
    value = field.default
    if field.default_factory is not dataclasses.MISSING:
        value = field.default_factory()
        if dataclasses.is_dataclass(value):
            return ""
    if value is dataclasses.MISSING or value == MISSING:
        return ""
    if isinstance(value, enum.Enum):
        return str(value.value)
    if isinstance(value, bool) or value is None:
        return {None: "null", True: "true", False: "false"}[value]
    return str(value)


@functools.cache
def _sentences(module: ModuleType) -> dict[str, dict[str, str]]:
    """The strings below assignments: by class, or by "" where they stand in the module itself."""
    tree = ast.parse(inspect.getsource(module))
    bodies = {node.name: node.body for node in tree.body if isinstance(node, ast.ClassDef)}
    return {name: _documented(body) for name, body in ({"": tree.body} | bodies).items()}


def _documented(body: list[ast.stmt]) -> dict[str, str]:
    sentences = {}
    for statement, following in itertools.pairwise(body):
        if not isinstance(statement, (ast.Assign, ast.AnnAssign)):
            continue
        is_text = isinstance(following, ast.Expr) and isinstance(following.value, ast.Constant)
        targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
        if is_text and isinstance(targets[0], ast.Name):
            sentences[targets[0].id] = _line(ast.literal_eval(following.value))  # type: ignore[attr-defined]
    return sentences


def _line(text: str) -> str:
    return " ".join(text.split())
