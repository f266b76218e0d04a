"""`python -m ssd.train RUN_DIR`, or under torchrun, one process per device."""

from ssd.run import load_run, stage_parser
from ssd.stage import reporting_errors
from ssd.train.trainer import train

if __name__ == "__main__":
    arguments = stage_parser("ssd.train", "Train the run's model on its corpus; resumes from the last checkpoint.").parse_args()
    with reporting_errors():
        train(load_run(arguments.run_dir))
