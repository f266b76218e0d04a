"""The NVIDIA GPUs of this machine, by nvidia-smi, because importing torch would take seconds."""

import os
import re
import shutil
import subprocess
from dataclasses import dataclass

MIB = 2**20
FIELDS = ("index", "uuid", "name", "compute_cap", "memory.total", "memory.used")


@dataclass(frozen=True, slots=True)
class Gpu:
    """A GPU, or the slice (MIG) of one that this process computes on."""

    name: str
    """Its name in nvidia-smi."""
    capability: str
    """Its compute capability, such as `9.0`."""
    memory: float | None
    """Bytes; None if nvidia-smi does not say."""
    held: float
    """Bytes that other programs hold, in whole GiB: a display's own do not count."""

    @property
    def free(self) -> float:
        """Free bytes."""
        return (self.memory or 0.0) - self.held


def visible_gpus() -> list[Gpu]:
    """The GPUs that CUDA_VISIBLE_DEVICES leaves visible, in CUDA's order."""
    if shutil.which("nvidia-smi") is None:
        return []
    answer = _nvidia_smi(f"--query-gpu={','.join(FIELDS)}", "--format=csv,noheader,nounits")
    rows = [[field.strip() for field in line.split(",")] for line in answer.splitlines()]
    cards = [dict(zip(FIELDS, row, strict=True)) for row in rows if len(row) == len(FIELDS)]
    slices = _slices() if cards else {}
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is None:
        return [_gpu(card, list(slices.get(card["index"], {}).values())) for card in cards]
    return [
        gpu
        for name in filter(None, (name.strip() for name in visible.split(",")))
        for card in cards
        if (gpu := _named(name, card, slices.get(card["index"], {}))) is not None
    ]


def _named(name: str, card: dict[str, str], slices: dict[str, float]) -> Gpu | None:
    """The GPU or slice of this card that CUDA_VISIBLE_DEVICES means by `name`: an index, or the
    beginning of an identifier."""
    if name == card["index"] or card["uuid"].startswith(name):
        return _gpu(card, list(slices.values()))
    sizes = [size for uuid, size in slices.items() if uuid.startswith(name)]
    return _gpu(card, sizes) if sizes else None


def _gpu(card: dict[str, str], slices: list[float]) -> Gpu:
    memory: float | None = None
    held = 0.0
    if slices:
        memory = min(slices)
    elif card["memory.total"].isdigit():
        memory = int(card["memory.total"]) * MIB
        held = int(card["memory.used"]) // 1024 * 1024 * MIB
    return Gpu(card["name"], card["compute_cap"], memory, held)


def _slices() -> dict[str, dict[str, float]]:
    """Per index of a card, the identifiers of its slices (MIG) and their bytes by their profiles,
    such as `1g.10gb`."""
    slices: dict[str, dict[str, float]] = {}
    for line in _nvidia_smi("-L").splitlines():
        if card := re.match(r"GPU (\d+):", line):
            slices[card[1]] = {}
        elif part := re.search(r"MIG \S*?(\d+)gb.*UUID: (MIG-[^)]+)", line):
            list(slices.values())[-1][part[2]] = int(part[1]) * 1e9
    return slices


def _nvidia_smi(*arguments: str) -> str:
    command = ["nvidia-smi", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout
