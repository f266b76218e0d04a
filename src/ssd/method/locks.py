"""Locks, forks, and the rest: what kind of place a position is, by the base model's distribution.

The paper describes a lock as sharply peaked with a long distractor tail and a fork as spread over
several plausible tokens, and gives no threshold (section 4, appendix B). Here a token is plausible
from probability `plausible` on. A fork has several plausible tokens. A lock has one, of at least
`lock_top1`. Everything else is other: one plausible token below that peak, or none.
"""

import numpy as np
from numpy.typing import NDArray

LOCK, FORK, OTHER = "lock", "fork", "other"
KINDS = (LOCK, FORK, OTHER)


def classify(
    top_probs: NDArray[np.float64], plausible: float, lock_top1: float
) -> NDArray[np.str_]:
    """The kind of each position.

    Args:
        top_probs: (N, TOP) probabilities of the most probable tokens, descending.
        plausible: in (0, 1).
        lock_top1: in (plausible, 1).

    Returns:
        (N,) `lock`, `fork` or `other`.
    """
    num_plausible = (top_probs >= plausible).sum(axis=1)
    locked = (num_plausible == 1) & (top_probs[:, 0] >= lock_top1)
    kinds: NDArray[np.str_] = np.where(locked, LOCK, np.where(num_plausible > 1, FORK, OTHER))
    return kinds
