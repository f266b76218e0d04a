"""Machines with and without GPUs."""

from collections.abc import Callable
from pathlib import Path

import pytest


@pytest.fixture
def two_gpus(show_gpus: Callable[[str, int, int], None]) -> None:
    """A machine whose nvidia-smi lists two GPUs."""
    show_gpus("NVIDIA H100", 81559, 2)


@pytest.fixture
def no_gpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine without nvidia-smi."""
    monkeypatch.setenv("PATH", str(tmp_path))
