"""What an artifact depends on as JSON, and that as sixteen digits; the hashes of its files."""

import dataclasses
import functools
import hashlib
import json
from enum import Enum
from pathlib import Path
from typing import Any


def plain(value: Any) -> Any:
    """`value` as JSON types: dataclasses become dicts, enums their values, tuples lists."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    return value


def dotted(settings: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings by dotted name."""
    flat: dict[str, Any] = {}
    for name, value in settings.items():
        if isinstance(value, dict):
            flat |= dotted(value, f"{prefix}{name}.")
        else:
            flat[prefix + name] = value
    return flat


def fingerprint(inputs: dict[str, Any]) -> str:
    """Sixteen hexadecimal digits of the SHA-256 of `inputs` as canonical JSON."""
    return digest(plain(inputs))[:16]


def digest(value: Any) -> str:
    """SHA-256 of a value of JSON types, as canonical JSON."""
    canonical = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(canonical.encode()).hexdigest()


def hash_file(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal; remembered in this process while size and time stay."""
    state = path.stat()
    return _hash(path, state.st_size, state.st_mtime_ns)


@functools.cache
def _hash(path: Path, size: int, mtime_ns: int) -> str:
    return hash_content(path)


def hash_content(path: Path) -> str:
    """SHA-256 of a file as it is on the disk now."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
