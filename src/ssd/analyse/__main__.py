"""`ssd analyse RUN_DIR`, and `ssd analyse toy|advice`."""

import sys

from ssd.analyse.advice import main as advice
from ssd.run import load_run, stage_parser
from ssd.runtime.command_line import dispatch
from ssd.runtime.reporting import reporting_errors
from ssd.toy.command import main as toy

NOTES = """\
%(prog)s toy
  reproduces the paper's toy machine (appendix C.4) in closed form; see %(prog)s toy --help
%(prog)s advice
  names evaluation temperatures worth trying; see %(prog)s advice --help
"""


def main(arguments: list[str]) -> None:
    """Analyse a run, or answer without one."""
    with reporting_errors():
        if dispatch(arguments, {"toy": toy, "advice": advice}):
            return
    parser = stage_parser(
        "analyse",
        "Read the same completions token by token under the run's base model and every trained "
        "one, and store what each predicts at each position.",
        notes=NOTES,
    )
    run_dir = parser.parse_args(arguments).run_dir
    with reporting_errors():
        run = load_run(run_dir)

        from ssd.analyse.analysis import analyse  # torch and transformers take seconds to import

        analyse(run)


if __name__ == "__main__":
    main(sys.argv[1:])
