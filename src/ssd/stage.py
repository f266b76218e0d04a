"""What a run's processes share: how they report errors, and that they end with their parent."""

import ctypes
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

from hydra.errors import HydraException
from omegaconf.errors import OmegaConfBaseException

from ssd.errors import SSDError, StageError

REPORTED = 3
"""Exit code of a stage that has printed its reason in one line."""
RESUMABLE = 75
"""Exit code of a training that a signal stopped and that left a checkpoint (EX_TEMPFAIL)."""
PREEMPTION_SIGNALS = (signal.SIGTERM, signal.SIGUSR1)
"""What clusters send before they take a machine away; SLURM's is set with --signal."""
REASON = "SSD_REASON_FILE"
"""Environment variable: where a child process leaves its reason."""
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
    except ReportedError as error:
        _leave_reason(str(error))
        sys.exit(REPORTED)
    except PreemptedError as error:
        print(error, file=sys.stderr, flush=True)
        sys.exit(RESUMABLE)
    except SSDError as error:
        _report(str(error))
    except (HydraException, OmegaConfBaseException) as error:
        from ssd.composition import explain

        _report(str(explain(error)))
    except (PermissionError, NotADirectoryError, FileExistsError) as error:
        _report(f"{error.filename}: {error.strerror}; set output_dir to a writable folder")
    except KeyboardInterrupt:
        print(
            "interrupted: what is finished is kept, the same command goes on from there",
            file=sys.stderr,
            flush=True,
        )
        sys.exit(128 + signal.SIGINT)


def _report(reason: str) -> NoReturn:
    print(f"error: {reason}", file=sys.stderr, flush=True)
    _leave_reason(reason)
    sys.exit(REPORTED)


def _leave_reason(reason: str) -> None:
    """Tell the parent process what has been printed: it records why a run failed."""
    if REASON in os.environ:
        Path(os.environ[REASON]).write_text(reason, encoding="utf-8")


class PreemptedError(StageError):
    """A signal stopped a stage that can be resumed."""


class ReportedError(StageError):
    """A child process failed and has printed its reason, which is the message."""


def run_child(command: list[str], what: str, environment: dict[str, str] | None = None) -> None:
    """Run a child process to its end, and pass it a cluster's signals to stop.

    Raises:
        ReportedError: it failed and said why.
        PreemptedError: it was asked to stop, and did.
        StageError: it crashed or was killed.
    """
    with tempfile.TemporaryDirectory(prefix="ssd-") as folder:
        reason = Path(folder) / "reason"
        told = {**(os.environ if environment is None else environment), REASON: str(reason)}
        code, stopped = _wait(subprocess.Popen(command, preexec_fn=_prepare, env=told))
        said = reason.read_text(encoding="utf-8") if reason.is_file() else what
    if code == RESUMABLE or (stopped and code != 0):
        raise PreemptedError(
            f"{what} stopped: the same command goes on from what is finished", what
        )
    if code == REPORTED:
        raise ReportedError(said, what)
    if code < 0:
        name = signal.Signals(-code).name
        hint = " (often for want of memory)" if -code == signal.SIGKILL else ""
        raise StageError(
            f"{what} was ended by {name}{hint}: the same command goes on from what is finished",
            what,
        )
    if code > 0:
        raise StageError(
            f"{what} failed with exit code {code}, see above: "
            "the same command goes on from what is finished",
            what,
        )


def _wait(process: subprocess.Popen[bytes]) -> tuple[int, bool]:
    """The exit code of a child process, and whether it was asked to stop meanwhile."""
    received: list[int] = []

    def pass_on(number: int, _: Any) -> None:
        received.append(number)
        process.send_signal(number)

    previous = {number: signal.signal(number, pass_on) for number in PREEMPTION_SIGNALS}
    try:
        return process.wait(), bool(received)
    except BaseException:
        process.terminate()
        process.wait()
        raise
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def _prepare() -> None:
    # Submitit asks a job to stop by SIGUSR2, which SLURM sends to every process of the job and
    # which would end a stage without its checkpoint. The driver answers it, and stops the stage.
    signal.signal(signal.SIGUSR2, signal.SIG_IGN)
    # Without this a killed pipeline leaves a stage behind that holds the artifact's lock.
    if LIBC is not None:
        LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
