"""`python -m ssd.drive.draw RUN_DIR`: all that one model can draw before a training.

Of the frozen model that is the corpus, the control's corpus, and, if the run evaluates, those of
the base model's answers whose decoding does not depend on what is chosen for the tuned model. One
engine serves them: on a GPU a start takes one to two minutes. In a later round a trained model
draws the corpus.
"""

from ssd.arms import BASE
from ssd.evaluate.generate import answer_all
from ssd.generation.engines import run_engine
from ssd.run import Run, lineage, load_run, stage_parser
from ssd.run.rounds import drawn_by
from ssd.runtime.reporting import reporting_errors
from ssd.sample.corpus import sample


def draw(run: Run) -> None:
    """Draw and store it; resumes, and skips what is finished.

    Raises:
        DataError: a prompt leaves no room for an answer, or no sample is left.
    """
    source, model = drawn_by(run)
    with run_engine(source, model, max_model_len=longest_model_len(run)) as engine:
        for training in lineage.sampled(run):
            sample(training, engine)
        if model == BASE and "evaluate" in run.config.stages:
            answer_all(run, BASE, engine)


def longest_model_len(run: Run) -> int | None:
    """Tokens of prompt and answer together that are enough for the corpus and the benchmarks; None
    for the model's own limit."""
    lengths = [run.config.sampler.max_model_len]
    if "evaluate" in run.config.stages:
        lengths.append(run.config.eval.max_model_len)
    limits = [length for length in lengths if length is not None]
    return max(limits) if len(limits) == len(lengths) else None


if __name__ == "__main__":
    arguments = stage_parser(
        "draw",
        "Draw the run's corpus, and the base model's answers where the run evaluates; resumes what "
        "a killed run left.",
    ).parse_args()
    with reporting_errors():
        draw(load_run(arguments.run_dir))
