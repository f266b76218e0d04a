"""Real small parts for every test: the tiny model, composed runs, the benchmark files."""

import dataclasses
import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import settings

# Every test passes offline; set before a hub client or W&B is imported.
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["WANDB_MODE"] = "offline"
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
# The models are tiny: a second thread only waits, and under load it waits busily.
os.environ.setdefault("OMP_NUM_THREADS", "1")

from runs import ROOT, compose_config

from ssd.models import Weights
from ssd.models.fetch import fetch
from ssd.run import Run, save_run
from ssd.runtime.hardware import resolve

# A machine with other work is no reason to fail.
settings.register_profile("patient", deadline=None)
settings.load_profile("patient")


@pytest.fixture(scope="session")
def shared() -> Path:
    """The benchmark files that lie beside the project."""
    folder = ROOT.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("../shared/data is not beside the project")
    return folder


@pytest.fixture(scope="session")
def tiny_weights() -> Weights:
    """The random two-layer model."""
    return fetch(compose_config("model=tiny").model)


@pytest.fixture
def make_run(tmp_path: Path) -> Callable[..., Run]:
    """A run of a tiny model in a folder of its own, saved as the pipeline saves it."""

    def make(*overrides: str, name: str = "run", model: str = "tiny") -> Run:
        always = (f"model={model}", "logger=none", "hardware=cpu", f"output_dir={tmp_path}/out")
        config = compose_config(*always, *overrides)
        config = dataclasses.replace(config, hardware=resolve(config.hardware))
        run = Run(folder=tmp_path / name, config=config, weights=fetch(config.model))
        save_run(run, ["python", "train.py", *overrides])
        return run

    return make


@pytest.fixture
def show_gpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Makes this a machine whose nvidia-smi shows `number` GPUs of `mib` MiB called `name`."""

    def show(
        name: str, mib: int | str, number: int, capability: str = "9.0", *, used: int = 0,
        slices: tuple[str, ...] = (), others: tuple[tuple[str, int], ...] = (),
    ) -> None:  # fmt: skip
        program = tmp_path / "bin" / "nvidia-smi"
        program.parent.mkdir()
        cards = [(name, mib)] * number + list(others)
        listed = [
            f"GPU {index}: {card} (UUID: GPU-{index})" for index, (card, _) in enumerate(cards)
        ]
        rows = [
            f"{index}, GPU-{index}, {card}, {capability}, {size}, {used}"
            for index, (card, size) in enumerate(cards)
        ]
        listing, table = (
            "".join(f"echo '{line}'\n" for line in lines) for lines in ([*listed, *slices], rows)
        )
        program.write_text(f"#!/bin/sh\ncase $1 in -L)\n{listing};; *)\n{table};; esac\n")
        program.chmod(0o755)
        monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)

    return show


@pytest.fixture
def interruptible() -> Iterator[None]:
    """Ctrl-C raises, also where the tests run in the background of a shell."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "small"
    folder.mkdir()
    yield from mounted(folder, "size=1m")


@pytest.fixture
def few_inodes(tmp_path: Path) -> Iterator[Path]:
    """A disk that takes eight files and folders."""
    folder = tmp_path / "few"
    folder.mkdir()
    yield from mounted(folder, "size=1m,nr_inodes=9")


def mounted(folder: Path, options: str) -> Iterator[Path]:
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)],
        check=False,
        capture_output=True,
    )
    if done.returncode != 0:
        pytest.skip("mounting a small file system needs root")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)
