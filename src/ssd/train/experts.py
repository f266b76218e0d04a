"""Mixtures of experts: their matrix products in the dtype of autocast, and the loss that balances
their load.

N tokens, E experts, D documents.
"""

from typing import Any

import torch
from torch import Tensor, nn

from ssd.train.data import MicroBatch
from ssd.train.loss import IGNORE

GROUPED = "ssd_grouped_mm"


def register_experts() -> str:
    """Make `grouped_experts` known to transformers; returns the name it is chosen by."""
    from transformers.integrations.moe import ALL_EXPERTS_FUNCTIONS

    ALL_EXPERTS_FUNCTIONS.register(GROUPED, grouped_experts)
    return GROUPED


def grouped_experts(
    experts: nn.Module, hidden_states: Tensor, top_k_index: Tensor, top_k_weights: Tensor
) -> Tensor:
    """All experts of a layer in two grouped matrix products; transformers calls it in every layer.

    Under autocast they are bf16 as those of linear layers are. torch's grouped product does not
    know autocast (pytorch issue 174763), and would run in the weights' fp32.
    """
    from transformers.integrations.moe import grouped_mm_experts_forward

    kind = hidden_states.device.type
    if torch.is_autocast_enabled(kind):
        dtype = torch.get_autocast_dtype(kind)
        hidden_states = hidden_states.to(dtype)
        experts = _Cast(experts, dtype)  # type: ignore[assignment]
    return grouped_mm_experts_forward(experts, hidden_states, top_k_index, top_k_weights)


class _Cast:
    """A module whose tensors are read in another dtype."""

    def __init__(self, module: nn.Module, dtype: torch.dtype) -> None:
        self.module = module
        self.dtype = dtype

    def __getattr__(self, name: str) -> Any:
        value = getattr(self.module, name)
        return value.to(self.dtype) if isinstance(value, Tensor) else value


def balance_loss(router_logits: tuple[Tensor, ...], batch: MicroBatch, top_k: int) -> Tensor:
    """Load-balancing loss of each document (Fedus et al. 2021, arXiv:2101.03961, eq. 4, over all
    layers as transformers has it), weighted by the document's share of the step's loss.

    Per document, because over whole rows it would depend on what is packed beside it, and so on
    the hardware. `router_logits` are (N, E), one per routed layer, and N all positions of `batch`.
    """
    documents = token_documents(batch)  # (N,)
    num_documents = int(documents.max()) + 1
    num_experts = router_logits[0].shape[1]
    picked = probability = router_logits[0].new_zeros(num_documents, num_experts).float()  # (D, E)
    for logits in router_logits:
        probabilities = logits.float().softmax(-1)  # (N, E)
        chosen = probabilities.topk(top_k).indices
        ones = torch.zeros_like(probabilities).scatter_(1, chosen, 1.0)
        picked = picked.index_add(0, documents, ones)
        probability = probability.index_add(0, documents, probabilities)
    tokens = documents.bincount(minlength=num_documents)[:, None] * len(router_logits)  # (D, 1)
    tokens = tokens.clamp(min=1)
    loss = num_experts * (picked / tokens * probability / tokens).sum(-1)  # (D,)
    shares = (batch.weights * (batch.labels != IGNORE)).flatten()  # (N,)
    return (loss * torch.zeros_like(loss).index_add(0, documents, shares)).sum()


def token_documents(batch: MicroBatch) -> Tensor:
    """Which document each position belongs to, (N,); padding and rows without a loss are the last,
    which weighs nothing."""
    if batch.lengths is not None:
        lengths = torch.tensor(batch.lengths, device=batch.labels.device)
        return torch.arange(len(lengths), device=lengths.device).repeat_interleave(lengths)
    rows, positions = batch.labels.shape
    index = torch.arange(positions, device=batch.labels.device)
    # The last label of a document stands one position before its end.
    ends = ((batch.labels != IGNORE) * (index + 2)).amax(1, keepdim=True)  # (B, 1)
    row = torch.arange(rows, device=index.device)[:, None]
    return torch.where(index < ends, row, rows).flatten()
