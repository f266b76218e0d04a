"""From hidden states to the numbers that are stored, some positions at a time.

N positions, B of them at once, V vocabulary, G temperatures.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ssd.analyse.forward import States
from ssd.config.settings import TruncationConfig
from ssd.method.decomposition import decompose, has_target, named_only, target
from ssd.method.truncation import tempered_probabilities
from ssd.records.analysis import TEMPS, TERMS, TOP, Positions
from ssd.records.samples import Sample
from ssd.runtime.progress import progress_bar

LOGITS_AT_ONCE = 2**22
"""Elements of one part's logits: 16 MiB in fp32. On two cores a quarter of it gave 320 positions
per second, this 510, four times as much 370."""


@torch.inference_mode()
def measure(
    states: States,
    base: States,
    samples: Sequence[Sample],
    *,
    temp: float | None,
    truncation: TruncationConfig,
    eval_truncation: TruncationConfig,
    label: str,
    unnamed: Tensor | None = None,
) -> tuple[Positions, float]:
    """One model at every position, against the target that the base model's states give.

    Args:
        temp: T_train, with its `truncation`: they define the target and the support. None where
            the samples were drawn at none, and nothing was cut.
        eval_truncation: decides which tokens survive at each of `TEMPS`.
        unnamed: (U,) ids that no token has: outside of every support.

    Returns:
        The positions, and the largest difference in nats between the cross-entropy computed as such
        and the sum of its terms (0 without a target).
    """
    token_ids = torch.tensor(
        [token_id for sample in samples for token_id in sample.completion_token_ids]
    )
    rows = max(LOGITS_AT_ONCE // len(states.weight), 1)
    stored: dict[str, NDArray[Any]] = {}
    error = 0.0
    with progress_bar(label, len(token_ids), unit="position") as bar:
        for first in range(0, len(token_ids), rows):
            part = slice(first, first + rows)
            logits = states.logits(part)
            columns = distribution(logits, token_ids[part].to(logits.device))
            drawable = named_only(logits, unnamed)
            columns |= {"support": support(drawable, temp, truncation)}
            base_logits = logits if states is base else base.logits(part)
            terms = loss_terms(logits, base_logits, temp, truncation, unnamed)
            error = max(error, float(terms.pop("error").max()))
            columns |= terms | after_truncation(drawable, eval_truncation)
            for name, column in columns.items():
                values = column.cpu().numpy()
                if name not in stored:  # whole, since parts kept for later would lie in the way of
                    # the next part's logits: main memory then grew by 50 MB a part
                    stored[name] = np.empty((len(token_ids), *values.shape[1:]), values.dtype)
                stored[name][part] = values
            bar.update(len(logits))
    sample, index = places(samples)
    return Positions(sample=sample, index=index, token_id=token_ids.numpy(), **stored), error


def places(samples: Sequence[Sample]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """(N,) which completion each position is in, and which token of it."""
    lengths = [len(sample.completion_token_ids) for sample in samples]
    index = np.concatenate([np.arange(length) for length in lengths])
    return np.repeat(np.arange(len(samples)), lengths), index


def distribution(logits: Tensor, token_ids: Tensor) -> dict[str, Tensor]:
    """The distribution at temperature 1: the token's own log-probability, the entropy, and the
    `TOP` most probable tokens."""
    logprobs = logits.log_softmax(-1)
    probs = logprobs.exp()
    top_probs, top_ids = probs.topk(TOP, dim=-1)
    return {
        "logprob": logprobs.gather(-1, token_ids[:, None])[:, 0],
        "entropy": torch.special.entr(probs).sum(-1),
        "top_ids": top_ids.int(),
        "top_probs": top_probs,
    }


def support(logits: Tensor, temp: float | None, truncation: TruncationConfig) -> Tensor:
    """(B,) number of tokens that are left at a temperature and truncation; 1 when greedy, all where
    there is no temperature."""
    if temp is None:
        return logits.isfinite().sum(-1).int()
    if not has_target(temp):
        return torch.ones(len(logits), dtype=torch.int32, device=logits.device)
    likely = candidates(logits, truncation.top_k)
    kept = tempered_probabilities(likely, temp, truncation.top_k, truncation.top_p)
    return (kept > 0).sum(-1).int()


def loss_terms(
    logits: Tensor,
    base_logits: Tensor,
    temp: float | None,
    truncation: TruncationConfig,
    unnamed: Tensor | None = None,
) -> dict[str, Tensor]:
    """KeptMass and the loss's terms in float64, NaN without a target, and `error`: how far their
    sum is from the cross-entropy."""
    if not has_target(temp):
        none = torch.full((len(logits),), torch.nan, dtype=torch.float64)
        return dict.fromkeys(("kept_mass", *TERMS), none) | {"error": torch.zeros(1)}
    drawn = target(base_logits, temp, truncation.top_k, truncation.top_p, unnamed)
    parts = decompose(drawn, logits)
    terms = {name: getattr(parts, name) for name in TERMS}
    missed = (sum(terms.values()) - parts.cross_entropy).abs()
    return {"kept_mass": parts.kept_mass, **terms, "error": missed}


def after_truncation(logits: Tensor, truncation: TruncationConfig) -> dict[str, Tensor]:
    """(B, G) tokens left at each of `TEMPS`, and the entropy of what is left. A token whose
    probability rounds to 0 in fp32 counts as cut."""
    likely = candidates(logits, truncation.top_k)
    survivors, entropies = [], []
    for temp in TEMPS:
        kept = tempered_probabilities(likely, temp, truncation.top_k, truncation.top_p)
        survivors.append((kept > 0).sum(-1).int())
        entropies.append(torch.special.entr(kept).sum(-1))
    return {"survivors": torch.stack(survivors, 1), "entropy_after": torch.stack(entropies, 1)}


def candidates(logits: Tensor, top_k: int | None) -> Tensor:
    """(B, K) the logits that top-k can keep, ties included. No temperature changes their order, so
    the rest of the vocabulary is not needed."""
    if top_k is None or top_k >= logits.shape[-1]:
        return logits
    smallest = logits.topk(top_k, dim=-1).values[:, -1:]
    return logits.topk(int((logits >= smallest).sum(-1).max()), dim=-1).values
