"""The paper's toy machine (appendix C.4) in closed form: why one temperature cannot serve both
locks and forks, and what self-distillation changes.

A program is a root, then one of two like paths of one fork and three locks. It succeeds when the
root takes either path's token (0 or 1) and every later place takes token 0. The student is the
teacher's own distribution at T_train under top-p: what training on its samples tends to. Both are
decoded at any temperature under another top-p; the toy asks how well each can do.

V tokens of a place, G temperatures.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
VOCABULARY = 16
T_TRAIN, TRAIN_TOP_P, EVAL_TOP_P = 0.9, 0.85, 0.8
TOP_PS = (0.65, 0.7, 0.75, 0.8, 0.85, 0.9)
"""Evaluation top-p of the gap curve."""
TEMPS: Array = np.arange(50, 5001) / 1000
"""Evaluation temperatures, (G,)."""


@dataclass(frozen=True, slots=True)
class Machine:
    """What a model thinks at each kind of place; (V,) probabilities each."""

    root: Array
    fork: Array
    lock: Array


@dataclass(frozen=True, slots=True)
class Best:
    """The highest success over the temperatures, and where."""

    success: float
    temp: float


def place(head: list[float], ratio: float) -> Array:
    """(V,) the probabilities `head`, then what they leave as a geometric tail."""
    tail = ratio ** np.arange(VOCABULARY - len(head))
    return np.concatenate([head, (1 - sum(head)) * tail / tail.sum()])


def teacher() -> Machine:
    """The base model."""
    return Machine(
        root=place([0.200, 0.190, 0.329, 0.126], 0.5),
        fork=place([0.148, 0.280, 0.140, 0.144], 0.5),
        lock=place([0.750, 0.055, 0.050, 0.037], 0.75),
    )


def student(machine: Machine, t_train: float, top_p: float) -> Machine:
    """The model that fits the samples drawn from `machine` at `t_train` under `top_p`."""
    temps = np.array([t_train])
    root, fork, lock = (
        decoded(probs, temps, top_p)[0] for probs in (machine.root, machine.fork, machine.lock)
    )
    return Machine(root, fork, lock)


def decoded(probs: Array, temps: Array, top_p: float) -> Array:
    """(G, V) the distributions after temperature, then top-p; `probs` is (V,)."""
    logits = np.log(probs, out=np.full_like(probs, -np.inf), where=probs > 0)
    powered = np.exp((logits - logits.max()) / temps[:, None])
    powered /= powered.sum(axis=1, keepdims=True)
    order = np.argsort(-powered, axis=1, kind="stable")
    ordered = np.take_along_axis(powered, order, axis=1)
    ordered[ordered.cumsum(axis=1) - ordered >= top_p] = 0  # mass above each token
    kept = np.empty_like(powered)
    np.put_along_axis(kept, order, ordered, axis=1)
    tempered: Array = kept / kept.sum(axis=1, keepdims=True)
    return tempered


def success(machine: Machine, temps: Array, top_p: float) -> Array:
    """(G,) probability of a program that passes."""
    root, fork, lock = (
        decoded(probs, temps, top_p) for probs in (machine.root, machine.fork, machine.lock)
    )
    passed: Array = (root[:, 0] + root[:, 1]) * fork[:, 0] * lock[:, 0] ** 3
    return passed


def best(machine: Machine, top_p: float) -> Best:
    """The machine decoded as well as `TEMPS` allow."""
    curve = success(machine, TEMPS, top_p)
    first = int(curve.argmax())
    return Best(float(curve[first]), float(TEMPS[first]))


def entropy_bits(probs: Array) -> float:
    """Shannon entropy in bits."""
    some = probs[probs > 0]
    return float(-(some * np.log2(some)).sum())
