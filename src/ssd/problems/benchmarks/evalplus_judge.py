"""EvalPlus's judge (Liu et al. 2023, arXiv 2305.01210): the reference solution's results decide.

This file's text is sent into the sandbox and runs there as the judge, so it imports nothing of the
project; `judge` is called with the task as JSON. Rules from repository evalplus/evalplus:
`evalplus/eval/__init__.py`, `_special_oracle.py` and `data/mbpp.py`.
"""

import copy
import math
import reprlib
from collections.abc import Callable
from typing import Any

import numpy as np

RELATIVE = 1e-07
SMALL = 1e-6
"""Absolute tolerance where the reference returns floats and the task names none."""
SETS = (
    "similar_elements", "find_char_long", "common_in_nested_lists", "extract_singly",
    "larg_nnum", "intersection_array", "find_dissimilar", "Diff",
)  # fmt: skip
"""Functions of MBPP whose results are compared as sets."""
MATCHES = "check_str", "text_match_three", "text_starta_endb"
"""Functions of MBPP that may return any object for true and None for false."""


def inner(value: list[Any]) -> list[Any]:
    """A list whose own lists are tuples."""
    return [tuple(item) if isinstance(item, list) else item for item in value]


def deep(value: Any) -> Any:
    """A value with tuples for lists at every depth."""
    return tuple(deep(item) for item in value) if isinstance(value, list) else value


RESTORED: tuple[tuple[Callable[[list[Any]], list[Any]], tuple[int, ...]], ...] = (
    (lambda them: [tuple(argument) for argument in them], (
        2, 116, 132, 143, 222, 261, 273, 394, 399, 421, 424, 429, 470, 560, 579, 596, 616, 630,
        726, 740, 744, 809,
    )),
    (lambda them: [inner(argument) for argument in them], (
        63, 64, 70, 94, 120, 237, 272, 299, 400, 409, 417, 438, 473, 614, 780,
    )),
    (lambda them: [tuple(inner(argument)) for argument in them], (259, 278, 401, 445)),
    (lambda them: [tuple(them[0]), *them[1:]], (250, 307, 405, 446, 617, 720, 763, 808)),
    (lambda them: [them[0], tuple(them[1]), *them[2:]], (106, 750)),
    (lambda them: [inner(them[0]), *them[1:]], (75, 413, 444, 753)),
    (lambda them: [deep(argument) for argument in them], (580, 615, 791)),
    (lambda them: [[set(item) if item else {} for item in them[0]]], (115,)),
    (lambda them: [float(them[0]), complex(them[1])], (124,)),
    (lambda them: [complex(them[0])], (252,)),
    (lambda them: [{key: tuple(row) for key, row in them[0].items()}, *them[1:]], (722,)),
)  # fmt: skip
"""The arguments of a call as MBPP's tasks take them, from those that JSON holds, which has no
tuples, sets or complex numbers."""


def restore(task_id: str, arguments: list[Any]) -> list[Any]:
    """The arguments of one call as Python values."""
    dataset, _, number = task_id.partition("/")
    for change, tasks in RESTORED if dataset == "Mbpp" else ():
        if int(number) in tasks:
            return change(arguments)
    return arguments


def is_floats(value: Any) -> bool:
    """Whether a result is a float or consists of floats."""
    if isinstance(value, list | tuple):
        return bool(value) and all(isinstance(item, float) for item in value)
    if isinstance(value, np.ndarray):
        return bool(value.dtype in (np.float64, np.float32))
    return isinstance(value, float)


def agree(name: str, arguments: list[Any], result: Any, expected: Any, atol: float) -> bool:
    """Whether a result counts as the reference's, for the function `name` of its benchmark."""
    if name == "HumanEval/find_zero":  # any root will do
        coefficients = arguments[0]
        return bool(abs(sum(c * result**i for i, c in enumerate(coefficients))) <= atol)
    exact = equals_answer(name, arguments, result, expected, atol)
    if exact or atol == 0:
        return exact
    if type(result) is not type(expected):
        return False
    if isinstance(expected, list | tuple) and len(result) != len(expected):
        return False
    if np.size(result) == 0 and np.size(expected):  # numpy: nothing is close to everything
        return False
    return bool(np.allclose(result, expected, rtol=RELATIVE, atol=atol))


def equals_answer(name: str, arguments: list[Any], result: Any, expected: Any, atol: float) -> bool:
    """Equality, or what stands for it where a task has several right answers."""
    dataset, _, function = name.partition("/")
    if dataset == "Mbpp" and function in SETS:
        return set(result) == set(expected)
    if dataset == "Mbpp" and function in MATCHES:
        return bool((result if isinstance(result, bool) else result is not None) == expected)
    if result == expected or dataset != "Mbpp":
        return bool(result == expected)
    if function == "sum_div":
        return bool(result == 0)
    if function == "surface_Area":
        return bool(abs(result - surface_area(*arguments)) <= atol)
    if function == "digit_distance_nums":
        return bool(result == digit_distance(*arguments))
    return function == "are_equivalent"  # ambiguous: upstream takes every answer


def surface_area(edge: float, height: float) -> int:
    """Of a square pyramid, with `height` from its base to its tip instead of along a side."""
    return round(edge**2 + 2 * edge * math.sqrt((edge / 2) ** 2 + height**2))


def digit_distance(first: int, second: int) -> int:
    """Sum of the differences of digits, the shorter number padded with zeros."""
    width = max(len(str(first)), len(str(second)))
    pairs = zip(str(first).zfill(width), str(second).zfill(width), strict=True)
    return sum(abs(int(a) - int(b)) for a, b in pairs)


def judge(task: dict[str, Any], candidate: Callable[..., Any]) -> None:
    """Compare the candidate with the reference on all base inputs, then on all plus inputs.

    Raises:
        AssertionError: they differ.
    """
    scope: dict[str, Any] = {}
    exec(task["reference"], scope)
    function = task["function"]
    name = f"{task['task_id'].partition('/')[0]}/{function}"
    for part in ("base_input", "plus_input"):
        atol = task["atol"]
        for number, raw in enumerate(task[part], start=1):
            arguments = restore(task["task_id"], raw)
            expected = scope[function](*copy.deepcopy(arguments))
            if name.startswith("Mbpp/") and function in MATCHES:
                expected = expected is not None
            # As upstream, once a result is of floats the tolerance stays for those that follow.
            if atol == 0 and is_floats(expected):
                atol = SMALL
            result = candidate(*copy.deepcopy(arguments))
            agreed = agree(name, arguments, result, expected, atol)
            assert agreed, f"{part} {number}: got {reprlib.repr(result)}"
            del expected, result  # Mbpp/255 returns millions of tuples
