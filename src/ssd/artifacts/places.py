"""Folders outside of `output_dir`, and the variables that move them."""

import os
from pathlib import Path

CACHE, HUB = "SSD_CACHE", "HF_HOME"
OUTPUT = "output_dir"


def user_folder(variable: str, default: str) -> Path:
    """A folder of the user's, such as XDG_CACHE_HOME; empty counts as unset."""
    return Path(os.environ.get(variable) or default).expanduser()


def cache_folder() -> Path:
    """Folder of converted checkpoints: $SSD_CACHE, or `ssd` in the user's cache folder."""
    return user_folder(CACHE, str(user_folder("XDG_CACHE_HOME", "~/.cache") / "ssd"))


def hub_folder() -> Path:
    """Folder of the hub client's downloads."""
    return user_folder(HUB, str(user_folder("XDG_CACHE_HOME", "~/.cache") / "huggingface"))


def setting_of(path: Path) -> str:
    """What to set so that a path lies elsewhere."""
    places = {CACHE: cache_folder(), HUB: hub_folder()}
    return next((name for name, folder in places.items() if path.is_relative_to(folder)), OUTPUT)
