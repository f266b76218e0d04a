"""How much memory vLLM is given: for everything, and for its key-value cache."""

import math
import os
from pathlib import Path

from ssd.artifacts.files import read_json
from ssd.config.choices import Accelerator
from ssd.config.settings import HardwareConfig
from ssd.errors import HardwareError
from ssd.models.names import MODEL_CONFIG
from ssd.models.weights import model_length, weight_bytes
from ssd.runtime.devices import UTILIZATION, device_memory
from ssd.runtime.gpus import visible_gpus
from ssd.runtime.hardware import CPU_SEQUENCES, available_memory

CPU_BLOCK, GPU_BLOCK = 32, 16
"""Tokens in a block of the key-value cache; on GPUs the size that vLLM chooses for most kernels."""
FP32 = 4


def memory_share(folder: Path, hardware: HardwareConfig) -> float:
    """The share of GPU memory (on CPU: of main memory) that vLLM may use. It refuses to start if
    less than that is free.

    Raises:
        HardwareError: weights and cache do not fit.
    """
    if hardware.memory_utilization is not None:
        return hardware.memory_utilization
    if hardware.accelerator is not Accelerator.cpu:
        gpus = visible_gpus()[: hardware.engine_devices]
        free = min((gpu.free / gpu.memory for gpu in gpus if gpu.memory), default=1.0)
        return UTILIZATION * free
    total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    needed = 2 * weight_bytes(folder) + hardware.kv_cache_gib * 2**30 + 2**30
    if needed > available_memory():
        raise HardwareError(
            f"the engine needs about {needed / 2**30:.1f} GiB of memory and "
            f"{available_memory() / 2**30:.1f} GiB are free: "
            "stop other programs, lower hardware.kv_cache_gib, or use a smaller model"
        )
    return min(0.95, needed / total)


def cache_blocks(folder: Path, hardware: HardwareConfig, max_model_len: int | None) -> int | None:
    """Blocks of the key-value cache that `hardware.max_num_seqs` sequences of `max_model_len`
    tokens can use, and one that vLLM keeps empty; None where they may not fit, or layers differ in
    what they keep, so that vLLM fills the memory it may claim.

    vLLM makes a Python object per block: a tiny model on a GPU of 140 GB, 500 million tokens, takes
    a minute for them alone.
    """
    config = read_json(folder / MODEL_CONFIG)
    config = config.get("text_config", config)
    length = max_model_len or model_length(folder)
    uniform = len(set(config.get("layer_types") or ("full_attention",))) == 1
    heads = config.get("num_key_value_heads") or config.get("num_attention_heads")
    if length is None or heads is None or not uniform:
        return None
    head_dim = config.get("head_dim") or config["hidden_size"] // config["num_attention_heads"]
    on_cpu = hardware.accelerator is Accelerator.cpu
    block = CPU_BLOCK if on_cpu else GPU_BLOCK
    blocks = (hardware.max_num_seqs or CPU_SEQUENCES) * math.ceil(length / block) + 1
    token_bytes = 2 * FP32 * config["num_hidden_layers"] * heads * head_dim  # fp32 at most
    room: float = hardware.kv_cache_gib * 2**30
    if not on_cpu:
        share = hardware.memory_utilization or UTILIZATION
        # A quarter of what is left: attention kernels may choose larger blocks.
        room = (share * device_memory(hardware, None)[0] - 2 * weight_bytes(folder)) / 4
    return blocks if blocks * block * token_bytes <= room else None
