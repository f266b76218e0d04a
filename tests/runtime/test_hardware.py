import dataclasses
import math
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import pytest
import torch
from runs import compose_config

from ssd.config.choices import Accelerator, Dtype, Precision
from ssd.config.settings import HardwareConfig
from ssd.errors import ConfigError, HardwareError
from ssd.runtime import hardware
from ssd.runtime.gpus import visible_gpus
from ssd.runtime.hardware import (
    busy_cores,
    check_installation,
    check_training,
    compute_dtype,
    core_quota,
    cores_beside,
    follow_installation,
    multiplies_bf16,
    note_products,
    product_precision,
    require_build,
    resolve,
    thread_settings,
)

CPU_BUILD = pytest.mark.skipif("+cpu" not in version("torch"), reason="torch is no CPU build")


@pytest.fixture
def two_gpus(show_gpus: Callable[[str, int, int], None]) -> None:
    """A machine whose nvidia-smi lists two GPUs."""
    show_gpus("NVIDIA H100", 81559, 2)


@pytest.fixture
def no_gpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine without nvidia-smi."""
    monkeypatch.setenv("PATH", str(tmp_path))


@pytest.mark.usefixtures("no_gpus")
def test_auto_takes_the_cpu_where_there_is_no_gpu() -> None:
    found = resolve(HardwareConfig())
    assert (found.accelerator, found.devices) == (Accelerator.cpu, 1)


@pytest.mark.usefixtures("two_gpus")
def test_auto_takes_every_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    found = resolve(HardwareConfig())
    assert (found.accelerator, found.devices) == (Accelerator.gpu, 2)
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


@pytest.mark.usefixtures("two_gpus")
def test_a_batch_smaller_than_the_devices_found_is_refused() -> None:
    config = compose_config("model=tiny", "train.global_batch_size=1")
    with pytest.raises(ConfigError, match=r"global_batch_size=1 leaves some of the 2 .* processes"):
        dataclasses.replace(config, hardware=resolve(config.hardware))


@pytest.mark.usefixtures("no_gpus")
@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["optimizer=paged_adamw8bit"], "needs an NVIDIA GPU.*use optimizer=adamw8bit"),
        (["hardware.head=liger"], "hardware.head=liger needs an NVIDIA GPU"),
        (["hardware.attention=flash_attention_2"], "use hardware.attention=varlen"),
        (["hardware.attention=flash_attention_3"], "use hardware.attention=varlen"),
        (["hardware.cpu_offload=true", "hardware.devices=2"], "cpu_offload=true needs an NVIDIA"),
    ],
)
def test_what_needs_a_gpu_is_refused_without_one(overrides: list[str], message: str) -> None:
    config = compose_config("model=tiny", "hardware=cpu", *overrides)
    with pytest.raises(HardwareError, match=message):
        check_training(dataclasses.replace(config, hardware=resolve(config.hardware)))


FLASH_3 = "hardware.attention=flash_attention_3"


@pytest.mark.parametrize(
    ("capability", "installed", "overrides", "message"),
    [
        ("9.0", False, [], "flash_attn_3"),
        ("8.0", True, [], r"capability 9 .* 8\.0"),
        ("9.0", True, ["train.precision=fp32"], "train.precision=fp32"),
        ("9.0", True, [], None),
    ],
)
def test_flash_attention_3_needs_its_package_a_hopper_card_and_bf16(
    show_gpus: Callable[..., None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capability: str, installed: bool, overrides: list[str], message: str | None,
) -> None:  # fmt: skip
    show_gpus("NVIDIA H100", 81559, 1, capability)
    if installed:
        (tmp_path / "flash_attn_interface.py").touch()
        monkeypatch.syspath_prepend(tmp_path)
    config = compose_config("model=tiny", FLASH_3, *overrides)
    config = dataclasses.replace(config, hardware=resolve(config.hardware))
    if message is None:
        return check_training(config)
    with pytest.raises(HardwareError, match=f"{FLASH_3}.*{message}.*hardware.attention=varlen"):
        check_training(config)


@pytest.mark.usefixtures("two_gpus")
@CPU_BUILD
def test_a_torch_that_knows_no_gpu_leaves_those_that_are_here_unused(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert resolve(follow_installation(HardwareConfig())).accelerator is Accelerator.cpu
    assert "pip install -e '.[gpu]'" in capsys.readouterr().out
    typed = HardwareConfig(accelerator=Accelerator.gpu)
    assert follow_installation(typed).accelerator is Accelerator.gpu  # a plan is for any machine
    with pytest.raises(HardwareError, match=r"accelerator=gpu.*'\.\[gpu\]'.*use hardware=cpu"):
        require_build(typed)
    require_build(HardwareConfig(accelerator=Accelerator.cpu))
    assert capsys.readouterr().out == ""


@pytest.mark.usefixtures("two_gpus")
@pytest.mark.parametrize(
    ("variable", "compiler", "message"),
    [
        ("CC", "false", "false does not compile (exit 1)"),
        ("CXX", "g++ -nostdinc++", "g++ -nostdinc++ does not compile (<stdin>:1:10: fatal error"),
        ("CXX", None, "no C++ compiler (g++ or clang++) is installed"),
    ],
)
def test_where_no_compiler_works_nothing_is_compiled_unless_it_is_typed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
    variable: str, compiler: str | None, message: str,
) -> None:  # fmt: skip
    typed = HardwareConfig(accelerator=Accelerator.gpu)
    assert follow_installation(typed) == typed
    assert capsys.readouterr().out == ""
    if compiler is None:
        found = shutil.which
        monkeypatch.setattr(shutil, "which", lambda name: None if "++" in name else found(name))
    else:
        monkeypatch.setenv(variable, compiler)
    eager = follow_installation(typed)
    assert (eager.compile_training, eager.compile_engine) == (False, False)
    printed = capsys.readouterr().out
    assert printed.startswith(f"note: {message}")
    assert "hardware.compile_engine are false unless" in printed
    compiled = dataclasses.replace(typed, compile_training=True, compile_engine=True)
    assert follow_installation(compiled) == compiled


@pytest.mark.usefixtures("no_gpus")
def test_a_machine_without_gpus_hears_nothing_about_them(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert follow_installation(HardwareConfig()) == HardwareConfig()
    require_build(HardwareConfig(accelerator=Accelerator.gpu))  # `resolve` refuses
    assert capsys.readouterr().out == ""


@CPU_BUILD
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


def test_cores_that_another_program_keeps_busy_are_counted() -> None:
    with subprocess.Popen([sys.executable, "-c", "while True: pass"]) as program:
        busy = busy_cores()
        program.kill()
    assert busy > 0.4


@pytest.mark.parametrize(
    ("busy", "cores", "allowed", "free"),
    [
        (0.0, 2, 2, 2),
        (0.4, 2, 2, 2),
        (0.9, 2, 2, 1),
        (2.0, 2, 2, 1),
        (3.2, 16, 16, 13),
        (8.0, 16, 4, 4),
        (13.9, 16, 4, 2),
    ],
)
def test_threads_leave_other_programs_their_cores(
    busy: float, cores: int, allowed: int, free: int
) -> None:
    assert cores_beside(busy, cores=cores, allowed=allowed) == free


def test_a_containers_share_of_the_processor_limits_threads(tmp_path: Path) -> None:
    own, groups = tmp_path / "own", tmp_path / "groups"
    (groups / "user" / "shell").mkdir(parents=True)
    own.write_text("1:cpu:/elsewhere\n0::/user/shell\n")
    assert core_quota(own, groups) == math.inf
    (groups / "user" / "shell" / "cpu.max").write_text("max 100000\n")
    assert core_quota(own, groups) == math.inf
    (groups / "user" / "cpu.max").write_text("150000 100000\n")
    assert core_quota(own, groups) == 1.5
    assert core_quota(tmp_path / "none", groups) == math.inf


def test_a_busy_machine_leaves_one_thread_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.delenv("OMP_WAIT_POLICY", raising=False)
    monkeypatch.setattr("ssd.runtime.hardware.LOOKS", (0.01, 0.02))
    unchanging = tmp_path / "stat"
    unchanging.write_text("cpu  0 0 0 100 0 0 0 0 0 0\n")  # no core is ever idle
    monkeypatch.setattr("ssd.runtime.hardware.PROC_STAT", unchanging)
    assert thread_settings() == {"OMP_WAIT_POLICY": "passive", "OMP_NUM_THREADS": "1"}
    (line,) = capsys.readouterr().out.splitlines()
    cores = os.cpu_count()
    assert f"{cores}.0 of {cores} cores" in line
    assert "OMP_NUM_THREADS=N" in line


def test_a_quiet_machine_is_used_whole_without_a_word(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr("ssd.runtime.hardware.PROC_STAT", tmp_path / "none")
    cores = len(os.sched_getaffinity(0))
    assert thread_settings() == {"OMP_NUM_THREADS": str(cores)}
    assert thread_settings(processes=10 * cores)["OMP_NUM_THREADS"] == "1"
    assert not capsys.readouterr().out


def test_what_the_user_sets_for_threads_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ssd.runtime.hardware.LOOKS", (0.01,))
    unchanging = tmp_path / "stat"
    unchanging.write_text("cpu  0 0 0 100 0 0 0 0 0 0\n")  # no core is ever idle
    monkeypatch.setattr("ssd.runtime.hardware.PROC_STAT", unchanging)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setenv("OMP_WAIT_POLICY", "active")
    assert thread_settings() == {"OMP_NUM_THREADS": "1"}
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    assert thread_settings() == {}


CPU = HardwareConfig(accelerator=Accelerator.cpu)


@pytest.mark.parametrize(
    ("cpu", "multiplies"),
    [
        ("flags\t\t: fma avx avx2", False),
        ("flags\t\t: avx2 avx512f avx512bw", True),
        ("Features\t: fp asimd", False),
        ("Features\t: fp asimd bf16", True),
        ("model name: one that tells nothing", True),
    ],
)
def test_bf16_is_computed_in_fp32_on_a_cpu_without_products_of_it(
    cpu: str,
    multiplies: bool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "cpuinfo").write_text(f"processor\t: 0\n{cpu}\n")
    monkeypatch.setattr(hardware, "CPU_INFO", tmp_path / "cpuinfo")
    asked, instead = (Dtype.bfloat16, Precision.bf16), (Dtype.float32, Precision.fp32)
    assert (
        compute_dtype(Dtype.bfloat16, CPU),
        product_precision(Precision.bf16, CPU),
    ) == (asked if multiplies else instead)
    assert compute_dtype(Dtype.float16, CPU) is Dtype.float16
    assert product_precision(Precision.fp32, CPU) is Precision.fp32
    assert multiplies_bf16(HardwareConfig(accelerator=Accelerator.gpu))
    note_products(compose_config("model=tiny", "hardware=cpu"))
    assert ("no bf16 products" in capsys.readouterr().out) == (not multiplies)


def test_onednn_says_the_same_of_this_cpu() -> None:
    assert multiplies_bf16(CPU) == torch.ops.mkldnn._is_mkldnn_bf16_supported()
