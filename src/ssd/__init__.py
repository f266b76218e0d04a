"""Simple self-distillation: sample a frozen model, tune it on its samples, measure the change.

For notebooks: `from ssd import start_run, load_results, plan_run, grade_answers`.
"""

import importlib
from typing import Any

__version__ = "0.1.0"
NOTEBOOK = (
    "Results", "compose_config", "grade_answers", "load_results", "plan_run", "start_run",
)  # fmt: skip
"""What `ssd.notebook` offers; it is imported when one of these is asked for."""


def __getattr__(name: str) -> Any:
    if name in NOTEBOOK:
        return getattr(importlib.import_module("ssd.notebook"), name)
    raise AttributeError(f"module 'ssd' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *NOTEBOOK])
