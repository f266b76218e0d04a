"""What `auto` and null become on machines with and without GPUs."""

import dataclasses
from pathlib import Path

import pytest
from runs import compose_config

from ssd.config.choices import Accelerator, PoolName
from ssd.config.settings import HardwareConfig, PoolConfig
from ssd.errors import ConfigError, HardwareError
from ssd.runtime import hardware
from ssd.runtime.gpus import visible_gpus
from ssd.runtime.hardware import resolve


@pytest.mark.usefixtures("no_gpus")
def test_auto_takes_the_cpu_where_there_is_no_gpu() -> None:
    resolved = resolve(HardwareConfig())
    assert (resolved.accelerator, resolved.devices) == (Accelerator.cpu, 1)


@pytest.mark.usefixtures("two_gpus")
def test_auto_takes_every_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    resolved = resolve(HardwareConfig())
    assert (resolved.accelerator, resolved.devices) == (Accelerator.gpu, 2)
    assert resolve(HardwareConfig(accelerator=Accelerator.cpu)).accelerator is Accelerator.cpu
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    assert len(visible_gpus()) == 1
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert len(visible_gpus()) == 0


@pytest.mark.usefixtures("two_gpus")
def test_layers_are_compiled_on_gpus_unless_the_setting_says_otherwise() -> None:
    cpu = Accelerator.cpu
    assert resolve(HardwareConfig()).compile_training is True
    assert resolve(HardwareConfig(compile_training=False)).compile_training is False
    assert resolve(HardwareConfig(accelerator=cpu)).compile_training is False
    assert resolve(HardwareConfig(accelerator=cpu, compile_training=True)).compile_training is True


@pytest.mark.usefixtures("two_gpus")
def test_more_gpus_than_there_are_is_refused() -> None:
    with pytest.raises(HardwareError, match=r"asks for 8 GPU\(s\), this machine shows 2"):
        resolve(HardwareConfig(accelerator=Accelerator.gpu, devices=8))
    with pytest.raises(HardwareError, match="tensor_parallel_size=4 exceeds the 2"):
        resolve(HardwareConfig(tensor_parallel_size=4))


def test_a_cluster_may_hold_more_replicas_than_this_machine() -> None:
    elsewhere = PoolConfig(name=PoolName.ray)
    assert resolve(HardwareConfig(pool=elsewhere)).replicas is None
    assert resolve(HardwareConfig(pool=elsewhere, replicas=1000)).replicas == 1000


@pytest.mark.usefixtures("two_gpus")
def test_more_replicas_than_gpus_hold_are_refused() -> None:
    assert resolve(HardwareConfig(replicas=2)).replicas == 2
    with pytest.raises(HardwareError, match=r"hardware.replicas=3 .* 3 GPUs.*hardware.replicas=2"):
        resolve(HardwareConfig(replicas=3))
    with pytest.raises(HardwareError, match=r"tensor_parallel_size=2 needs 4 GPUs"):
        resolve(HardwareConfig(replicas=2, tensor_parallel_size=2))
    with pytest.raises(ConfigError, match=r"hardware\.replicas must be positive"):
        HardwareConfig(replicas=0)


@pytest.mark.usefixtures("no_gpus")
def test_a_replica_on_a_cpu_has_a_core_at_least() -> None:
    assert resolve(HardwareConfig()).replicas == 1
    with pytest.raises(HardwareError, match=r"hardware.replicas=1000 exceeds the \d+ core"):
        resolve(HardwareConfig(replicas=1000))


@pytest.mark.usefixtures("two_gpus")
def test_a_batch_smaller_than_the_devices_resolved_is_refused() -> None:
    config = compose_config("model=tiny", "train.global_batch_size=1")
    with pytest.raises(ConfigError, match=r"global_batch_size=1 leaves some of the 2 .* processes"):
        dataclasses.replace(config, hardware=resolve(config.hardware))


def test_memory_that_only_copies_files_counts_as_available(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Free pages alone would refuse an engine on a machine that has read much."""
    file = tmp_path / "meminfo"
    file.write_text("MemTotal: 100 kB\nMemFree: 1 kB\nMemAvailable: 80 kB\nCached: 79 kB\n")
    monkeypatch.setattr(hardware, "MEMORY", file)
    assert hardware.available_memory() == 80 * 1024
