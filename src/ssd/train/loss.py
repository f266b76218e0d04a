"""Completion-only cross-entropy: logits at loss tokens only, a chunk of them at a time.

N loss tokens, D hidden width, V vocabulary.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

CHUNK = 512
"""Loss tokens whose logits exist at once; 256-512 matched full logits in every precision."""
IGNORE = -100


def weighted_cross_entropy(
    hidden: Tensor, head: nn.Module, labels: Tensor, weights: Tensor
) -> Tensor:
    """Sum over loss tokens of weight times cross-entropy in nats.

    Args:
        hidden: last hidden states, (B, T, D).
        head: maps (n, D) to logits (n, V).
        labels: (B, T), the token each position predicts, or -100.
        weights: (B,), the weight of each loss token of a row.
    """
    rows, columns = torch.nonzero(labels != IGNORE, as_tuple=True)
    chosen = hidden[rows, columns]  # (N, D)
    targets = labels[rows, columns]  # (N,)
    token_weights = weights[rows]  # (N,)
    total = hidden.new_zeros((), dtype=torch.float32)
    for part in torch.arange(len(targets), device=targets.device).split(CHUNK):
        # Recomputed in the backward pass, so that one chunk of logits (CHUNK, V)
        # is alive at a time.
        total = total + checkpoint(
            _chunk_loss, chosen[part], head, targets[part], token_weights[part], use_reentrant=False
        )
    return total


def _chunk_loss(hidden: Tensor, head: nn.Module, targets: Tensor, weights: Tensor) -> Tensor:
    losses = F.cross_entropy(head(hidden).float(), targets, reduction="none")  # (n,)
    return (losses * weights).sum()
