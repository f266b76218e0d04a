"""What vLLM needs before it loads a model: environment, settings on CPUs, an adapter's rank."""

import os
import tempfile
from pathlib import Path
from typing import Any, get_args

from ssd.artifacts.files import read_json
from ssd.config.choices import Accelerator, Dtype
from ssd.config.settings import HardwareConfig
from ssd.errors import HardwareError
from ssd.generation.vllm_memory import CPU_BLOCK
from ssd.models.miniature import layer_kinds
from ssd.models.names import ADAPTER_CONFIG
from ssd.models.vocabulary import unnamed_ids
from ssd.runtime.reporting import REASON
from ssd.runtime.threads import thread_settings

SOCKETS = "VLLM_RPC_BASE_PATH"
"""Environment variable: the folder where vLLM creates its processes' sockets and leaves them."""
LONGEST_FOLDER = 50
"""Longest name of that folder, in characters: Linux allows 107 for the whole name of a socket."""
MERGE = "set adapter.merge=true, which trains nothing again"


def prepare_environment(hardware: HardwareConfig) -> None:
    """Set the variables that vLLM reads at import, except those that the user has set."""
    variables = {
        "VLLM_LOGGING_LEVEL": "ERROR",
        "VLLM_NO_USAGE_STATS": "1",
        "VLLM_WORKER_MULTIPROC_METHOD": "spawn",
    }
    if hardware.accelerator is Accelerator.cpu:
        variables |= {
            "VLLM_CPU_KVCACHE_SPACE": str(hardware.kv_cache_gib),
            "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
            # vLLM's own binding left one of two cores idle here.
            "VLLM_CPU_OMP_THREADS_BIND": "nobind",
        } | thread_settings()
        if not hardware.compile_engine:  # vLLM would still compile one small function, with g++
            variables["TORCHDYNAMO_DISABLE"] = "1"
    for name, value in variables.items():
        os.environ.setdefault(name, value)


def short_folder() -> str:
    """The folder that goes with this process, even if it is killed, or else that for temporary
    files; /tmp if the name is too long for sockets."""
    folder = os.path.dirname(os.environ.get(REASON, "")) or tempfile.gettempdir()
    return folder if len(folder) <= LONGEST_FOLDER and os.path.isdir(folder) else "/tmp"


def cpu_settings(folder: Path) -> dict[str, Any]:
    """Settings that only the CPU engine gets, for the checkpoint in `folder`."""
    from ssd.generation.vllm_kernels import EXTENSION, IR_OP_PRIORITY

    return {
        # On CPU a seeded request that is prefilled in parts kills the engine ("CPU Generator does
        # not use offset"), so prompts are prefilled whole there.
        "enable_chunked_prefill": False,
        # The states of layers without attention are cached between parts of a prompt only.
        **({"enable_prefix_caching": False} if keeps_states(folder) else {}),
        # Only whole blocks of a prompt are cached: with the default of 128 tokens, three answers
        # to a short prompt prefill it three times and take 1.5 times as long.
        "block_size": CPU_BLOCK,
        "kernel_config": {"ir_op_priority": IR_OP_PRIORITY},
        "worker_extension_cls": EXTENSION,
    }


def logits_processors(folder: Path, on_cpu: bool) -> list[str]:
    """What this project changes in vLLM's logits for the checkpoint in `folder`."""
    from ssd.generation.vllm_truncation import TRUNCATION
    from ssd.generation.vllm_vocabulary import NAMED_ONLY

    processors = [NAMED_ONLY] if unnamed_ids(folder) else []
    return [*processors, TRUNCATION] if on_cpu else processors


def require_dtype_on_cpu(folder: Path, dtype: Dtype) -> None:
    """Raise `HardwareError` where vLLM's kernels for CPUs do not compute the checkpoint's layers in
    this type."""
    if dtype is not Dtype.bfloat16 and hasattr(_text_config(folder), "linear_num_value_heads"):
        raise HardwareError(
            f"model.dtype={dtype.value}: vLLM on a CPU knows gated delta nets in bfloat16 alone: "
            "set model.dtype=bfloat16, or use sampler=transformers"
        )


def _text_config(folder: Path) -> Any:
    from transformers import AutoConfig

    return AutoConfig.from_pretrained(folder).get_text_config()


def keeps_states(folder: Path) -> bool:
    """Whether layers of the checkpoint carry a state along instead of attending, as those of a
    gated delta net do."""
    kinds = layer_kinds(_text_config(folder))
    return any(kind == "linear_attention" or "attention" not in kind for kind in kinds)


def lora_rank(adapter: Path) -> int:
    """The smallest rank that vLLM offers and that holds the adapter in this folder.

    Raises:
        HardwareError: vLLM stops below the adapter's rank.
    """
    from vllm.config.lora import MaxLoRARanks

    rank = int(read_json(adapter / ADAPTER_CONFIG)["r"])
    offered: tuple[int, ...] = get_args(MaxLoRARanks)
    if rank > max(offered):
        raise HardwareError(
            f"{adapter} has rank {rank} and vLLM takes up to {max(offered)}; {MERGE}"
        )
    return min(fits for fits in offered if fits >= rank)
