"""Whether two mathematical expressions are equal by math-verify: a process that `Comparer` starts.

A line of JSON comes in (the expected value, the answer, seconds, bytes), a line goes out. Every
pair is compared in a fork. An answer such as 9^{9^{9^9}} hangs in one multiplication or takes all
memory: the kernel ends its fork, and the next pair finds the same libraries as the first.
"""

import json
import logging
import os
import resource
import signal
import sys
from typing import Any

from ssd.sandbox.endings import ERROR, FAILED, MEMORY, PASSED, TIMEOUT
from ssd.sandbox.inside.limits import address_space

EQUAL, DIFFERENT, OUT_OF_MEMORY, UNREADABLE = range(4)
"""Exit codes of a fork."""


def main() -> None:
    """Serve pairs until the standard input ends."""
    import math_verify

    logging.disable()  # it warns that its own time limits are off
    is_equal("1", "$2$", math_verify)  # builds the parser's tables
    base = address_space()
    for line in sys.stdin:
        print(json.dumps(compared(json.loads(line), base, math_verify)), flush=True)


def compared(pair: dict[str, Any], base: int, library: Any) -> tuple[str, str]:
    """The status of a pair, and the limit or signal that ended it; `base` is the bytes that a fork
    starts with."""
    pid = os.fork()
    if pid == 0:
        code = UNREADABLE
        try:
            resource.setrlimit(resource.RLIMIT_AS, (base + pair["memory"],) * 2)
            resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
            # By the signal's default action, which also ends a multiplication of integers.
            signal.setitimer(signal.ITIMER_REAL, pair["timeout"])
            equal = is_equal(pair["expected"], pair["answer"], library)
            code = EQUAL if equal else DIFFERENT
        except MemoryError:
            code = OUT_OF_MEMORY
        finally:  # never back into the loop of the process that forked this one
            os._exit(code)
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    mib = pair["memory"] // 2**20
    return {
        EQUAL: (PASSED, ""),
        DIFFERENT: (FAILED, ""),
        OUT_OF_MEMORY: (MEMORY, f"comparing took more than {mib} MiB"),
        UNREADABLE: (ERROR, "math-verify cannot read it"),
        -signal.SIGALRM: (TIMEOUT, f"still comparing after {pair['timeout']:g} s"),
    }.get(code, (ERROR, f"comparing ended by signal {-code}"))


def is_equal(expected: str, answer: str, library: Any) -> bool:
    """math-verify's word; its own time limits are signals in this process, and off."""
    gold = library.parse(f"${expected}$", parsing_timeout=None)
    target = library.parse(answer, parsing_timeout=None)
    return bool(library.verify(gold, target, timeout_seconds=None))


if __name__ == "__main__":
    main()
