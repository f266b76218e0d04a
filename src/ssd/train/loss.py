"""Losses of the completion whose logits exist for a chunk of loss tokens at a time.

N loss tokens, D hidden width, V vocabulary.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from ssd.train.chunks import chunk_size

IGNORE = -100


TokenLoss = Callable[[Tensor, slice], tuple[Tensor, Tensor]]
"""Of logits (n, V) in fp32, which it may overwrite, and their place among the loss tokens: the
losses (n,) in nats, and their gradients by the logits (n, V)."""


class ChunkedLoss(torch.autograd.Function):
    """Weighted sum of the losses of tokens, with its gradients computed in the same pass.

    The loss is a scalar, so the gradient of each chunk is known as soon as its logits are, up to
    the factor that `backward` receives. That saves the recomputation a checkpointed loop would do:
    three matrix products per chunk, not four. Products run in the dtype of `hidden`; softmax, loss
    and the accumulated weight gradient are fp32.
    """

    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, weight: Tensor, bias: Tensor | None, token_loss: TokenLoss,
        weights: Tensor, chunk: int,
    ) -> Tensor:  # fmt: skip
        """`hidden` (N, D), `weight` (V, D), `bias` (V,) or None, `weights` (N,)."""
        needs_hidden, needs_weight, needs_bias = ctx.needs_input_grad[:3]
        matrix = weight.to(hidden.dtype)
        grad_hidden = torch.empty_like(hidden) if needs_hidden else None
        grad_weight = torch.zeros_like(weight, dtype=torch.float32) if needs_weight else None
        grad_bias = torch.zeros_like(bias, dtype=torch.float32) if needs_bias else None  # type: ignore[arg-type]
        total = torch.zeros((), dtype=torch.float32, device=hidden.device)
        for start in range(0, len(weights), chunk):
            part = slice(start, start + chunk)
            losses, gradient = token_loss(head_logits(hidden[part], matrix, bias), part)
            total += (losses * weights[part]).sum()
            if not (needs_hidden or needs_weight or needs_bias):
                continue
            gradient *= weights[part, None]
            if grad_bias is not None:
                grad_bias += gradient.sum(0)
            small = gradient.to(hidden.dtype)
            if grad_hidden is not None:
                grad_hidden[part] = small @ matrix
            if grad_weight is not None:
                grad_weight += small.T @ hidden[part]
        ctx.save_for_backward(grad_hidden, grad_weight, grad_bias)
        ctx.dtypes = (weight.dtype, bias.dtype if bias is not None else None)
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        """The stored gradients times `grad`."""
        hidden, weight, bias = ctx.saved_tensors
        # In place: the weight's gradient is as large as the head.
        return (
            hidden.mul_(grad.to(hidden.dtype)) if hidden is not None else None,
            weight.mul_(grad).to(ctx.dtypes[0]) if weight is not None else None,
            bias.mul_(grad).to(ctx.dtypes[1]) if bias is not None else None,
            None, None, None,
        )  # fmt: skip


def head_logits(states: Tensor, matrix: Tensor, bias: Tensor | None) -> Tensor:
    """Logits (n, V) in fp32 of states (n, D), whose product is in their dtype."""
    logits = (states @ matrix.T).float()
    if bias is not None:
        logits += bias
    return logits


def sampled_token_loss(targets: Tensor) -> TokenLoss:
    """Cross-entropy against the sampled tokens, `targets` (N,)."""

    def token_loss(logits: Tensor, part: slice) -> tuple[Tensor, Tensor]:
        normaliser = logits.logsumexp(-1)
        picked = logits.gather(1, targets[part, None]).squeeze(1)
        gradient = logits.sub_(normaliser[:, None]).exp_()
        gradient.scatter_add_(1, targets[part, None], -torch.ones_like(picked)[:, None])
        return normaliser - picked, gradient

    return token_loss


def weighted_cross_entropy(
    hidden: Tensor, head: nn.Linear, labels: Tensor, weights: Tensor, chunk: int | None = None
) -> Tensor:
    """Sum over loss tokens of weight times cross-entropy in nats, fp32.

    Args:
        hidden: last hidden states, (B, T, D).
        head: maps (n, D) to logits (n, V).
        labels: (B, T), the token each position predicts, or `IGNORE`.
        weights: (B, T), the weight of each position's loss.
        chunk: loss tokens whose logits exist at once; `chunk_size` when None.
    """
    states, targets, token_weights = loss_tokens(hidden, head, labels, weights)
    return chunked_loss(states, head, sampled_token_loss(targets), token_weights, chunk)


def chunked_loss(
    states: Tensor, head: nn.Linear, token_loss: TokenLoss, weights: Tensor, chunk: int | None
) -> Tensor:
    """Sum over loss tokens, with states (N, D) and weights (N,), of weight times loss, fp32."""
    with torch.autocast(states.device.type, enabled=False):
        total: Tensor = ChunkedLoss.apply(
            states, head.weight, head.bias, token_loss, weights,
            chunk or chunk_size(head.weight.shape[0]),
        )  # fmt: skip
    return total


def liger_cross_entropy(hidden: Tensor, head: nn.Linear, labels: Tensor, weights: Tensor) -> Tensor:
    """The same through Liger's fused kernel, which knows sums only: one call per distinct weight,
    of which `objective.norm=token` has one."""
    from liger_kernel.transformers import LigerFusedLinearCrossEntropyLoss

    states, targets, token_weights = loss_tokens(hidden, head, labels, weights)
    matrix = head.weight.to(states.dtype)
    kernel = LigerFusedLinearCrossEntropyLoss(reduction="sum")
    total = hidden.new_zeros((), dtype=torch.float32)
    for weight in token_weights.unique():
        members = token_weights == weight
        part = kernel(matrix, states[members], targets[members], head.bias)
        total = total + weight * part.float()
    return total


def loss_tokens(
    hidden: Tensor, head: nn.Linear, labels: Tensor, weights: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Hidden states (N, D), targets (N,) and weights (N,) of the positions that have a loss; the
    states in the dtype that autocast, or else the head, computes in."""
    rows, columns = torch.nonzero(labels != IGNORE, as_tuple=True)
    kind = hidden.device.type
    autocast = torch.is_autocast_enabled(kind)
    dtype = torch.get_autocast_dtype(kind) if autocast else head.weight.dtype
    return hidden[rows, columns].to(dtype), labels[rows, columns], weights[rows, columns]
