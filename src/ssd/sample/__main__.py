"""`ssd sample RUN_DIR`."""

from ssd.generation.engines import run_engine
from ssd.run import load_run, stage_parser
from ssd.run.rounds import drawn_by
from ssd.runtime.reporting import reporting_errors
from ssd.sample.corpus import sample

if __name__ == "__main__":
    arguments = stage_parser(
        "sample",
        "Sample the run's corpus from its frozen model, or from what the round before has trained; "
        "resumes what a killed run left.",
    ).parse_args()
    with reporting_errors():
        run = load_run(arguments.run_dir)
        source, limit = drawn_by(run), run.config.sampler.max_model_len
        with run_engine(*source, max_model_len=limit) as engine:
            sample(run, engine)
