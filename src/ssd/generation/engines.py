"""The engines behind the protocol: vLLM, and transformers where vLLM does not install."""

from dataclasses import replace
from pathlib import Path

from ssd.config import EngineName, HardwareConfig, ModelConfig
from ssd.generation.records import Engine
from ssd.hardware import compute_dtype


def load_engine(
    name: EngineName,
    folder: Path,
    model: ModelConfig,
    hardware: HardwareConfig,
    *,
    max_model_len: int | None,
    adapter: Path | None = None,
) -> Engine:
    """Load the checkpoint in `folder`, and the adapter in `adapter` onto it, into the engine
    called `name`; `hardware` is resolved. A bf16 model computes in fp32 on a CPU without bf16
    products.

    Raises:
        HardwareError: the engine is not installed, or cannot get the memory it needs.
    """
    model = replace(model, dtype=compute_dtype(model.dtype, hardware))
    if name is EngineName.transformers:
        from ssd.generation.transformers_engine import TransformersEngine

        return TransformersEngine(folder, model, hardware, adapter=adapter)
    from ssd.generation.vllm_engine import VllmEngine

    return VllmEngine(folder, model, hardware, max_model_len=max_model_len, adapter=adapter)
