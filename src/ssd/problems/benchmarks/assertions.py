"""Whether the text of a test asserts anything, as far as that shows without running it."""

import ast
import builtins
import symtable
from collections.abc import Iterator

DYNAMIC = {"eval", "exec", "globals", "locals", "vars", "getattr"}
"""Names through which a test may reach whatever it defines."""
ENDS = {"fail", "raises", "exit"}
"""Calls beside `assert...` that end a test badly."""


def why_it_asserts_nothing(source: str) -> str | None:
    """Why no answer can fail a test, judging by its text, with the remedy; None if one may.

    An assertion counts where the test's top level reaches it: by being there, or inside a function
    or class that reached code names.

    Raises:
        SyntaxError, ValueError: `source` is no valid Python.
    """
    tree = ast.parse(source)
    defined = top_level(tree)
    if any(asserts(node) for node in reached(tree, defined)):
        return None
    unused = [name for name, node in defined.items() if any(map(asserts, ast.walk(node)))]
    if not unused:
        return "test asserts nothing: add an assert that a wrong answer fails"
    if unused[0] == "check":
        return 'test defines check, which nothing calls: add "entry_point", or call it in the test'
    if isinstance(defined[unused[0]], ast.ClassDef):
        return f"test defines class {unused[0]}, which nothing runs: write its checks as asserts"
    return f"test defines {unused[0]}, which nothing calls: call it at the end of the test"


def top_level(tree: ast.Module) -> dict[str, ast.stmt]:
    """The functions and classes of a module by name."""
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    return {node.name: node for node in tree.body if isinstance(node, kinds)}


def reached(tree: ast.Module, defined: dict[str, ast.stmt]) -> Iterator[ast.AST]:
    """Every node that running a module may come to."""
    statements: list[ast.stmt] = [node for node in tree.body if node not in defined.values()]
    unread = dict(defined)
    while statements:
        for node in ast.walk(statements.pop()):
            yield node
            if isinstance(node, ast.Name):
                names = list(unread) if node.id in DYNAMIC else [node.id]
                statements += [unread.pop(name) for name in names if name in unread]


def asserts(node: ast.AST) -> bool:
    """Whether a node can end a test badly: an `assert` that is not always true, `raise`, or a call
    such as `np.testing.assert_allclose`."""
    if isinstance(node, ast.Assert):
        always = isinstance(node.test, ast.Constant) and bool(node.test.value)
        return not always and not (isinstance(node.test, ast.Tuple) and node.test.elts)
    if isinstance(node, ast.Raise):
        return True
    if isinstance(node, ast.Call):
        name = getattr(node.func, "attr", getattr(node.func, "id", ""))
        return name.lower().startswith("assert") or name in ENDS
    return False


def foreign_names(source: str) -> list[str]:
    """The candidate's names: those that a test uses and that neither it nor Python defines."""
    module = symtable.symtable(source, "test", "exec")
    own = {name.get_name() for name in module.get_symbols() if name.is_local()}
    names = [
        name.get_name()
        for table in tables(module)
        for name in table.get_symbols()
        if name.is_referenced() and (table is module or name.is_global())
    ]
    return [
        name for name in dict.fromkeys(names) if name not in own and not hasattr(builtins, name)
    ]


def tables(table: symtable.SymbolTable) -> Iterator[symtable.SymbolTable]:
    """A scope and all those inside it."""
    yield table
    for child in table.get_children():
        yield from tables(child)
