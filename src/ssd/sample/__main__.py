"""`python -m ssd.sample RUN_DIR`."""

from ssd.generation.engines import run_engine
from ssd.run import load_run, stage_parser
from ssd.runtime.reporting import reporting_errors
from ssd.sample.corpus import sample

if __name__ == "__main__":
    arguments = stage_parser(
        "ssd.sample",
        "Sample the run's corpus from its frozen model; resumes what a killed run left.",
    ).parse_args()
    with reporting_errors():
        run = load_run(arguments.run_dir)
        with run_engine(run, max_model_len=run.config.sampler.max_model_len) as engine:
            sample(run, engine)
