"""torchrun that exits like its workers: `python -m ssd.runtime.torchrun ARGUMENTS`, torchrun's own.

A worker that has explained its failure in one line is not followed by a trace of the launcher, and
the pipeline sees the worker's exit code.
"""

import logging
import signal
import sys

from ssd.errors import RESUMABLE
from ssd.runtime.reporting import end_when_interrupted


def main() -> None:
    """Run torchrun; exit with the first failing worker's code, or by the signal that ended it."""
    end_when_interrupted()  # until torchrun, which takes seconds to import, handles signals itself
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.run import main as run

    logging.getLogger("torch.distributed.elastic").setLevel(logging.CRITICAL)
    try:
        run()
    except ChildFailedError as error:
        _, failure = error.get_first_failure()
        if failure.exitcode < 0:
            signal.raise_signal(-failure.exitcode)
        sys.exit(failure.exitcode)
    except SignalException:  # passed on to the workers, and they have ended
        sys.exit(RESUMABLE)


if __name__ == "__main__":
    main()
