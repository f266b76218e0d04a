"""`python -m ssd.evaluate RUN_DIR`."""

from ssd.evaluate.evaluation import evaluate
from ssd.run import load_run, stage_parser
from ssd.stage import reporting_errors

if __name__ == "__main__":
    parser = stage_parser(
        "ssd.evaluate",
        "Answer, grade and score the run's benchmarks with its base and tuned model.",
    )
    arguments = parser.parse_args()
    with reporting_errors():
        evaluate(load_run(arguments.run_dir))
