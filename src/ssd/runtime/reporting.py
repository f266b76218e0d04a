"""How a process says why it failed: one line, an exit code, a file for the process above it."""

import os
import select
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NoReturn, TextIO

from hydra.errors import HydraException
from omegaconf.errors import OmegaConfBaseException

from ssd.artifacts.files import refusal
from ssd.errors import REPORTED, RESUMABLE, PreemptedError, ReportedError, SSDError

PREEMPTION_SIGNALS = (signal.SIGTERM, signal.SIGUSR1)
"""Signals that clusters send before they take a machine away; SLURM's is set with --signal."""
SIGNAL_SECONDS = 1.0
"""Longest wait of a main thread for another thread. Python handles signals between two steps of the
main thread: one that arrives after the last step before a wait is seen when the wait is over."""
INTERRUPTED = "interrupted: what is finished is kept, the same command goes on from there"
REASON = "SSD_REASON_FILE"
"""Environment variable: the file into which a child process writes its reason."""


@contextmanager
def reporting_errors() -> Iterator[None]:
    """Print an expected failure as one line and exit with code 3;
    every other exception keeps its traceback."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
    os.environ.setdefault("CUDA_DEVICE_ORDER", "PCI_BUS_ID")  # nvidia-smi's
    # Not in ranks: torchrun ends those by a signal when another one has failed and said why.
    if "LOCAL_RANK" not in os.environ:
        for number in PREEMPTION_SIGNALS:
            signal.signal(number, _stop)
    try:
        yield
    except ReportedError as error:
        _leave_reason(str(error))
        sys.exit(REPORTED)
    except PreemptedError as error:
        print(error, file=sys.stderr, flush=True)
        sys.exit(RESUMABLE)
    except SSDError as error:
        _report(str(error))
    except (HydraException, OmegaConfBaseException) as error:
        from ssd.config.mistakes import explain

        _report(str(explain(error)))
    except OSError as error:
        if isinstance(error, BrokenPipeError) and has_no_reader(sys.stdout):
            # What Python flushes at its end must not fail again.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            sys.exit(128 + signal.SIGPIPE)
        reason = refusal(error, Path(error.filename or "."))
        if reason is None:
            raise
        _report(reason)
    except KeyboardInterrupt:
        print(INTERRUPTED, file=sys.stderr, flush=True)
        sys.exit(128 + signal.SIGINT)


def end_when_interrupted() -> None:
    """Let Ctrl-C end this process where it stands, as a kill would: for work that may be cut
    anywhere, in libraries that wrap KeyboardInterrupt or make an exit code 1 of it."""

    def end(*_: Any) -> None:
        if os.environ.get("RANK", "0") == "0" and REASON not in os.environ:  # else a parent says it
            os.write(sys.stderr.fileno(), f"\n{INTERRUPTED}\n".encode())
        os._exit(128 + signal.SIGINT)

    signal.signal(signal.SIGINT, end)


def has_no_reader(stream: TextIO) -> bool:
    """Whether a stream is a pipe whose reader has gone, as `| head -1` does when it has enough."""
    poll = select.poll()
    poll.register(stream.fileno(), 0)
    return any(event & select.POLLERR for _, event in poll.poll(0))


def _stop(*_: Any) -> NoReturn:
    for number in PREEMPTION_SIGNALS:  # another one would end the clean-up that follows
        signal.signal(number, signal.SIG_IGN)
    # A signal's own effect would end this process with what it has opened still open.
    raise PreemptedError("stopped by a signal: the same command goes on from what is finished")


def _report(reason: str) -> NoReturn:
    print(f"error: {reason}", file=sys.stderr, flush=True)
    _leave_reason(reason)
    sys.exit(REPORTED)


def _leave_reason(reason: str) -> None:
    """Pass the printed message to the parent process, which records why a run failed."""
    if REASON in os.environ:
        with suppress(OSError):  # a full disk: the reason is on the screen
            Path(os.environ[REASON]).write_text(reason, encoding="utf-8")
