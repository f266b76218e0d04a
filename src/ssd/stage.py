"""What a run's processes share: how they report errors, and that they end with their parent."""

import ctypes
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from hydra.errors import HydraException
from omegaconf.errors import OmegaConfBaseException

from ssd.errors import SSDError, StageError

REPORTED = 3
"""Exit code of a stage that has printed its reason in one line."""
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


class ReportedError(StageError):
    """A child process failed and has printed its reason."""


def run_child(command: list[str], what: str) -> None:
    """Run a child process to its end.

    Raises:
        ReportedError: it failed and said why.
        StageError: it crashed or was killed.
    """
    process = subprocess.Popen(command, preexec_fn=_end_with_parent)
    try:
        code = process.wait()
    except BaseException:
        process.terminate()
        process.wait()
        raise
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
