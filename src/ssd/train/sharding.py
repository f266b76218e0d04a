"""FSDP2: a model built without memory is split over the processes, then filled from rank 0."""

import re
from typing import Any

import torch

from ssd.config.choices import Precision
from ssd.config.settings import HardwareConfig, TrainConfig
from ssd.models.network import body
from ssd.runtime.precision import product_precision
from ssd.train.network import CompletionLoss


def shard(loss: CompletionLoss, mesh: Any, train: TrainConfig, hardware: HardwareConfig) -> None:
    """Split parameters over the mesh, one group per decoder layer and one for the rest (FSDP2).

    Gathered weights and products are bf16 under `train.precision=bf16`; masters, gradient sums and
    the optimizer stay fp32.
    """
    from torch.distributed.fsdp import (
        CPUOffloadPolicy,
        MixedPrecisionPolicy,
        OffloadPolicy,
        fully_shard,
    )

    halved = product_precision(train.precision, hardware) is Precision.bf16
    dtype = torch.bfloat16 if halved else torch.float32
    settings: dict[str, Any] = {
        "mesh": mesh,
        "mp_policy": MixedPrecisionPolicy(param_dtype=dtype, reduce_dtype=torch.float32),
        "offload_policy": CPUOffloadPolicy() if hardware.cpu_offload else OffloadPolicy(),
    }
    bodies = [loss.body] if loss.base is None else [loss.body, body(loss.base)]
    for layer in (layer for part in bodies for layer in part.layers):
        fully_shard(layer, **settings)
    fully_shard(loss, **settings)


def fill(loss: CompletionLoss, source: CompletionLoss | None, device: torch.device) -> None:
    """Give a sharded model on the meta device its weights: rank 0 holds `source` and sends every
    rank its part, one tensor at a time. A frozen copy of the base gets the same, unless `source`
    has one of its own."""
    from torch.distributed.tensor import DTensor, distribute_tensor

    buffers = {name: buffer.clone() for name, buffer in loss.named_buffers()}
    loss.to_empty(device=device)
    loss.model.tie_weights()
    if loss.base is not None:
        loss.base.tie_weights()
    with torch.no_grad():
        for name, buffer in loss.named_buffers():
            buffer.copy_(buffers[name])
    weights = dict(source.named_parameters()) if source is not None else {}
    for name, parameter in loss.named_parameters():
        assert isinstance(parameter, DTensor)
        mesh_device = parameter.device_mesh.device_type
        whole = torch.empty(parameter.shape, dtype=parameter.dtype, device=mesh_device)
        if source is not None:
            like = name if name in weights else re.sub(r"^base\.", "network.", name)
            whole.copy_(weights[like].detach())
        part = distribute_tensor(whole, parameter.device_mesh, parameter.placements)
        with torch.no_grad():
            parameter.to_local().copy_(part.to_local())
