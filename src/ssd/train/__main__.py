"""`ssd train RUN_DIR`, or under torchrun, one process per device."""

import os
import sys

from ssd.run import load_run, stage_parser
from ssd.runtime.children import end_with_parent
from ssd.runtime.reporting import end_when_interrupted, reporting_errors


def main() -> None:
    """Command line of this module."""
    description = "Train the run's model on its corpus; resumes from the last checkpoint."
    arguments = stage_parser("train", description).parse_args()
    if "RANK" in os.environ:
        end_with_parent()  # a killed torchrun would leave its ranks training
    end_when_interrupted()
    with reporting_errors():
        run = load_run(arguments.run_dir)

        # After the cheap checks: torch and Lightning take seconds to import.
        from ssd.train.trainer import train

        train(run)


if __name__ == "__main__":
    code = 0
    try:
        main()
    except SystemExit as ending:
        if "RANK" not in os.environ or not isinstance(ending.code, int):
            raise
        code = ending.code
    if "RANK" in os.environ:
        # All is written. Gloo's threads now and then abort a rank that runs C++'s exit handlers.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
