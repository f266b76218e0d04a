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
    # In a forked child threading, logging and random clean up after other threads, of which there
    # are none, and draw a new seed. That touches 130 pages, a third of a fork.
    os.register_at_fork = lambda **_: None  # type: ignore[assignment]
    try:
        from . import zygote

        for name in PRELOADED:
            __import__(name)
    finally:
        os.register_at_fork = register
    zygote.serve(settings)
