"""`python -m ssd.evaluate RUN_DIR`, and its commands `power` and `grade`."""

import argparse
import sys

from ssd.run import load_run, stage_parser
from ssd.stage import reporting_errors

POWER, GRADE = "power", "grade"
EPILOG = """\
%(prog)s power RUN_DIR [--benchmark NAME] [--difference 3]
  says from a finished run how many problems and samples per problem it takes to see a
  difference, and what the benchmark's present size can show; see %(prog)s power --help

%(prog)s grade ANSWERS --benchmark NAME
  grades answers from anywhere, without a run; see %(prog)s grade --help
"""


def main(arguments: list[str]) -> None:
    """Evaluate a run, or plan the size of an evaluation."""
    if arguments[:1] == [POWER]:
        from ssd.evaluate.power import run_power

        with reporting_errors():
            run_power(arguments[1:])
        return
    if arguments[:1] == [GRADE]:
        from ssd.evaluate.standalone import run_grade

        with reporting_errors():
            run_grade(arguments[1:])
        return
    parser = stage_parser(
        "ssd.evaluate",
        "Answer, grade and score the run's benchmarks with its base model, tuned model and "
        "controls.",
    )
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = EPILOG
    run_dir = parser.parse_args(arguments).run_dir
    with reporting_errors():
        from ssd.evaluate.evaluation import evaluate

        evaluate(load_run(run_dir))


if __name__ == "__main__":
    main(sys.argv[1:])
