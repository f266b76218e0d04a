"""Layers that carry a state along a row: gated delta nets, state spaces, short convolutions.

B rows, T tokens, D hidden width.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn


def recurrent_modules(network: nn.Module) -> list[nn.Module]:
    """The modules of a network that mix tokens by a state instead of attention. All that
    transformers has begin with a convolution over tokens, which nothing else in a decoder has."""
    return [
        module
        for module in network.modules()
        if any(isinstance(child, nn.Conv1d) for child in module.children())
    ]


def separate_documents(network: nn.Module) -> bool:
    """Let the network's recurrent modules begin anew with every document of a packed row; whether
    there are any."""
    modules = recurrent_modules(network)
    for module in modules:
        module.forward = DocumentByDocument(module.forward)
    return bool(modules)


class DocumentByDocument:
    """A recurrent module's forward pass over each document by itself.

    Its own arguments for packed rows, `seq_idx` and `cu_seqlens`, are read by CUDA kernels of other
    packages alone; transformers' PyTorch code (5.19) passes over them, and documents leak.
    """

    def __init__(self, forward: Callable[..., Tensor]) -> None:
        self.forward = forward

    def __call__(
        self, hidden_states: Tensor, *args: Any, seq_idx: Tensor | None = None, **kwargs: Any
    ) -> Tensor:
        """`hidden_states` (B, T, D), `seq_idx` (1, T) as `document_numbers` gives it."""
        if seq_idx is None:
            return self.forward(hidden_states, *args, **kwargs)
        lengths = seq_idx[0].bincount().tolist()
        # A training has neither cache nor padding; what else is in `kwargs` is about the whole row.
        return torch.cat([self.forward(part) for part in hidden_states.split(lengths, 1)], 1)


def document_numbers(lengths: list[int], device: torch.device) -> Tensor:
    """(1, T) which document of a packed row each token is in, from 0, int32."""
    numbers = torch.arange(len(lengths), dtype=torch.int32)
    return numbers.repeat_interleave(torch.tensor(lengths))[None].to(device)
