"""Where a worker's interpreter begins: loads what jobs use, then serves them."""

import os
import sys

PRELOADED = (
    "bisect", "cmath", "collections", "copy", "dataclasses", "datetime", "decimal", "enum",
    "fractions", "functools", "hashlib", "heapq", "inspect", "io", "itertools", "json", "math",
    "operator", "pickle", "queue", "random", "re", "statistics", "string", "threading", "time",
    "traceback", "typing",
)  # fmt: skip


def main() -> None:
    """Called with the folder of this package and the settings of the worker, as JSON."""
    folder, settings = sys.argv[1:]
    sys.path.remove(folder)
    sys.argv = ["program.py"]
    register = os.register_at_fork
    # What threading, logging and random do in a forked child makes up for other threads, of which
    # there are none, and draws a new seed. It touches 130 pages, which is a third of a fork.
    os.register_at_fork = lambda **_: None  # type: ignore[assignment]
    try:
        from . import zygote

        for name in PRELOADED:
            __import__(name)
    finally:
        os.register_at_fork = register
    zygote.serve(settings)
