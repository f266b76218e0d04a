"""AdamW with 8-bit moments that FSDP2 shards: torchao's, with rules that no number of processes
changes.

torchao decides by a process's own shard what takes 8 bits, and its blocks may end beyond a shard,
where a checkpoint cannot be split for another number of processes. Here the whole weight decides,
and blocks end with rows, which sharding leaves whole.
"""

import math
from collections.abc import Callable, Iterable
from contextlib import nullcontext
from typing import Any

import torch
import torch.compiler.config
import torch.distributed as dist
from torch import nn
from torch._dynamo.exc import TorchDynamoException
from torch.distributed.tensor import DTensor
from torchao.optim import AdamW8bit

from ssd.errors import SSDError
from ssd.train.chunks import MOMENT_BLOCK

SMALLEST = 4096
"""Weights of a matrix whose moments take 8 bits, at least; bitsandbytes' limit."""


class ShardedAdamW8bit(AdamW8bit):
    """AdamW whose moments take 8 bits in matrices of rows that blocks of 64 fill, and 32 in all
    others: in vectors, in small matrices and in `whole`."""

    def __init__(
        self,
        params: Any,
        *,
        whole: Iterable[nn.Parameter] = (),
        compiles: bool = True,
        **settings: Any,
    ) -> None:
        """
        Args:
            whole: weights whose moments keep 32 bits.
            compiles: fuse a step's operations; eagerly they take many times the memory traffic.
        """
        super().__init__(params, block_size=MOMENT_BLOCK, **settings)
        self.whole = {id(parameter) for parameter in whole}
        self.compiles = compiles

    def _new_buffer(self, p: Any, signed: bool) -> Any:  # torchao's hook
        sharded = isinstance(p, DTensor)
        local = p.to_local() if sharded else p
        fills = math.prod(p.shape[1:]) % MOMENT_BLOCK == 0 and p.numel() >= SMALLEST
        if id(p) in self.whole or not fills or not local.numel():
            return torch.zeros_like(p)
        moment = self._subclass_zeros(local, signed, MOMENT_BLOCK)
        if sharded:
            moment = DTensor.from_local(
                moment,
                p.device_mesh,
                p.placements,
                run_check=False,
                shape=p.shape,
                stride=p.stride(),
            )
        return moment.to(p.device)  # offloaded weights lie elsewhere than their mesh

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """As of any optimizer.

        Raises:
            SSDError: the compiler failed.
        """
        # The compiler's cache takes sharded weights of all ranks for the same, and would give this
        # rank what another has compiled for its GPU and its number of rows.
        rank = dist.get_rank() if dist.is_initialized() else 0
        config: Any = torch.compiler.config
        for group in self.param_groups:  # torchao takes the rate as a tensor
            group["lr"] = torch.as_tensor(group["lr"], dtype=torch.float32)
        try:
            # Made in the `with`: a stance holds from where it is made.
            with (
                config.patch(cache_key_tag=f"rank {rank}"),
                nullcontext() if self.compiles else torch.compiler.set_stance("force_eager"),
            ):
                return super().step(closure)
        except TorchDynamoException as error:
            raise SSDError(
                "the compiler failed in the step of 8-bit moments: set "
                "hardware.compile_training=false, and the same command goes on without it"
            ) from error
