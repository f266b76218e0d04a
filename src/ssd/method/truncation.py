"""The truncated, tempered distribution that a decoding draws from.

B rows, V vocabulary.
"""

import torch
from torch import Tensor

TIES = 12
"""Tokens tied at the edge of the top-k that are found without counting them."""


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
    scaled = logits.to(torch.float32, copy=True).div_(temp)
    return truncate_(scaled, top_k, top_p).softmax(dim=-1)


def truncate_(logits: Tensor, top_k: int | None, top_p: float) -> Tensor:
    """Set the logits of all tokens but the survivors of top-k, then top-p, to -inf, in place.

    Tokens tied at the edge of the top-k all survive it, as in vLLM.

    Args:
        logits: (B, V), divided by the temperature.
    """
    vocabulary = logits.shape[-1]
    top_k = min(top_k or vocabulary, vocabulary)
    if top_k == vocabulary and top_p >= 1:
        return logits
    if top_k == vocabulary:
        ordered, indices = logits.sort(dim=-1, descending=True)
    else:  # the few that are left: sorting a whole vocabulary takes a hundred times as long
        # Some more than top_k, since 16-bit logits are often tied.
        ordered, indices = logits.topk(min(top_k + TIES, vocabulary), dim=-1)
        smallest = ordered[:, top_k - 1, None]  # (B, 1)
        if (ordered[:, -1:] == smallest).any():
            ordered, indices = logits.topk(int((logits >= smallest).sum(-1).max()), dim=-1)
        ordered.masked_fill_(ordered < smallest, -torch.inf)
    if top_p < 1:
        probabilities = ordered.softmax(dim=-1)
        before = probabilities.cumsum(dim=-1) - probabilities  # mass above each token
        ordered.masked_fill_(before >= top_p, -torch.inf)
    return logits.fill_(-torch.inf).scatter_(-1, indices, ordered)
