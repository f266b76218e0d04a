"""The truncated, tempered distribution that a decoding draws from.

B rows, V vocabulary.
"""

import torch
from torch import Tensor


def tempered_probabilities(logits: Tensor, temp: float, top_k: int | None, top_p: float) -> Tensor:
    """Temperature, then top-k, then top-p over the renormalised survivors
    (paper, appendix A, which is vLLM's order).

    Args:
        logits: (B, V), any float type; computed in fp32.
        temp: above 0; greedy decoding needs no distribution.

    Returns:
        (B, V) probabilities; the truncated tokens are exactly 0. At least the most likely token of
        a row survives.
    """
    scaled = logits.float() / temp
    if top_k is not None and top_k < scaled.shape[-1]:
        smallest = scaled.topk(top_k, dim=-1).values[:, -1:]  # (B, 1)
        scaled = scaled.masked_fill(scaled < smallest, -torch.inf)
    probabilities = scaled.softmax(dim=-1)
    if top_p >= 1:
        return probabilities
    if top_k is None:
        ordered, indices = probabilities.sort(dim=-1, descending=True)
    else:  # the few that are left: sorting a whole vocabulary takes a hundred times as long
        left = int((probabilities > 0).sum(dim=-1).max())
        ordered, indices = probabilities.topk(left, dim=-1)
    before = ordered.cumsum(dim=-1) - ordered  # mass above each token
    ordered = ordered.masked_fill(before >= top_p, 0.0)
    kept = torch.zeros_like(probabilities).scatter(-1, indices, ordered)
    return kept / kept.sum(dim=-1, keepdim=True)
