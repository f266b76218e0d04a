"""The paper's toy machine (appendix C.4) in closed form: why one temperature cannot serve both
locks and forks, and what self-distillation changes.

A program is a root, then one of two like paths of one fork and three locks. It succeeds when the
root takes either path's token (0 or 1) and every later place takes token 0. The student is the
teacher's own distribution at T_train under top-p: what training on its samples tends to. Both are
decoded at any temperature under another top-p; the toy asks how well each can do.

V tokens of a place, G temperatures.
"""

import argparse
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ssd.errors import ConfigError

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
    """The model that fits the samples which `machine` draws at `t_train` under `top_p`."""
    temps = np.array([t_train])
    root, fork, lock = (
        decoded(probs, temps, top_p)[0] for probs in (machine.root, machine.fork, machine.lock)
    )
    return Machine(root, fork, lock)


def decoded(probs: Array, temps: Array, top_p: float) -> Array:
    """(G, V) what is drawn from: temperature, then top-p over what is left; `probs` is (V,)."""
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


def table(base: Machine, tuned: Machine, top_ps: tuple[float, ...]) -> str:
    """The best of both at every evaluation top-p, and their difference."""
    lines = [f"{'eval top-p':>10}  {'teacher':>17}  {'student':>17}  {'gap':>12}"]
    for top_p in top_ps:
        one, other = best(base, top_p), best(tuned, top_p)
        cells = [f"{100 * b.success:5.2f} % at T={b.temp:.3f}" for b in (one, other)]
        gap = 100 * (other.success - one.success)
        lines.append(f"{top_p:>10.2f}  {cells[0]}  {cells[1]}  {gap:+5.2f} points")
    return "\n".join(lines)


def places(base: Machine, tuned: Machine) -> str:
    """Entropy and tokens left at every kind of place."""
    lines = [f"{'place':>10}  {'teacher':>21}  {'student':>21}"]
    for name in ("root", "fork", "lock"):
        cells = [
            f"{entropy_bits(probs):.2f} bits, {np.count_nonzero(probs):2d} tokens"
            for probs in (getattr(base, name), getattr(tuned, name))
        ]
        lines.append(f"{name:>10}  {cells[0]:>21}  {cells[1]:>21}")
    return "\n".join(lines)


def parser() -> argparse.ArgumentParser:
    """The command line of `python -m ssd.analyse toy`."""
    made = argparse.ArgumentParser(
        prog="python -m ssd.analyse toy",
        description="The paper's toy machine in closed form: how often a program of one fork and "
        "three locks succeeds, before (teacher) and after (student) self-distillation, each at "
        "its best temperature. Needs no model and no run.",
    )
    for name, value, what in (
        ("t-train", T_TRAIN, "temperature that the teacher's samples are drawn at, at least 0.05"),
        ("train-top-p", TRAIN_TOP_P, "top-p that they are drawn under, in (0, 1]"),
        ("eval-top-p", EVAL_TOP_P, "top-p that both are decoded under in the figure, in (0, 1]"),
    ):
        made.add_argument(
            f"--{name}", type=float, default=value, metavar="T" if name == "t-train" else "P",
            help=f"{what}; the paper's {value} by default",
        )  # fmt: skip
    made.add_argument(
        "--out", type=Path, default=Path("outputs/toy"), metavar="FOLDER",
        help="where toy.png and toy.svg are drawn; outputs/toy by default",
    )  # fmt: skip
    return made


def main(arguments: list[str]) -> None:
    """Print the tables and draw the figure.

    Raises:
        ConfigError: a number is out of range.
    """
    given = parser().parse_args(arguments)
    if not 0.05 <= given.t_train <= 10:
        raise ConfigError(f"--t-train must lie in [0.05, 10], got {given.t_train:g}")
    for name in ("train_top_p", "eval_top_p"):
        value = getattr(given, name)
        if not 0 < value <= 1:
            raise ConfigError(f"--{name.replace('_', '-')} must lie in (0, 1], got {value:g}")
    base = teacher()
    tuned = student(base, given.t_train, given.train_top_p)
    top_ps = tuple(sorted({*TOP_PS, given.eval_top_p}))
    print(
        f"toy machine of the paper (appendix C.4): student trained on the teacher's samples at "
        f"T_train={given.t_train:g}, top-p {given.train_top_p:g}\n\n{places(base, tuned)}\n\n"
        f"best success over T_eval in [{TEMPS[0]:g}, {TEMPS[-1]:g}]\n{table(base, tuned, top_ps)}\n"
    )
    from ssd.toy.figure import write_figure

    for path in write_figure(given.out, base, tuned, given.eval_top_p, top_ps):
        print(f"written: {path}", flush=True)
