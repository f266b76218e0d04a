"""A file's name is written once."""

import ast

from runs import ROOT

from ssd.artifacts import names as artifact_names
from ssd.models import names as model_names


def test_no_other_module_writes_a_file_name_again() -> None:
    names = {
        name
        for module in (artifact_names, model_names)
        for constant, name in vars(module).items()
        if constant.isupper() and "." in name
    }
    again = {
        f"{path.relative_to(ROOT)}: {node.value}"
        for path in (ROOT / "src").rglob("*.py")
        if path.name != "names.py"
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Constant) and node.value in names
    }
    assert again == set()
