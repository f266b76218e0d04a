"""One exception family: every message names the setting, the value and the remedy, in one line; and
the exit codes of this project's processes."""

import difflib
import re

FLAWED = 1
"""The checked file could be read and is wrong."""
REPORTED = 3
"""An expected failure, whose reason was printed in one line; argparse has taken 2."""
RESUMABLE = 75
"""A signal stopped the process; the same command resumes it (EX_TEMPFAIL)."""


class SSDError(Exception):
    """An expected failure: printed as one line, without a traceback, with exit code 3."""


class ConfigError(SSDError):
    """A setting is unknown, missing, out of range or at odds with another one."""


class DataError(SSDError):
    """A prompt file, corpus or benchmark cannot be used as it is."""


class ModelError(SSDError):
    """Weights or tokenizer are missing, incomplete or unsuitable."""


class ArtifactError(SSDError):
    """A stored artifact is damaged, locked or cannot be written."""


class HeldError(ArtifactError):
    """Another process is writing an artifact."""


class HardwareError(SSDError):
    """The machine lacks what the configuration asks for."""


class StageError(SSDError):
    """A stage process failed; it has printed its own reason."""

    def __init__(self, message: str, stage: str = "") -> None:
        super().__init__(message)
        self.stage = stage
        """What the process was to do, such as `stage train`; empty in the process itself."""


class PreemptedError(StageError):
    """A signal stopped a stage that can be resumed."""


class ReportedError(StageError):
    """A child process failed and has printed its reason, which is the message."""


UNREADABLE = (SSDError, OSError, KeyError, TypeError, ValueError, AttributeError)
"""What reading a run's files can raise, whatever was written into them."""


def one_line(error: BaseException) -> str:
    """The message of `error` on one line, without a library's own framing."""
    return re.sub(r"\s*\n\s*", " ", str(error)).strip() or type(error).__name__


def did_you_mean(word: str, known: list[str]) -> str:
    """`did you mean 'temp'?`, or the list of known words if none is similar."""
    near = difflib.get_close_matches(word, known, n=1)
    return f"did you mean '{near[0]}'?" if near else f"known: {', '.join(sorted(known))}"
