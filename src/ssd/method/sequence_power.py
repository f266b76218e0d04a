"""Answers drawn from a power of a model's distribution over whole answers.

T tokens, K most likely tokens, M candidates of a prompt, N draws.

The power distribution gives an answer y the probability p(y)^alpha / Z, where p(y) is the product
of the probabilities of its tokens (Karan and Du 2025, arXiv:2510.14901). To temper every token to
1/alpha is something else: that draws from

    q(y) = product over t of p(y_t | y_<t)^alpha / Z_t,    Z_t = sum over v of p(v | y_<t)^alpha,

whose Z_t depend on the answer, while Z does not. So q passes over what a token leads to, and no
rule that sees the prefix alone can make up for it (Tomihari and Sato 2026, arXiv:2605.04542).

Importance weights make up for it: p(y)^alpha / q(y) is proportional to the product of the Z_t.
Candidates that are drawn from q and resampled by their weights follow the power distribution as
their number grows. Over a long answer the weights of few candidates soon differ so much that one of
them takes all, so candidates are weighed and resampled every few tokens (sequential Monte Carlo,
Doucet, de Freitas and Gordon 2001), when their weights differ too much. q is the proposal to take:
given a prefix, the next factor of a weight, Z_t, is the same whatever token follows, so no other
rule that sees the prefix alone has less variance there.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def log_normalisers(
    top_logprobs: Floats, exponent: float, is_named: NDArray[np.bool_] | None = None
) -> tuple[Floats, Floats]:
    """The logarithm of each token's sum over v of p(v)^exponent, from the most likely tokens.

    What the others add is at least nothing, and at most what it would be if all of their mass lay
    on tokens as likely as the last of the K.

    Args:
        top_logprobs: (T, K) log p of the most likely tokens, the likeliest first.
        exponent: above 1.
        is_named: (T, K) which of them have a token, and can be drawn; all when None.

    Returns:
        (T,) the middle of the two logarithms, and half of their distance.
    """
    drawable = top_logprobs if is_named is None else np.where(is_named, top_logprobs, -np.inf)
    low = np.logaddexp.reduce(exponent * drawable, axis=-1)
    rest = np.maximum(1 - np.exp(top_logprobs).sum(axis=-1), 0)
    with np.errstate(divide="ignore"):
        high = np.logaddexp(low, np.log(rest) + (exponent - 1) * top_logprobs[:, -1])
    return (low + high) / 2, (high - low) / 2


def shares(log_weights: Sequence[float] | Floats) -> Floats:
    """(M,) the candidates' weights, normalised to 1."""
    weights = np.asarray(log_weights, dtype=np.float64)
    weights = np.exp(weights - weights.max())
    normalised: Floats = weights / weights.sum()
    return normalised


def effective_size(shares: Floats) -> float:
    """How many candidates of equal weight are worth these, from 1 to M: 1 over the sum of squared
    shares (Kong 1992)."""
    return float(1 / np.square(shares).sum())


def resampled(shares: Floats, num_draws: int, uniform: float) -> NDArray[np.int64]:
    """(N,) candidates drawn by their shares (M,), in order: each as often, on average, as its share
    of the draws, and never a whole time more or less (systematic resampling, Kitagawa 1996).

    Args:
        uniform: a random number in [0, 1).
    """
    edges = np.cumsum(shares)
    places = (np.arange(num_draws) + uniform) / num_draws
    drawn: NDArray[np.int64] = np.searchsorted(edges / edges[-1], places, side="right")
    return drawn
