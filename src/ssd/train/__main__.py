"""`python -m ssd.train RUN_DIR`, or under torchrun, one process per device."""

from ssd.run import load_run, stage_parser
from ssd.stage import reporting_errors

if __name__ == "__main__":
    description = "Train the run's model on its corpus; resumes from the last checkpoint."
    arguments = stage_parser("ssd.train", description).parse_args()
    with reporting_errors():
        run = load_run(arguments.run_dir)

        from ssd.train.trainer import (
            train,
        )  # after the cheap checks: torch and Lightning take seconds to import

        train(run)
