"""Progress bars that stay readable in a log file."""

import sys
import warnings
from logging import LogRecord, getLogger
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
    the stage's own, torch's warning that one process reads what several wrote, and the table of
    stored tensors that transformers passes over, which the model's check has listed."""
    from transformers.utils import logging

    logging.disable_progress_bar()
    warnings.filterwarnings("ignore", message=".*assuming the intent is to (save|load) in a s.*")
    getLogger("transformers.modeling_utils").addFilter(_tells_more)
    silence_imports()


def silence_imports() -> None:
    """Turn off what is said when peft imports bitsandbytes, which advises to install a CPU kernel
    it does without, and torchao, whose kernels nothing here uses and whose settings use a call that
    torch gives up."""
    for name in ("bitsandbytes.backends.cpu.ops", "torchao", "torch.utils._pytree"):
        getLogger(name).setLevel("ERROR")


def _tells_more(record: LogRecord) -> bool:
    """Whether a line is no report of a load, or one of weights that are missing or misshapen."""
    text = record.getMessage()
    return "LOAD REPORT" not in text or any(
        word in text for word in ("MISSING", "MISMATCH", "CONVERSION")
    )
