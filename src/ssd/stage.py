"""What a run's processes share: how they report errors, and that they end with their parent."""

import ctypes
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from hydra.errors import HydraException
from omegaconf.errors import OmegaConfBaseException

from ssd.errors import SSDError, StageError

REPORTED = 3
"""Exit code of a stage that has printed its reason in one line."""
RESUMABLE = 75
"""Exit code of a training that a signal stopped and that left a checkpoint (EX_TEMPFAIL)."""
PREEMPTION_SIGNALS = (signal.SIGTERM, signal.SIGUSR1)
"""What clusters send before they take a machine away; SLURM's is set with --signal."""
PR_SET_PDEATHSIG = 1
LIBC = ctypes.CDLL(None) if sys.platform == "linux" else None


@contextmanager
def reporting_errors() -> Iterator[None]:
    """Print an expected failure as one line and exit with code 3;
    every other exception keeps its traceback."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
    try:
        yield
    except ReportedError:
        sys.exit(REPORTED)
    except PreemptedError as error:
        print(error, file=sys.stderr, flush=True)
        sys.exit(RESUMABLE)
    except SSDError as error:
        print(f"error: {error}", file=sys.stderr, flush=True)
        sys.exit(REPORTED)
    except (HydraException, OmegaConfBaseException) as error:
        from ssd.composition import explain

        print(f"error: {explain(error)}", file=sys.stderr, flush=True)
        sys.exit(REPORTED)
    except (PermissionError, NotADirectoryError, FileExistsError) as error:
        print(
            f"error: {error.filename}: {error.strerror}; set output_dir to a writable folder",
            file=sys.stderr,
            flush=True,
        )
        sys.exit(REPORTED)
    except KeyboardInterrupt:
        print(
            "interrupted: what is finished is kept, the same command goes on from there",
            file=sys.stderr,
            flush=True,
        )
        sys.exit(128 + signal.SIGINT)


class PreemptedError(StageError):
    """A signal stopped a stage that can be resumed."""


class ReportedError(StageError):
    """A child process failed and has printed its reason."""


def run_child(command: list[str], what: str, environment: dict[str, str] | None = None) -> None:
    """Run a child process to its end, and pass it a cluster's signals to stop.

    Raises:
        ReportedError: it failed and said why.
        PreemptedError: it was asked to stop, and did.
        StageError: it crashed or was killed.
    """
    process = subprocess.Popen(command, preexec_fn=_end_with_parent, env=environment)
    received: list[int] = []

    def pass_on(number: int, _: Any) -> None:
        received.append(number)
        process.send_signal(number)

    previous = {number: signal.signal(number, pass_on) for number in PREEMPTION_SIGNALS}
    try:
        code = process.wait()
    except BaseException:
        process.terminate()
        process.wait()
        raise
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
    if code == RESUMABLE or (received and code != 0):
        raise PreemptedError(f"{what} stopped: the same command goes on from what is finished")
    if code == REPORTED:
        raise ReportedError(what)
    if code < 0:
        name = signal.Signals(-code).name
        hint = " (often for want of memory)" if -code == signal.SIGKILL else ""
        raise StageError(
            f"{what} was ended by {name}{hint}: the same command goes on from what is finished"
        )
    if code > 0:
        raise StageError(
            f"{what} failed with exit code {code}, see above: "
            "the same command goes on from what is finished"
        )


def _end_with_parent() -> None:
    # Without this a killed pipeline leaves a stage behind that holds the artifact's lock.
    if LIBC is not None:
        LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
