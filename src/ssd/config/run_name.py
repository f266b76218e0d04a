"""The name of a run's folder: its overrides, in characters that a shell, a URL and W&B accept.

`sampler.temp=1.6 seed=3` is `sampler.temp-1.6__seed-3`. An override that these characters cannot
express, such as a path or a list, ends in a hash, so two different lists of overrides never share a
folder. The old name was `sampler.temp=1.6,seed=3`; a run that has such a folder goes on in it.
"""

import hashlib
import re
from collections.abc import Callable, Sequence
from pathlib import Path

UNNAMED = (
    "study", "run_name", "output_dir", "stages", "plan", "report", "logger", "hardware", "hydra",
    "sampler.url", "sampler.served_name", "sampler.max_concurrency", "sampler.retry_seconds",
)  # fmt: skip
"""Settings that do not change a run's numbers, and so not its name."""
NO_OVERRIDES = "defaults"
MAX_NAME = 180
SWEPT = (
    "model", "sampler.temp", "truncation", "truncation.top_k", "truncation.top_p", "optimizer.lr",
    "seed",
)  # fmt: skip
"""Settings that sweeps vary, which stand first in a name that is cut."""
BETWEEN, OLD_BETWEEN = "__", ","
"""What stands between two overrides."""
HASH_DIGITS = 8
PLAIN = re.compile(
    r"(?!.*__)"  # that is BETWEEN
    r"(?!.*-[0-9a-f]{8}$)"  # that would look like a hash
    r"[A-Za-z][A-Za-z0-9_.]*(?<!_)=[A-Za-z0-9.-][A-Za-z0-9_.-]*(?<!_)",
    re.ASCII,
)
"""Overrides whose setting and value can be read back from their part of a name."""


def run_name(overrides: Sequence[str], study_dir: str) -> str:
    """`run_slug`, or the old name if only a folder with that name exists in the study."""
    name, old = run_slug(overrides), old_run_slug(overrides)
    folder = Path(study_dir)
    return old if (folder / old).is_dir() and not (folder / name).exists() else name


def run_slug(overrides: Sequence[str]) -> str:
    """A folder name made of the overrides, or `defaults`. A long name is cut and ends in a hash."""
    in_name = [_tight(text) for text in overrides if _is_named(text)]
    settings = {text.lstrip("+~").partition("=")[0] for text in in_name}
    slug = _slug(sorted(in_name)) or NO_OVERRIDES
    if len(settings) < len(in_name) or any("{" in text for text in in_name):
        # The last of two wins and dictionaries are merged: here the order is part of the meaning.
        slug += f"-{_hash(' '.join(in_name))}"
    return _cut(slug, in_name, _slug)


def old_run_slug(overrides: Sequence[str]) -> str:
    """The name that earlier versions gave the same overrides."""
    in_name = sorted(filter(_is_named, overrides))
    return _cut(_old_slug(in_name), in_name, _old_slug)


def setting_of(override: str) -> str:
    """`sampler.temp` of `sampler.temp=1.6`."""
    return re.split(r"[=/@]", override.lstrip("+~"))[0]


def between(name: str) -> str:
    """What separates the overrides of a run's name, in the spelling that it has."""
    return OLD_BETWEEN if "=" in name else BETWEEN


def shared_parts(names: Sequence[str]) -> set[str]:
    """The overrides that all names have, in both spellings."""
    parts = [{part.replace("=", "-", 1) for part in name.split(between(name))} for name in names]
    shared = set.intersection(*parts) if parts else set()
    return shared | {part.replace("-", "=", 1) for part in shared}


def _is_named(override: str) -> bool:
    setting = setting_of(override)
    return setting not in UNNAMED and setting.split(".")[0] not in UNNAMED


def _tight(override: str) -> str:
    """Without spaces that have no meaning: `[1, 2]` becomes `[1,2]`. Quoted text stays."""
    pieces = re.split(r"('(?:\\.|[^'\\])*'|\"(?:\\.|[^\"\\])*\")", override.strip())
    pieces[::2] = [re.sub(r"\s*([\[\]{},:=])\s*", r"\1", piece) for piece in pieces[::2]]
    return "".join(pieces)


def _part(override: str) -> str:
    """`sampler.temp-1.6`; with a hash of the override if this spelling loses a part of it."""
    if PLAIN.fullmatch(override):
        return override.replace("=", "-", 1)
    setting, _, value = override.lstrip("+~").partition("=")
    words = [_word(text) for text in (setting, value)]
    return "-".join([*filter(None, words), _hash(override)])


def _word(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9.-]+", "_", text, flags=re.ASCII).strip("_-")


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:HASH_DIGITS]


def _cut(whole: str, in_name: list[str], slug: Callable[[Sequence[str]], str]) -> str:
    if len(whole) <= MAX_NAME:
        return whole
    name = slug(sorted(sorted(in_name), key=lambda text: setting_of(text) not in SWEPT))
    return f"{name[: MAX_NAME - HASH_DIGITS - 1]}-{_hash(whole)}"


def _slug(overrides: Sequence[str]) -> str:
    return BETWEEN.join(map(_part, overrides))


def _old_slug(overrides: Sequence[str]) -> str:
    plain = re.sub(r"[\[\]\s\"']", "", OLD_BETWEEN.join(overrides))
    return re.sub(r"[^\w.=,@+-]+", "_", plain).strip("_") or NO_OVERRIDES
