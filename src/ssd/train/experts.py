"""Mixtures of experts: their matrix products in the dtype of autocast, and the loss that balances
their load.

N tokens, E experts, K of them per token.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ssd.train.batches import MicroBatch
from ssd.train.loss import IGNORE

GROUPED = "ssd_grouped_mm"


def register_experts() -> str:
    """Make `grouped_experts` known to transformers; returns the name it is chosen by."""
    from transformers.integrations.moe import ALL_EXPERTS_FUNCTIONS

    ALL_EXPERTS_FUNCTIONS.register(GROUPED, grouped_experts)
    return GROUPED


def grouped_experts(
    experts: Any, hidden_states: Tensor, top_k_index: Tensor, top_k_weights: Tensor
) -> Tensor:
    """All experts of a layer in two grouped matrix products; transformers calls it in every layer.

    Like its own `grouped_mm_experts_forward` but for two things. Under autocast the products are
    bf16, as those of linear layers are: torch's grouped product does not know autocast (pytorch
    issue 174763) and runs in the weights' fp32. And biases are not added in place, which selective
    recomputation, having kept the product, refuses.

    Args:
        hidden_states: (N, D), D the hidden width.
        top_k_index: (N, K), the experts of each token.
        top_k_weights: (N, K).

    Returns:
        (N, D).
    """
    kind = hidden_states.device.type
    autocast = torch.is_autocast_enabled(kind)
    dtype = torch.get_autocast_dtype(kind) if autocast else experts.down_proj.dtype
    # Pairs of token and expert, by expert.
    chosen, order = top_k_index.flatten().sort(stable=True)  # (NK,)
    numbers = torch.arange(experts.num_experts, device=chosen.device)
    ends = torch.searchsorted(chosen, numbers, right=True).int()  # (E,)

    def product(rows: Tensor, name: str) -> Tensor:
        weight = getattr(experts, name).to(dtype)  # (E, in, out) where transposed
        weight = weight if experts.is_transposed else weight.transpose(1, 2)
        output = F.grouped_mm(rows, weight, offs=ends)
        bias = getattr(experts, f"{name}_bias")[chosen] if experts.has_bias else None
        return output if bias is None else output + bias.to(dtype)

    states = hidden_states[order // top_k_index.shape[1]].to(dtype)  # (NK, D)
    if experts.has_gate:
        inner = experts._apply_gate(product(states, "gate_up_proj"))
    else:
        inner = experts.act_fn(product(states, "up_proj"))
    weighted = product(inner, "down_proj") * top_k_weights.flatten()[order, None]
    return weighted[order.argsort()].view(*top_k_index.shape, -1).sum(1).to(hidden_states.dtype)


def balance_loss(router_logits: tuple[Tensor, ...], batch: MicroBatch, top_k: int) -> Tensor:
    """Load-balancing loss of each document (Fedus et al. 2021, arXiv:2101.03961, eq. 4, over all
    layers as transformers has it), weighted by the document's share of the step's loss.

    Per document, because over whole rows it would depend on what is packed beside it, and so on
    the hardware. `router_logits` are (N, E), one per routed layer, and N all positions of `batch`.
    """
    documents = token_documents(batch)  # (N,)
    num_documents = int(documents.max()) + 1
    num_experts = router_logits[0].shape[1]
    picked = probability = router_logits[0].new_zeros(num_documents, num_experts).float()
    for logits in router_logits:
        probabilities = logits.float().softmax(-1)  # (N, E)
        chosen = probabilities.topk(top_k).indices
        ones = torch.zeros_like(probabilities).scatter_(1, chosen, 1.0)
        picked = picked.index_add(0, documents, ones)
        probability = probability.index_add(0, documents, probabilities)
    tokens = documents.bincount(minlength=num_documents)[:, None] * len(router_logits)
    tokens = tokens.clamp(min=1)
    loss = num_experts * (picked / tokens * probability / tokens).sum(-1)
    shares = (batch.weights * (batch.labels != IGNORE)).flatten()  # (N,)
    return (loss * torch.zeros_like(loss).index_add(0, documents, shares)).sum()


def token_documents(batch: MicroBatch) -> Tensor:
    """The document of each position, (N,); padding and rows without a loss belong to the last,
    whose weight is 0."""
    if batch.lengths is not None:
        lengths = torch.tensor(batch.lengths, device=batch.labels.device)
        return torch.arange(len(lengths), device=lengths.device).repeat_interleave(lengths)
    rows, positions = batch.labels.shape
    index = torch.arange(positions, device=batch.labels.device)
    # The last label of a document stands one position before its end.
    ends = ((batch.labels != IGNORE) * (index + 2)).amax(1, keepdim=True)  # (B, 1)
    row = torch.arange(rows, device=index.device)[:, None]
    return torch.where(index < ends, row, rows).flatten()
