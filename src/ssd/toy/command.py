"""`ssd toy`: the toy machine's tables and its figure."""

import argparse
from pathlib import Path

import numpy as np

from ssd.errors import ConfigError
from ssd.runtime.command_line import command_line
from ssd.toy.machine import (
    EVAL_TOP_P,
    T_TRAIN,
    TEMPS,
    TOP_PS,
    TRAIN_TOP_P,
    Machine,
    best,
    entropy_bits,
    student,
    teacher,
)


def table(base: Machine, tuned: Machine, top_ps: tuple[float, ...]) -> str:
    """The best of both at every evaluation top-p, and their difference."""
    lines = [f"{'eval top-p':>10}  {'teacher':>17}  {'student':>17}  {'gap':>12}"]
    for top_p in top_ps:
        teacher, student = best(base, top_p), best(tuned, top_p)
        cells = [f"{100 * cell.success:5.2f} % at T={cell.temp:.3f}" for cell in (teacher, student)]
        gap = 100 * (student.success - teacher.success)
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
    """The command line of `ssd toy`."""
    options = command_line(
        "toy",
        "The paper's toy machine in closed form: how often a program of one fork and three locks "
        "succeeds, before (teacher) and after (student) self-distillation, each at its best "
        "temperature. Needs no model and no run.",
        "  # the paper's numbers, and their figure in outputs/toy",
        "--t-train 1 --train-top-p 1  # the fixed point: nothing is learned",
    )
    for name, value, what in (
        ("t-train", T_TRAIN, "temperature that the teacher's samples are drawn at, at least 0.05"),
        ("train-top-p", TRAIN_TOP_P, "top-p that they are drawn under, in (0, 1]"),
        ("eval-top-p", EVAL_TOP_P, "top-p that both are decoded under in the figure, in (0, 1]"),
    ):
        options.add_argument(
            f"--{name}", type=float, default=value, metavar="T" if name == "t-train" else "P",
            help=f"{what}; the paper's {value} by default",
        )  # fmt: skip
    options.add_argument(
        "--out", type=Path, default=Path("outputs/toy"), metavar="FOLDER",
        help="where toy.png and toy.svg are drawn; outputs/toy by default",
    )  # fmt: skip
    return options


def main(arguments: list[str]) -> None:
    """Print the tables and draw the figure.

    Raises:
        ConfigError: a number is out of range.
    """
    options = parser().parse_args(arguments)
    if not 0.05 <= options.t_train <= 10:
        raise ConfigError(f"--t-train must lie in [0.05, 10], got {options.t_train:g}")
    for name in ("train_top_p", "eval_top_p"):
        value = getattr(options, name)
        if not 0 < value <= 1:
            raise ConfigError(f"--{name.replace('_', '-')} must lie in (0, 1], got {value:g}")
    base = teacher()
    tuned = student(base, options.t_train, options.train_top_p)
    top_ps = tuple(sorted({*TOP_PS, options.eval_top_p}))
    print(
        f"toy machine of the paper (appendix C.4): student trained on the teacher's samples at "
        f"T_train={options.t_train:g}, top-p {options.train_top_p:g}\n\n{places(base, tuned)}\n\n"
        f"best success over T_eval in [{TEMPS[0]:g}, {TEMPS[-1]:g}]\n{table(base, tuned, top_ps)}\n"
    )
    # Importing matplotlib takes a third of a second; a wrong number is refused before.
    from ssd.toy.figure import write_figure

    for path in write_figure(options.out, base, tuned, options.eval_top_p, top_ps):
        print(f"written: {path}", flush=True)
