"""The output of vLLM's processes, kept in a file. An engine that starts prints nothing of interest.
One that fails prints pages of tracebacks, and a single line of them is the cause.
"""

import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PREFIX = re.compile(r"^(\(.*?\) )?([A-Z]+ [\d-]+ [\d:]+ \[.*?\] )?")
"""The beginning of a line: the process, and the logger's level, time and place."""
EXCEPTION = re.compile(r"^[\w.]*(Error|Exception|Interrupt)\b: .")
ELSEWHERE = re.compile(r"(see|check) .*(root cause|stack trace)|initialization failed", re.I)
"""What processes print about each other's failures."""
SILENT = "its process ended without a word, which is often for want of main memory"


@contextmanager
def printing_to(log: Path) -> Iterator[None]:
    """Append the output of this process to a file during the context, and that of processes started
    in it for as long as they live."""
    streams = {1: sys.stdout, 2: sys.stderr}
    originals = {number: os.dup(number) for number in streams}
    with log.open("ab") as file:
        try:
            for number, stream in streams.items():
                stream.flush()
                os.dup2(file.fileno(), number)
            yield
        finally:
            for number, stream in streams.items():
                stream.flush()
                os.dup2(originals[number], number)
                os.close(originals[number])


def find_cause(log: Path) -> str | None:
    """The last exception in a log that does not point at another one; None where there is none."""
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    plain = (PREFIX.sub("", line) for line in reversed(lines))
    return next(
        (text for text in plain if EXCEPTION.match(text) and not ELSEWHERE.search(text)), None
    )


def own_cause(message: str) -> str:
    """The message of an exception here, unless it points at a process that printed nothing."""
    return SILENT if ELSEWHERE.search(message) else message
