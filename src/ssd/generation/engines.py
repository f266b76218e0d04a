"""The engines behind the protocol: vLLM, transformers where vLLM does not install, and a server;
each is imported when it starts, because that takes seconds and one may not be installed."""

import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Self

from ssd.arms import BASE
from ssd.config.choices import EngineName
from ssd.config.settings import HardwareConfig, ModelConfig, SamplerConfig
from ssd.generation.engine import Engine
from ssd.generation.local_replica import divide, part_of
from ssd.generation.messages import Load
from ssd.generation.replicas import Replicas
from ssd.run import Run, lineage
from ssd.runtime.installation import require_ray
from ssd.runtime.precision import compute_dtype

Start = Callable[..., Engine]
"""Called with the arguments that `load_engine` passes on."""


def _vllm() -> Start:
    from ssd.generation.vllm_engine import VllmEngine

    return VllmEngine


def _transformers() -> Start:
    from ssd.generation.transformers_engine import TransformersEngine

    return TransformersEngine


def _openai() -> Start:
    from ssd.generation.openai_engine import OpenAIEngine

    return OpenAIEngine


ENGINES: dict[EngineName, Callable[[], Start]] = {
    EngineName.vllm: _vllm,
    EngineName.transformers: _transformers,
    EngineName.openai: _openai,
}


def load_engine(
    name: EngineName,
    folder: Path,
    model: ModelConfig,
    hardware: HardwareConfig,
    *,
    max_model_len: int | None,
    adapter: Path | None = None,
    sampler: SamplerConfig | None = None,
) -> Engine:
    """Load the checkpoint in `folder`, and the adapter in `adapter` onto it, into the engine
    called `name`; `hardware` is resolved. A bf16 model computes in fp32 on a CPU without bf16
    products. A server has loaded it already: `sampler` says where it is.

    Raises:
        HardwareError: the engine is not installed, or cannot get the memory it needs; the server
            does not answer as it has to.
    """
    model = replace(model, dtype=compute_dtype(model.dtype, hardware))
    start = ENGINES[name]()
    where = {"sampler": sampler} if name is EngineName.openai else {}
    return start(folder, model, hardware, max_model_len=max_model_len, adapter=adapter, **where)


class LazyEngine:
    """An engine that is started when the first token has to be drawn and ends with this context;
    several decodings share it."""

    def __init__(self, start: Callable[[], Engine]) -> None:
        self.start = start
        self.stack = ExitStack()
        self.engine: Engine | None = None
        self.start_seconds = 0.0
        """Seconds that the start took; 0 if nothing had to be drawn."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.stack.close()

    def get(self) -> Engine:
        """The engine, running."""
        if self.engine is None:
            started = time.monotonic()
            self.engine = self.stack.enter_context(self.start())
            self.start_seconds = time.monotonic() - started
        return self.engine


def run_engine(
    run: Run, model: str = BASE, step: int | None = None, *, max_model_len: int | None
) -> LazyEngine:
    """The engine of one of a run's models, of a step of its training."""
    config = run.config

    def start() -> Engine:
        lineage.require_model(run, model, step)
        return start_engine(
            Load(
                name=lineage.engine(run, model),
                folder=lineage.model_folder(run, model, step),
                model=config.model,
                hardware=config.hardware,
                max_model_len=max_model_len,
                adapter=lineage.adapter_folder(run, model, step),
                sampler=config.sampler,
            )
        )

    return LazyEngine(start)


def start_engine(load: Load) -> Engine:
    """The engine in this process, or `hardware.replicas` of them in processes of their own, here or
    on a cluster; a server decides by itself how many it is."""
    if load.hardware.pool.is_elsewhere and load.name is not EngineName.openai:
        require_ray()
        from ssd.generation.ray_pool import ray_replicas

        return ray_replicas(load)
    if load.hardware.num_replicas > 1 and load.name is not EngineName.openai:
        return Replicas(divide(load.hardware), replace(load, hardware=part_of(load.hardware)))
    return load_engine(
        load.name,
        load.folder,
        load.model,
        load.hardware,
        max_model_len=load.max_model_len,
        adapter=load.adapter,
        sampler=load.sampler,
    )
