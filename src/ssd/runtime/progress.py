"""Progress bars that stay readable in a log file."""

import sys
import warnings
from logging import getLogger
from typing import Any

from tqdm import tqdm


def progress_bar(label: str, total: int, *, done: int = 0, unit: str, hidden: bool = False) -> Any:
    """A tqdm bar with time left; off a terminal, where it is a stream of lines, one every 15 s."""
    interval = 0.5 if sys.stderr.isatty() else 15.0
    return tqdm(
        total=total,
        initial=done,
        desc=label,
        unit=unit,
        mininterval=interval,
        maxinterval=interval,
        dynamic_ncols=True,
        disable=hidden,
    )


def silence_loading_bars() -> None:
    """Turn off transformers' bars for loading and saving weights, which last a moment and bury
    the stage's own, bitsandbytes' advice at import to install a CPU kernel it does without, and
    torch's warning that one process reads what several wrote."""
    from transformers.utils import logging

    logging.disable_progress_bar()
    warnings.filterwarnings("ignore", message=".*assuming the intent is to (save|load) in a s.*")
    getLogger("bitsandbytes.backends.cpu.ops").setLevel("ERROR")
