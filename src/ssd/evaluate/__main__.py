"""`ssd evaluate RUN_DIR`, and the commands `grade`, `check`, `power` and `lm_eval`
beside it."""

import sys

from ssd.run import load_run, stage_parser
from ssd.runtime.command_line import dispatch
from ssd.runtime.reporting import reporting_errors

NOTES = """\
%(prog)s grade ANSWERS --benchmark NAME
  grades answers from elsewhere, and needs no run; also as ssd grade
%(prog)s check FILE
  says which problems of your own have tests that cannot fail, or fail their own solution
%(prog)s power RUN_DIR [--benchmark NAME] [--difference 3]
  says from a finished run how many problems and samples per problem it takes to see a
  difference, and what the benchmark's present size can show
%(prog)s lm_eval RUN_DIR --tasks NAMES
  answers tasks of EleutherAI's harness with the run's models
Each has a --help of its own.
"""


def main(arguments: list[str]) -> None:
    """Evaluate a run, or do what a command says."""
    with reporting_errors():
        from ssd.evaluate.harness import run_lm_eval
        from ssd.evaluate.power import run_power
        from ssd.evaluate.soundness import run_check
        from ssd.evaluate.standalone import run_grade

        commands = {
            "grade": run_grade,
            "check": run_check,
            "power": run_power,
            "lm_eval": run_lm_eval,
        }
        if dispatch(arguments, commands):
            return
    parser = stage_parser(
        "evaluate",
        "Answer, grade and score the run's benchmarks with its base model, tuned model and "
        "controls.",
        notes=NOTES,
    )
    run_dir = parser.parse_args(arguments).run_dir
    with reporting_errors():
        from ssd.evaluate.evaluation import evaluate

        evaluate(load_run(run_dir))


if __name__ == "__main__":
    main(sys.argv[1:])
