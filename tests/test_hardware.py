from importlib.metadata import version
from pathlib import Path

import pytest

from ssd.config import Accelerator, HardwareConfig
from ssd.errors import HardwareError
from ssd.hardware import check_installation, count_gpus, resolve


@pytest.fixture
def two_gpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine whose nvidia-smi lists two GPUs."""
    listing = tmp_path / "nvidia-smi"
    listing.write_text("#!/bin/sh\necho 'GPU 0: NVIDIA H100'\necho 'GPU 1: NVIDIA H100'\n")
    listing.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)


@pytest.fixture
def no_gpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine without nvidia-smi."""
    monkeypatch.setenv("PATH", str(tmp_path))


@pytest.mark.usefixtures("no_gpus")
def test_auto_takes_the_cpu_where_there_is_no_gpu() -> None:
    found = resolve(HardwareConfig(), 8)
    assert (found.accelerator, found.devices, found.micro_batch_size) == (Accelerator.cpu, 1, 4)
    assert resolve(HardwareConfig(), 6).micro_batch_size == 2


@pytest.mark.usefixtures("two_gpus")
def test_auto_takes_every_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    found = resolve(HardwareConfig(), 8)
    assert (found.accelerator, found.devices, found.micro_batch_size) == (Accelerator.gpu, 2, 1)
    assert resolve(HardwareConfig(accelerator=Accelerator.cpu), 8).accelerator is Accelerator.cpu
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    assert count_gpus() == 1
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert count_gpus() == 0


@pytest.mark.usefixtures("two_gpus")
def test_more_gpus_than_there_are_is_refused() -> None:
    with pytest.raises(HardwareError, match=r"asks for 8 GPU\(s\), this machine shows 2"):
        resolve(HardwareConfig(accelerator=Accelerator.gpu, devices=8), 32)
    with pytest.raises(HardwareError, match="tensor_parallel_size=4 exceeds the 2"):
        resolve(HardwareConfig(tensor_parallel_size=4), 32)


@pytest.mark.usefixtures("two_gpus")
def test_a_batch_that_does_not_divide_is_refused() -> None:
    with pytest.raises(
        HardwareError, match=r"train.global_batch_size=7 does not divide among 2 devices"
    ):
        resolve(HardwareConfig(), 7)


@pytest.mark.skipif("+cpu" not in version("torch"), reason="this torch is no CPU build")
def test_a_cuda_build_beside_the_cpu_torch_names_its_cure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    check_installation()
    metadata = tmp_path / "torchvision-0.28.0.dist-info" / "METADATA"
    metadata.parent.mkdir()
    metadata.write_text("Metadata-Version: 2.1\nName: torchvision\nVersion: 0.28.0\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(HardwareError, match=r"torchvision 0.28.0 .*pip uninstall -y torchvision"):
        check_installation()
