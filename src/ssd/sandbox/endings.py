"""How a program ended, from what its worker, its judge and its pipes say."""

import json
import signal
from dataclasses import dataclass, field
from typing import Any

from ssd.sandbox.inside.jobs import GONE, OUT_OF_MEMORY

STATUSES = "passed", "failed", "error", "timeout", "memory", "output"
"""Every status of a program; `failed` is a failed assertion, `error` is any other way of not
reaching the end."""
PASSED, FAILED, ERROR, TIMEOUT, MEMORY, OUTPUT = STATUSES
OUTPUT_BYTES = 16 * 2**20
"""Standard output and error together."""
ERROR_BYTES = 4096
DETAIL_LENGTH = 300


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a candidate ended, and under which backend; a program has `passed` with exit code 0 and
    within the limits."""

    status: str
    detail: str
    """The exception or the limit in one line, 300 characters at most; empty where it passed."""
    backend: str
    seconds: float = 0.0
    """Wall clock, from the first process to the last."""
    stdout: str = ""
    """Of a program, at most 16 MiB; bytes that are not UTF-8 are replaced."""


@dataclass
class Heard:
    """The contents of the two pipes of a job."""

    judged: bool
    output: bytearray = field(default_factory=bytearray)
    """Standard output, of a program that is not judged."""
    other: bytes = b""
    """The judge's report, or the end of standard error."""
    num_bytes: int = 0

    def take(self, chunk: bytes, *, is_output: bool) -> None:
        """Add a part of one of them."""
        self.num_bytes += len(chunk)
        if not is_output:
            self.other = (self.other + chunk)[-ERROR_BYTES:]
        elif not self.judged:
            self.output += chunk

    @property
    def is_too_much(self) -> bool:
        """Whether the program has printed more than is allowed."""
        return self.num_bytes > OUTPUT_BYTES


def verdict(reply: dict[str, Any], heard: Heard) -> tuple[str, str]:
    """Status and detail of a job: a worker's `reply`, and what was `heard`."""
    if heard.is_too_much:
        return OUTPUT, f"printed more than {OUTPUT_BYTES // 2**20} MiB"
    if reply["status"]:
        return reply["status"], reply["detail"]
    if heard.judged:
        return judged(reply, heard.other)
    return ended(reply["code"], heard.other)


def judged(reply: dict[str, Any], report: bytes) -> tuple[str, str]:
    """Status and detail of a job whose judge has written `report`."""
    if report:
        status, detail = json.loads(report)
        if status not in STATUSES:
            raise ValueError(f"a report of {status!r}")
        return status, str(detail)
    code = reply["code"]
    if code == 0:
        return ERROR, "left with exit code 0 before the end of the tests"
    if code is not None:
        return explain(code)
    if reply["judge_code"] == GONE:
        return ERROR, "closed its connection to the tests"
    return ERROR, "the tests were ended by the program"


def ended(code: int | None, errors: bytes) -> tuple[str, str]:
    """Status and detail of a program that has ended with `code` and the last output `errors`."""
    if code == 0:
        return PASSED, ""
    if code is None or code < 0 or code == OUT_OF_MEMORY:
        return explain(-signal.SIGKILL if code is None else code)
    lines = errors.decode("utf-8", "replace").split("\n")
    detail = next((line.strip() for line in reversed(lines) if line.strip()), f"exit code {code}")
    if detail == "MemoryError":
        return MEMORY, detail
    return (FAILED if detail.startswith("AssertionError") else ERROR), detail


def explain(code: int) -> tuple[str, str]:
    """Status and detail of a process that ended with `code`, negative for a signal."""
    if code == -signal.SIGXCPU:
        return TIMEOUT, "used up its CPU time"
    if code == OUT_OF_MEMORY:
        return MEMORY, "MemoryError"
    return ERROR, f"ended by signal {-code}" if code < 0 else f"exit code {code}"


def printable(text: str) -> str:
    """At most 300 characters of `text` in one line, with escapes for what a file, a terminal or a
    page could not take: lone surrogates, control characters."""
    plain = "".join(
        char if char.isprintable() else char.encode("unicode_escape").decode()
        for char in text[:DETAIL_LENGTH]
    )
    return plain[:DETAIL_LENGTH]
