"""What training minimises: for each objective, the loss of a token and its weight.

B rows, T tokens, D hidden width.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from torch import Tensor, nn

from ssd.config.choices import HeadKernel, Norm
from ssd.train.loss import liger_cross_entropy, weighted_cross_entropy

Kernel = Callable[[Tensor, nn.Linear, Tensor, Tensor], Tensor]
"""Of hidden states (B, T, D), head, labels (B, T) and weights (B, T): the weighted sum."""


@dataclass(frozen=True, slots=True)
class Objective:
    """One objective."""

    kernels: dict[HeadKernel, Kernel]
    """What computes the sum over a micro-batch, under each `hardware.head`."""
    weigh: Callable[[Sequence[int]], list[float]]
    """Of the loss tokens of each sample of one whole optimizer step, the weight of one token in
    each; the weights of all tokens sum to 1."""


def token_weights(counts: Sequence[int]) -> list[float]:
    """Every token weighs the same."""
    return [1 / max(sum(counts), 1)] * len(counts)


def sample_weights(counts: Sequence[int]) -> list[float]:
    """Every sample weighs the same, and so does every token in it."""
    return [1 / (len(counts) * max(count, 1)) for count in counts]


CROSS_ENTROPY: dict[HeadKernel, Kernel] = {
    HeadKernel.chunked: weighted_cross_entropy,
    HeadKernel.liger: liger_cross_entropy,
}
OBJECTIVES = {
    Norm.token: Objective(CROSS_ENTROPY, token_weights),
    Norm.sample: Objective(CROSS_ENTROPY, sample_weights),
}
