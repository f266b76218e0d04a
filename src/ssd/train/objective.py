"""What training minimises: for each objective, the loss of a token; and its weight.

B rows, T tokens, D hidden width.
"""

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from ssd.config.choices import HeadKernel, Norm, ObjectiveType
from ssd.config.settings import ObjectiveConfig, TruncationConfig
from ssd.models.vocabulary import special_ids, unnamed_ids
from ssd.train.base_losses import SoftTarget, soft_cross_entropy, tail_cross_entropy
from ssd.train.loss import liger_cross_entropy, weighted_cross_entropy

Kernel = Callable[..., Tensor]
"""Of hidden states (B, T, D), head, labels (B, T), weights (B, T), and `BaseStates` where the
objective reads the base model: the weighted sum."""


@dataclass(frozen=True, slots=True)
class Objective:
    """One objective."""

    kernels: dict[HeadKernel, Callable[[ObjectiveConfig, Path], Kernel]]
    """What makes, from the settings and the base checkpoint's folder, the kernel that computes the
    sum over a micro-batch, under each `hardware.head`."""
    reads_base: bool = False
    """Whether the kernel takes `BaseStates`; as `ObjectiveConfig.reads_base` says."""


def soft(settings: ObjectiveConfig, folder: Path) -> Kernel:
    """The kernel of `objective=soft`, whose temperature and truncation are set."""
    truncation = settings.truncation or TruncationConfig()
    assert settings.temp is not None
    target = SoftTarget(
        temp=settings.temp,
        top_k=truncation.top_k,
        top_p=truncation.top_p,
        unnamed=unnamed_ids(folder),
        special=() if settings.special_tokens else special_ids(folder),
        weight=settings.soft_weight,
    )
    return functools.partial(soft_cross_entropy, target=target)


def tail(settings: ObjectiveConfig, _: Path) -> Kernel:
    """The kernel of `objective=tail`."""
    return functools.partial(
        tail_cross_entropy, threshold=settings.tail_threshold, weight=settings.tail_weight
    )


OBJECTIVES = {
    ObjectiveType.cross_entropy: Objective(
        {
            HeadKernel.chunked: lambda *_: weighted_cross_entropy,
            HeadKernel.liger: lambda *_: liger_cross_entropy,
        }
    ),
    ObjectiveType.soft: Objective({HeadKernel.chunked: soft}, reads_base=True),
    ObjectiveType.tail: Objective({HeadKernel.chunked: tail}, reads_base=True),
}


def token_weights(counts: Sequence[int]) -> list[float]:
    """Every token weighs the same."""
    return [1 / max(sum(counts), 1)] * len(counts)


def sample_weights(counts: Sequence[int]) -> list[float]:
    """Every sample weighs the same, and so does every token in it."""
    return [1 / (len(counts) * max(count, 1)) for count in counts]


WEIGHTS = {Norm.token: token_weights, Norm.sample: sample_weights}
"""Of the loss tokens of each sample of one whole optimizer step, the weight of one token in each;
the weights of all tokens sum to 1."""
