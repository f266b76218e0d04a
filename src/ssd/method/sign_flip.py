"""The paired test. P problems, B choices of signs; random numbers are arguments."""

import numpy as np

from ssd.method.estimates import Floats


def sign_flip_p_value(differences_P: Floats, num_resamples: int, rng: np.random.Generator) -> float:
    """Two-sided p-value of a paired sign-flip test.

    Where the models do not differ, each problem's difference is as likely to have the other sign.
    The p-value is the share of sign choices with a mean at least as far from 0 as the observed one:
    of all choices where `num_resamples` suffice for them, else of random ones and the observed
    one, which makes it never 0 (Phipson and Smyth 2010, arXiv 1603.05766).
    """
    changed_P = differences_P[differences_P != 0]
    num_changed = len(changed_P)
    exact = 2.0**num_changed <= num_resamples
    if exact:
        bits_B_P = np.arange(2**num_changed)[:, None] >> np.arange(num_changed) & 1
    else:
        bits_B_P = rng.integers(0, 2, size=(num_resamples, num_changed), dtype=np.int8)
    # Sums that are equal on paper may differ in the last digits.
    extreme_B = np.abs((bits_B_P * 2 - 1) @ changed_P) >= abs(changed_P.sum()) - 1e-9
    return float(extreme_B.mean() if exact else (1 + extreme_B.sum()) / (1 + num_resamples))
