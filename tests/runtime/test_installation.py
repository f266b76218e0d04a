"""What the installed packages and compilers allow."""

import dataclasses
import importlib.metadata
import importlib.util
import shutil
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import pytest
from runs import compose_config

from ssd import doctor
from ssd.config.choices import Accelerator
from ssd.config.settings import HardwareConfig, RunConfig
from ssd.errors import HardwareError
from ssd.runtime.findings import State
from ssd.runtime.hardware import resolve
from ssd.runtime.installation import (
    check_installation,
    check_training,
    follow_installation,
    require_build,
    require_engine,
)

CPU_BUILD = pytest.mark.skipif("+cpu" not in version("torch"), reason="torch is no CPU build")


@pytest.mark.usefixtures("no_gpus")
@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["optimizer=paged_adamw8bit"], "needs an NVIDIA GPU.*use optimizer=adamw8bit"),
        (["hardware.head=liger"], "hardware.head=liger needs an NVIDIA GPU"),
        (["hardware.attention=flash_attention_2"], "use hardware.attention=varlen"),
        (["hardware.attention=flash_attention_3"], "use hardware.attention=varlen"),
        (["hardware.cpu_offload=true", "hardware.devices=2"], "cpu_offload=true needs an NVIDIA"),
        (["hardware.offload_activations=true"], "offload_activations=true needs an NVIDIA GPU"),
    ],
)
def test_what_needs_a_gpu_is_refused_without_one(overrides: list[str], message: str) -> None:
    config = compose_config("model=tiny", "hardware=cpu", *overrides)
    with pytest.raises(HardwareError, match=message):
        check_training(dataclasses.replace(config, hardware=resolve(config.hardware)))


def test_moments_that_shard_need_torchao(monkeypatch: pytest.MonkeyPatch) -> None:
    config = compose_config("model=tiny", "hardware=cpu", "optimizer=adamw8bit_sharded")
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "torchao" else find(name)
    )
    with pytest.raises(HardwareError, match=r"\.\[torchao\].*use optimizer=adamw"):
        check_training(config)


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
    assert "requirements/gpu-*.txt" in capsys.readouterr().out
    typed = HardwareConfig(accelerator=Accelerator.gpu)
    assert follow_installation(typed).accelerator is Accelerator.gpu  # a plan is for any machine
    with pytest.raises(HardwareError, match=r"accelerator=gpu.*gpu-.*txt, or use hardware=cpu"):
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
        which = shutil.which
        monkeypatch.setattr(shutil, "which", lambda name: None if "++" in name else which(name))
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


@pytest.mark.usefixtures("no_gpus")
def test_vllm_for_gpus_is_refused_where_engines_would_start_on_a_cpu(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def config(*overrides: str) -> RunConfig:
        return compose_config("model=tiny", "hardware=cpu", *overrides)

    require_engine(config())  # a build for CPUs, or none
    found = importlib.metadata.version
    monkeypatch.setattr(
        importlib.metadata, "version", lambda name: "0.32.0" if name == "vllm" else found(name)
    )
    with pytest.raises(HardwareError, match=r"nvidia-smi.*cpu-\*\.txt.*sampler=transformers"):
        require_engine(config())
    assert doctor.vllm("vllm").state is State.refused
    require_engine(config("sampler=transformers"))
    served = ("sampler=openai", "sampler.url=http://127.0.0.1:9/v1", "stages=[sample]")
    require_engine(config(*served))
    require_engine(compose_config("model=tiny", "hardware=gpu_1"))


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
