"""What the installed vLLM knows, read from its source: importing it takes ten seconds and more."""

import ast
import functools
import importlib.util
import re
from collections.abc import Iterator
from pathlib import Path

MODELS = "vllm.model_executor.models"
FOLLOWED = (MODELS, "transformers.models")
"""Packages whose modules are looked into for what they import."""
BACKEND = "transformers"
"""The module of architectures that vLLM runs through transformers' own code."""


def vllm_module(architecture: str) -> str | None:
    """The module of vLLM's models that implements an architecture; None where its registry does not
    list it, or vLLM is not installed."""
    return _registry().get(architecture)


def has_vllm() -> bool:
    """Whether vLLM is installed."""
    return importlib.util.find_spec("vllm") is not None


@functools.cache
def _registry() -> dict[str, str]:
    """The module of every architecture in the tables of vLLM's registry.

    A table maps names to pairs of module and class.
    """
    source = _source(f"{MODELS}.registry")
    if source is None:
        return {}
    modules = {}
    for table in ast.walk(ast.parse(source.read_text(encoding="utf-8"))):
        if not isinstance(table, ast.Dict):
            continue
        for key, value in zip(table.keys, table.values, strict=True):
            if isinstance(key, ast.Constant) and isinstance(value, ast.Tuple):
                modules[str(key.value)] = str(ast.literal_eval(value.elts[0]))
    return modules


@functools.cache
def lacking_package(module: str) -> str | None:
    """A package that a module of vLLM's models needs and that is not installed, or None. vLLM on a
    CPU comes without torchvision, which the code of models that also see needs."""
    waiting, seen = [f"{MODELS}.{module}"], set()
    while waiting:
        name = waiting.pop()
        source = None if name in seen else _source(name)
        seen.add(name)
        for imported in _imports(name, source) if source is not None else ():
            if imported.startswith(FOLLOWED):
                waiting.append(imported)
            elif not _installed(imported.split(".")[0]):
                return imported.split(".")[0]
    return None


def unnamed(module: str, tensors: list[str]) -> list[str]:
    """Beginnings of tensor names, such as `mtp`, that the source of one of vLLM's models does not
    contain: most of its loaders refuse a checkpoint with tensors that they do not know."""
    source = _source(f"{MODELS}.{module}")
    text = "" if source is None else source.read_text(encoding="utf-8")
    words = dict.fromkeys(name.removeprefix("model.").split(".")[0] for name in tensors)
    return [word for word in words if not re.search(rf"\b{re.escape(word)}", text)]


def largest_rank() -> int | None:
    """The largest rank of an adapter that vLLM loads; None where vLLM is not installed, or no
    longer lists its ranks."""
    source = _source("vllm.config.lora")
    text = "" if source is None else source.read_text(encoding="utf-8")
    ranks = re.search(r"^MaxLoRARanks\b.*Literal\[([\d, ]+)\]", text, re.M)
    return max(map(int, ranks[1].split(","))) if ranks else None


def _imports(name: str, source: Path) -> Iterator[str]:
    """Modules that a module imports whenever it is imported itself, not under a condition."""
    package = name if source.name == "__init__.py" else name.rpartition(".")[0]
    for node in ast.parse(source.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level:
            parents = package.split(".")[: len(package.split(".")) - node.level + 1]
            yield ".".join([*parents, *([node.module] if node.module else [])])
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module


@functools.cache
def _installed(package: str) -> bool:
    return importlib.util.find_spec(package) is not None


def _source(name: str) -> Path | None:
    """The file of a module, found without importing it; None where there is none."""
    package, _, rest = name.partition(".")
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        return None
    path = Path(spec.origin).parent / rest.replace(".", "/")
    files = (path.with_suffix(".py"), path / "__init__.py")
    return next((file for file in files if file.is_file()), None)
