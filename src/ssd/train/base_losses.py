"""Losses that also ask the base model: against the distribution that it was sampled from, and with
a negative weight for what it finds unlikely.

N loss tokens, n of a chunk, D hidden width, V vocabulary.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ssd.method.decomposition import named_only
from ssd.method.truncation import tempered_probabilities
from ssd.train.chunks import chunk_size
from ssd.train.loss import (
    chunked_loss,
    head_logits,
    loss_tokens,
    sampled_token_loss,
)


@dataclass(frozen=True, slots=True)
class BaseStates:
    """What the base model makes of a micro-batch."""

    hidden: Tensor
    """(B, T, D) its last hidden states."""
    head: nn.Linear
    """Its head, frozen."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SoftTarget:
    """The distribution q that training is fitted to: temperature, then top-k, then top-p of the
    base model's logits, and 0 for what is left out."""

    temp: float
    top_k: int | None
    top_p: float
    unnamed: tuple[int, ...] = ()
    """Ids without a token, which are never drawn."""
    special: tuple[int, ...] = ()
    """Ids that are left out of q after the truncation, and of what is compared with it."""
    weight: float = 1.0
    """Of the cross-entropy against q; the rest is that against the sampled tokens."""

    def probabilities(self, base_logits: Tensor) -> Tensor:
        """(n, V): rows of sum 1, or 0 where nothing but special tokens survives."""
        unnamed = torch.tensor(self.unnamed) if self.unnamed else None
        q = tempered_probabilities(
            named_only(base_logits, unnamed), self.temp, self.top_k, self.top_p
        )
        if not self.special:
            return q
        q.index_fill_(-1, self._special_ids(q), 0)
        mass = q.sum(-1, keepdim=True)
        return q.div_(torch.where(mass > 0, mass, 1))

    def losses(self, logits: Tensor, base_logits: Tensor) -> tuple[Tensor, Tensor]:
        """Cross-entropies (n,) against q, and their gradients (n, V). Logits are left as they are.

        Special tokens leave both distributions: with q alone renormalised, the model would be
        taught that an answer never ends.
        """
        q = self.probabilities(base_logits)
        mass = q.sum(-1)
        expected = (q * logits).sum(-1)
        if self.special:
            logits = logits.index_fill(-1, self._special_ids(q), -torch.inf)
        normaliser = logits.logsumexp(-1)
        gradient = (logits - normaliser[:, None]).exp_().mul_(mass[:, None]).sub_(q)
        return mass * normaliser - expected, gradient

    def _special_ids(self, like: Tensor) -> Tensor:
        return torch.tensor(self.special, device=like.device)


def soft_cross_entropy(
    hidden: Tensor,
    head: nn.Linear,
    labels: Tensor,
    weights: Tensor,
    base: BaseStates,
    *,
    target: SoftTarget,
    chunk: int | None = None,
) -> Tensor:
    """Sum over loss tokens of weight times cross-entropy in nats against q, fp32: the mean, over
    what could have been drawn at each position, of the cross-entropy against what was drawn.

    Args:
        hidden, head, labels, weights, chunk: as of `weighted_cross_entropy`.
        base: of the same micro-batch.
        target: how q is made; with a weight below 1 the cross-entropy against the labels is added.
    """
    states, targets, token_weights = loss_tokens(hidden, head, labels, weights)
    base_states, _, _ = loss_tokens(base.hidden, base.head, labels, weights)
    matrix, bias = base.head.weight.to(base_states.dtype), base.head.bias
    sampled = sampled_token_loss(targets)

    def token_loss(logits: Tensor, part: slice) -> tuple[Tensor, Tensor]:
        losses, gradient = target.losses(logits, head_logits(base_states[part], matrix, bias))
        if target.weight == 1:
            return losses, gradient
        hard_losses, hard_gradient = sampled(logits, part)
        return (
            losses.mul_(target.weight).add_(hard_losses, alpha=1 - target.weight),
            gradient.mul_(target.weight).add_(hard_gradient, alpha=1 - target.weight),
        )

    return chunked_loss(states, head, token_loss, token_weights, chunk)


def tail_cross_entropy(
    hidden: Tensor,
    head: nn.Linear,
    labels: Tensor,
    weights: Tensor,
    base: BaseStates,
    *,
    threshold: float,
    weight: float,
    chunk: int | None = None,
) -> Tensor:
    """Sum over loss tokens of weight times cross-entropy in nats against the sampled token, fp32,
    which counts `-weight` times where the base model's probability of the token, at temperature 1
    without truncation, is below `threshold`.

    After arXiv 2608.31046, of which this project knows a summary: that most of what on-policy
    distillation does is to suppress unlikely tokens, and that one fixed negative weight for them
    does as well. The summary says neither what is unlikely nor how large the weight is, nor whether
    tokens count that were not sampled. Here sampled tokens alone do: over samples of temperature 1
    the expected gradient of the first step is then that of the suppression and nothing else, since
    the rest cancels.

    Args:
        hidden, head, labels, weights, chunk: as of `weighted_cross_entropy`.
        base: of the same micro-batch.
    """
    states, targets, token_weights = loss_tokens(hidden, head, labels, weights)
    base_states, _, _ = loss_tokens(base.hidden, base.head, labels, weights)
    unlikely = token_probabilities(base_states, base.head, targets, chunk) < threshold
    signed = torch.where(unlikely, -weight * token_weights, token_weights)
    return chunked_loss(states, head, sampled_token_loss(targets), signed, chunk)


@torch.no_grad()
def token_probabilities(
    states: Tensor, head: nn.Linear, targets: Tensor, chunk: int | None = None
) -> Tensor:
    """(N,) the probability of each token of `targets`, from states (N, D)."""
    size = chunk or chunk_size(head.weight.shape[0])
    parts = []
    with torch.autocast(states.device.type, enabled=False):
        matrix = head.weight.to(states.dtype)
        for rows, ids in zip(states.split(size), targets.split(size), strict=True):
            logits = head_logits(rows, matrix, head.bias)
            parts.append(logits.log_softmax(-1).gather(1, ids[:, None]).squeeze(1).exp())
    return torch.cat(parts)
