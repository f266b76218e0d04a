"""`python -m ssd.evaluate RUN_DIR`, and the commands `grade`, `check` and `power` beside it."""

import argparse
import sys
from collections.abc import Callable

from ssd.run import load_run, stage_parser
from ssd.runtime.reporting import reporting_errors

EPILOG = """\
%(prog)s grade ANSWERS --benchmark NAME
  grades answers from elsewhere, and needs no run; see %(prog)s grade --help
%(prog)s check FILE
  says which problems of your own have tests that cannot fail, or fail their own solution
%(prog)s power RUN_DIR [--benchmark NAME] [--difference 3]
  says from a finished run how many problems and samples per problem it takes to see a
  difference, and what the benchmark's present size can show; see %(prog)s power --help
"""


def command(name: str) -> Callable[[list[str]], None] | None:
    """The command of that name; None where the word is a run's folder."""
    if name == "grade":
        from ssd.evaluate.standalone import run_grade

        return run_grade
    if name == "check":
        from ssd.evaluate.soundness import run_check

        return run_check
    if name == "power":
        from ssd.evaluate.power import run_power

        return run_power
    return None


def main(arguments: list[str]) -> None:
    """Evaluate a run, or do what a command says."""
    with reporting_errors():
        run_command = command(arguments[0]) if arguments else None
        if run_command is not None:
            run_command(arguments[1:])
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
