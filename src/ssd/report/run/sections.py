"""The report of one run by sections.

A section is a function from a run's facts to its sections, none if it has nothing to show. A new
one is written in a module of this package and named in `SECTIONS`, at its place in the report.
"""

from collections.abc import Callable

from ssd.method.decoding import Decoding
from ssd.report.render import formats
from ssd.report.render.document import Document, Section
from ssd.report.run.analysis import tokens, why
from ssd.report.run.arms import scores
from ssd.report.run.artifacts import cost, provenance
from ssd.report.run.breakdown import controls, groups, regression, selection
from ssd.report.run.facts import Facts
from ssd.report.run.glossary import glossary
from ssd.report.run.rounds import rounds
from ssd.report.run.settings import settings
from ssd.report.run.stages import sampling, training
from ssd.report.run.summary import summary
from ssd.report.run.use import use

SECTIONS: tuple[Callable[[Facts], list[Section]], ...] = (
    summary, scores, rounds, controls, selection, groups, regression, why, tokens, use,
    settings, sampling, training, cost, provenance, glossary,
)  # fmt: skip
"""The answer, the scores it rests on, why, how it was made, and what the words mean."""


def document(facts: Facts) -> Document:
    """Everything about one run."""
    config = facts.run.config
    return Document(
        title=config.title,
        subtitle=f"Simple self-distillation of {formats.model(config.model)}: "
        f"{formats.sampling(Decoding.of(config.sampler.temp, config.truncation), facts.power)}, "
        f"T_eval {formats.tuned_temp(facts.main, config.eval.temp)}.",
        sections=[section for make in SECTIONS for section in make(facts)],
    )
