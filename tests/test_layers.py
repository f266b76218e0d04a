"""The house has one order: a module imports from its own room and from rooms below, never above or
beside. Lazy imports count: they hide a cycle from Python, not from the reader."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest
from runs import ROOT

LAYERS = (
    ("errors", "arms"),
    ("artifacts",),
    ("config",),
    ("runtime",),
    ("method",),
    ("sandbox",),
    ("problems",),
    ("models",),
    ("records",),
    ("run",),
    ("generation",),
    ("toy",),
    ("sample", "train", "evaluate", "analyse"),
    ("report",),
    ("plan", "check"),
    ("drive",),
    ("search", "compare", "inventory", "doctor", "notebook"),
)
"""From the ground up; rooms of one floor know nothing of each other. docs/architecture.md says what
each is for."""
FLOORS = {room: floor for floor, rooms in enumerate(LAYERS) for room in rooms}
DOORS = {
    "ssd.__main__": "doctor",
    "ssd.artifacts.__main__": "inventory",
    "ssd.config.__main__": "drive",
}
"""Commands that are named for what people look for; their code stands in a room further up."""
SRC = ROOT / "src"
MODULES = {
    ".".join(path.relative_to(SRC).with_suffix("").parts).removesuffix(".__init__"): path
    for path in sorted((SRC / "ssd").rglob("*.py"))
}


def imports(path: Path) -> Iterator[str]:
    """Every module of the project that a file names in an import, wherever it stands."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.startswith("ssd."))
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "ssd":
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                yield inner if inner in MODULES else str(node.module)


def room(module: str) -> str:
    """`train` of `ssd.train.loss`; empty for `ssd` itself, which holds the version."""
    return DOORS.get(module, module.removeprefix("ssd").lstrip(".").split(".")[0])


def test_every_room_has_its_floor() -> None:
    rooms = {room(module) for module in MODULES} - {""}
    assert rooms == set(FLOORS)


@pytest.mark.parametrize("name", [name for rooms in LAYERS for name in rooms])
def test_a_room_imports_only_from_below(name: str) -> None:
    upward = [
        f"{module} -> {imported}"
        for module, path in MODULES.items()
        if room(module) == name
        for imported in imports(path)
        if room(imported) not in ("", name) and FLOORS[room(imported)] >= FLOORS[name]
    ]
    assert upward == []


def test_no_module_needs_itself_by_way_of_others() -> None:
    graph = {module: set(imports(path)) - {module} for module, path in MODULES.items()}
    finished: set[str] = set()

    def visit(module: str, way: tuple[str, ...]) -> None:
        assert module not in way, " -> ".join([*way[way.index(module) :], module])
        if module not in finished:
            for imported in graph.get(module, ()):
                visit(imported, (*way, module))
            finished.add(module)

    for module in graph:
        visit(module, ())


def test_rooms_inside_the_report_form_no_cycle() -> None:
    inner = {
        (module.split(".")[2], imported.split(".")[2])
        for module, path in MODULES.items()
        for imported in imports(path)
        if module.count(".") > 2 and imported.count(".") > 2
        if module.startswith("ssd.report.") and imported.startswith("ssd.report.")
        if module.split(".")[2] != imported.split(".")[2]
    }
    assert not {(lower, upper) for lower, upper in inner if (upper, lower) in inner}


def test_the_sandbox_stands_alone() -> None:
    outside = {
        imported
        for module, path in MODULES.items()
        if room(module) == "sandbox"
        for imported in imports(path)
        if room(imported) != "sandbox"
    }
    assert outside <= {"ssd.errors"}


def test_what_is_shipped_imports_no_test_and_no_benchmark() -> None:
    above = {path.stem for name in ("tests", "benchmarks") for path in (ROOT / name).rglob("*.py")}
    above -= {"train"}  # the script beside src, and a benchmark
    for path in (ROOT / "train.py", *MODULES.values()):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            names += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            assert not {name.split(".")[0] for name in names} & above, path
