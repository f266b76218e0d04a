"""The training loss at a position, split exactly into the terms that move the model (paper,
appendix B).

B positions, V vocabulary, K tokens of the largest support. All terms are in nats.

The target is q = Temper_T[p0] on the support S that the base model's own temperature, top-k and
top-p keep. With KeptMass = sum of p over S and pi = p(.|S),

    CE(q, p) = -log KeptMass  +  (1 - T) H_{1/T}(pi)  +  T KL(q || Temper_T[pi])  +  T H(q)
               support           within-support          alignment                  constant
               compression       reshaping

where H_a is the Renyi entropy, so that the second term is -T log sum pi^(1/T).
"""

from dataclasses import dataclass, replace
from typing import TypeGuard

import torch
from torch import Tensor

from ssd.method.decoding import GREEDY_TEMP
from ssd.method.truncation import tempered_probabilities


@dataclass(frozen=True, slots=True)
class Target:
    """What the base model's samples are drawn from at each position: q on its support S."""

    token_ids: Tensor | None
    """(B, K) the tokens of S, the most probable first; where `probs` is 0 they are padding. None
    where S is the whole vocabulary, or all of it that has tokens, and then K = V."""
    probs: Tensor
    """(B, K)"""
    temp: float
    unnamed: Tensor | None = None
    """(U,) the ids outside S although `token_ids` is None: they have no token."""

    def __getitem__(self, part: slice) -> "Target":
        """Some of the positions."""
        token_ids = None if self.token_ids is None else self.token_ids[part]
        return replace(self, token_ids=token_ids, probs=self.probs[part])

    def to(self, device: torch.device) -> "Target":
        """The same on another device."""

        def move(tensor: Tensor | None) -> Tensor | None:
            return None if tensor is None else tensor.to(device)

        return Target(move(self.token_ids), self.probs.to(device), self.temp, move(self.unnamed))


@dataclass(frozen=True, slots=True)
class Decomposition:
    """The loss of one model at each position, and its parts; each is (B,) in float64."""

    support_compression: Tensor
    """-log KeptMass: the price of mass on tokens that the sampler had cut."""
    reshaping: Tensor
    """(1 - T) H_{1/T}(p(.|S)): for T > 1 it rewards spread among the kept tokens, for T < 1 it
    punishes it; 0 at T = 1."""
    alignment: Tensor
    """T KL(q || Temper_T[p(.|S)]): how far the model is from the target on S."""
    constant: Tensor
    """T H(q): no training changes it."""
    kept_mass: Tensor
    """KeptMass: the model's probability of S."""
    cross_entropy: Tensor
    """CE(q, p), summed directly; it equals the four terms together."""


def has_target(temp: float | None) -> TypeGuard[float]:
    """Whether sampling at `temp` draws every token from a distribution: greedy decoding does not,
    nor does what has no temperature."""
    return temp is not None and temp >= GREEDY_TEMP


def named_only(logits: Tensor, unnamed: Tensor | None) -> Tensor:
    """Logits (B, V) that give ids without a token no probability, as engines draw."""
    if unnamed is None:
        return logits
    return logits.index_fill(-1, unnamed.to(logits.device), -torch.inf)


def target(
    base_logits: Tensor,
    temp: float,
    top_k: int | None,
    top_p: float,
    unnamed: Tensor | None = None,
) -> Target:
    """The distribution that the base model's completions were drawn from.

    Args:
        base_logits: (B, V), fp32 or wider.
        temp: T_train, for which `has_target`.
        unnamed: (U,) ids that no token has, which are never drawn; None where there are none.

    Returns:
        Probabilities in the type of the logits. Tokens tied at the edge of the top-k all belong to
        S, as they do in `tempered_probabilities`.
    """
    whole = (top_k is None or top_k >= base_logits.shape[-1]) and top_p >= 1
    base_logits = named_only(base_logits, unnamed)
    if whole:
        return Target(None, (base_logits / temp).softmax(-1), temp, unnamed)
    survivors = tempered_probabilities(base_logits, temp, top_k, top_p)
    kept, token_ids = survivors.topk(int((survivors > 0).sum(-1).max()), dim=-1)  # (B, K)
    scaled = base_logits.gather(-1, token_ids) / temp
    return Target(token_ids, scaled.masked_fill(kept == 0, -torch.inf).softmax(-1), temp)


def decompose(target: Target, logits: Tensor) -> Decomposition:
    """The loss that `logits` have against `target`, in its parts (paper, appendix B).

    Args:
        logits: (B, V) of the model that is trained. A few tensors of this size exist in float64 at
            once, so long inputs are passed in parts.
    """
    temp, q = target.temp, target.probs.double()
    q = q / q.sum(-1, keepdim=True)  # to float64's rounding, which the identity needs
    logits = logits.double()
    if target.token_ids is None:
        log_p = named_only(logits.log_softmax(-1), target.unnamed)
        nothing_cut = torch.zeros_like(log_p[:, 0])
        log_kept = nothing_cut if target.unnamed is None else log_p.logsumexp(-1)
    else:
        log_p = logits.gather(-1, target.token_ids) - logits.logsumexp(-1, keepdim=True)
        log_p = log_p.masked_fill(q == 0, -torch.inf)
        log_kept = log_p.logsumexp(-1)
    scaled = (log_p - log_kept[:, None]) / temp
    log_sum = scaled.logsumexp(-1)  # log sum pi^(1/T)
    entropy = -torch.xlogy(q, q).sum(-1)
    return Decomposition(
        support_compression=-log_kept,
        reshaping=-temp * log_sum,
        alignment=temp * (_expected(q, log_sum[:, None] - scaled) - entropy),
        constant=temp * entropy,
        kept_mass=log_kept.exp(),
        cross_entropy=_expected(q, -log_p),
    )


def _expected(q: Tensor, values: Tensor) -> Tensor:
    """(B,) mean of `values` under `q`; where `q` is 0 they may be infinite."""
    return torch.where(q > 0, q * values, 0.0).sum(-1)
