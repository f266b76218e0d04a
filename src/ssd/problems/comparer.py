"""The judge of answers that are values. Nothing of an answer is run, so it needs no sandbox."""

import json
import os
import signal
import subprocess
import sys
import threading
import time

from ssd.config.choices import Grading
from ssd.errors import HardwareError
from ssd.problems.benchmarks.tasks import Expected
from ssd.problems.values import plain_text
from ssd.sandbox.endings import FAILED, PASSED, Outcome, printable

NOWHERE = ""
"""In the place of a sandbox's name, beside verdicts on values."""


class Comparer:
    """Compares values, for several threads at once; ends its processes as a context manager."""

    name = NOWHERE

    def __init__(self, *, memory_mib: int, workers: int) -> None:
        self.workers = workers
        self._memory = memory_mib * 2**20
        self._idle: list[subprocess.Popen[bytes]] = []
        self._children: list[subprocess.Popen[bytes]] = []
        self._stopped = False
        self._lock = threading.Lock()

    def compare(self, expected: Expected, value: str, timeout: float) -> Outcome:
        """Whether a value is the expected one; `timeout` is in seconds.

        Raises:
            HardwareError: the process that compares has been ended from outside.
        """
        started = time.monotonic()
        status, detail = self._compared(expected, value, timeout)
        if status == FAILED:
            detail = printable(f"{value} is not {expected.answer}")
        return Outcome(status, detail, self.name, time.monotonic() - started)

    def _compared(self, expected: Expected, value: str, timeout: float) -> tuple[str, str]:
        # Numbers are written alike where they are equal.
        if plain_text(value) == plain_text(expected.answer):
            return PASSED, ""
        if expected.grading is not Grading.math_verify:
            return FAILED, ""
        return self._verified(expected.answer, value, timeout)

    def _verified(self, expected: str, value: str, timeout: float) -> tuple[str, str]:
        """Status and detail by math-verify, in a process with limits."""
        pair = {"expected": expected, "answer": value, "timeout": timeout, "memory": self._memory}
        try:
            child = self._take()
            assert child.stdin is not None
            assert child.stdout is not None
            child.stdin.write(f"{json.dumps(pair)}\n".encode())
            child.stdin.flush()
            status, detail = json.loads(child.stdout.readline())
        except (OSError, ValueError) as error:
            raise HardwareError(
                "the process that compares answers by math-verify has ended: check the memory of "
                "this machine, or set eval.grading=exact"
            ) from error
        with self._lock:
            self._idle.append(child)
        return status, detail

    def _take(self) -> "subprocess.Popen[bytes]":
        with self._lock:
            if self._stopped:
                raise OSError("stopped")
            if self._idle:
                return self._idle.pop()
            child = subprocess.Popen(
                [sys.executable, "-m", "ssd.problems.math_child"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                # Sets of symbols are walked through in the same order by every process.
                env={**os.environ, "PYTHONHASHSEED": "0"},
                start_new_session=True,  # Ctrl-C is for the grader, which ends it
            )
            self._children.append(child)
            return child

    def stop(self) -> None:
        """End the comparisons that run; their threads see a `HardwareError`."""
        with self._lock:
            self._stopped = True
            for child in self._children:
                if child.poll() is None:
                    os.killpg(child.pid, signal.SIGKILL)  # with the fork that compares

    def close(self) -> None:
        """End all processes."""
        self.stop()
        for child in self._children:
            child.communicate()

    def __enter__(self) -> "Comparer":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
