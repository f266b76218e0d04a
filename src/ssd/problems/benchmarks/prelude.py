"""What graders of LiveCodeBench import for every program before it runs."""

from ssd.config.choices import Grading

MOST_DIGITS = 50_000
"""Longest integer that is read or printed (same repository, `compute_code_generation_metrics.py`);
Python's own limit is 4,300."""
STAR_IMPORTS = [
    "string", "re", "datetime", "collections", "heapq", "bisect", "copy", "math", "random",
    "statistics", "itertools", "functools", "operator", "io", "sys", "json", "builtins", "typing",
]  # fmt: skip
"""In this order: after `math`, `operator` and `io`, `builtins` gives back `pow` and `open`."""
OFFICIAL = "\n".join(
    [
        *(f"from {module} import *" for module in STAR_IMPORTS),
        *(f"import {module}" for module in STAR_IMPORTS[:-2]),
        "sys.setrecursionlimit(50000)",
        f"sys.set_int_max_str_digits({MOST_DIGITS})\n",
    ]
)
"""Repository LiveCodeBench/LiveCodeBench, `lcb_runner/evaluation/testing_util.py`, and its number
of digits."""

NAMES = {
    "itertools": "accumulate, chain, combinations, count, permutations, product, groupby, islice, "
    "repeat, zip_longest, cycle",
    "copy": "deepcopy",
    "string": "ascii_lowercase",
    "math": "floor, log2, log10, sqrt, comb, gcd, ceil, inf, isqrt, log, prod",
    "collections": "defaultdict, deque, Counter, OrderedDict",
    "bisect": "bisect, bisect_left, bisect_right, insort",
    "heapq": "heappush, heappop, heapify, merge",
    "functools": "reduce, cache, lru_cache, partial",
    "random": "randrange, shuffle",
    "operator": "itemgetter, sub, iand",
    "re": "search as re_search",
    "os.path": "commonprefix",
    "typing": "List, Tuple, Dict, Set, Optional, Union, Any, Callable, Iterable, Iterator, "
    "Generator",
}
APPLE_RELEASE = "\n".join(
    [
        *(f"from {module} import {names}" for module, names in NAMES.items()),
        "import copy, string, math, collections, bisect, heapq, functools, random, itertools",
        "import operator, re, sys",
        "import numpy as np\n",
    ]
)
"""Repository apple/ml-ssd, `evaluation/livecodebench_utils.py`, less pandas as `pd`, whose import
would cost every program more than its tests do."""

PRELUDES = {
    Grading.official: OFFICIAL,
    Grading.apple_release: APPLE_RELEASE,
    Grading.tolerant: OFFICIAL,
}
