"""Why scores moved, or did not: what training did to the token distributions, in words first."""

import math

import numpy as np

from ssd.analyse.summary import ALL, Estimate, KindRow, base_kinds, kind_table
from ssd.arms import BASE, TUNED
from ssd.method.locks import FORK, LOCK
from ssd.records.analysis import Analysis
from ssd.report.render import formats
from ssd.report.render.code_map import code_map, moved_table
from ssd.report.render.document import Block, Heading, Listing, Paragraph, Section
from ssd.report.run.analysis_figures import (
    bin_figure,
    live_figure,
    mass_figure,
    survivor_figure,
    term_figure,
)
from ssd.report.run.analysis_tables import (
    change,
    kind_tables,
    number,
    points,
    sensitivity_table,
    share,
    term_table,
)
from ssd.report.run.facts import Facts

TITLE = "Why: token distributions"
GREEDY = (
    "The corpus was drawn greedily: without a temperature the loss does not part into support "
    "compression, reshaping and alignment."
)
POWER = (
    "The corpus was drawn from a power of the base model's distribution over whole answers: what "
    "its next tokens follow depends on what comes later and is no tempering of the base model's "
    "next-token distribution, so the loss does not part into support compression, reshaping and "
    "alignment. Locks, forks and entropies are the models' own and hold as they stand."
)
LATER = (
    "These parts, and kept mass, are of the loss against the base model's distribution, as in "
    "every round, so that rounds compare. This round's training was against that of the model that "
    "drew its samples."
)

MOVED = (
    "Single tokens, chosen for how far they moved: they illustrate and do not measure. A lock can "
    "have an entropy of 1 nat and more: what its one plausible token leaves is spread over "
    "thousands of others, none of them plausible."
)


def why(facts: Facts) -> list[Section]:
    """The analysis after training and the measurements during it; nothing where neither is."""
    blocks: list[Block] = []
    analysis = facts.analysis
    if analysis is not None and len(analysis.positions[BASE].sample):
        blocks += _after(facts, analysis)
    live = [line for line in facts.metrics if "decomposition/cross_entropy" in line]
    if live:
        blocks += [Heading("The loss's parts during training"), live_figure(live)]
    return [Section(TITLE, blocks)] if blocks else []


def tokens(facts: Facts) -> list[Section]:
    """The tokens that training moved most, and programs token by token."""
    analysis, config = facts.analysis, facts.run.config
    if analysis is None or not len(analysis.positions[BASE].sample):
        return []
    moved = moved_table(analysis, config.analyse)
    programs = code_map(analysis, config.analyse, config.report.num_programs)
    sections = []
    if moved is not None:
        sections.append(Section("Tokens that changed most", [Paragraph(MOVED), moved]))
    if programs is not None:
        sections.append(Section("Programs token by token", [programs]))
    return sections


def _after(facts: Facts, analysis: Analysis) -> list[Block]:
    settings = facts.run.config.analyse
    rng = np.random.default_rng(facts.run.config.seed)
    rows, kinds = kind_table(analysis, settings, rng), base_kinds(analysis, settings)
    present = [row for row in rows.values() if row.count]
    trained = [model for model in analysis.positions if model != BASE]
    cut = formats.truncation(facts.run.config.eval.truncation)
    blocks: list[Block] = [Paragraph(_probed(facts, analysis))]
    if trained:
        blocks += [Listing(_statements(rows, trained)), Paragraph(_claim(rows))]
    blocks += [
        *kind_tables(present),
        mass_figure(analysis, kinds),
        survivor_figure(analysis, kinds, cut),
        bin_figure(analysis, _eval_temps(facts, list(analysis.positions)), cut, rng),
    ]
    blocks.append(Heading("The loss in its parts"))
    if facts.run.config.rounds.number > 1:
        blocks.append(Paragraph(LATER))
    if math.isnan(rows[ALL].means[BASE]["cross_entropy"]):
        blocks.append(Paragraph(GREEDY if facts.power is None else POWER))
    else:
        blocks += [term_figure(present), term_table(present)]
    blocks.append(sensitivity_table(analysis, trained))
    return blocks


def _probed(facts: Facts, analysis: Analysis) -> str:
    settings = facts.run.config.analyse
    positions = analysis.positions[BASE]
    models = ", ".join(analysis.positions)
    return (
        f"Every model ({models}) read the same {len(positions.sample):,} positions of "
        f"{len(analysis.samples):,} answers. A fork is a place where several tokens are plausible: "
        f"the base model gives each a probability of {settings.plausible:g} or more. A lock is one "
        f"where a single token is, with at least {settings.lock_top1:g}. The rest is other. "
        "Entropy says how open a choice is, 0 where it is certain. Entropies and losses are in "
        "nats; intervals are 95%, over answers."
    )


def _statements(rows: dict[str, KindRow], trained: list[str]) -> list[str]:
    """What changed at forks, at locks and in kept mass, a sentence for each trained model."""
    sentences = []
    for kind in (FORK, LOCK):
        row = rows[kind]
        if not row.count:
            sentences.append(f"No position is a {kind}.")
            continue
        moves = [_move(row, model, "entropy") for model in trained]
        sentences.append(
            f"At {kind}s ({formats.percent(row.share.value)} of positions) the entropy goes from "
            f"{row.means[BASE]['entropy']:.3f} nats {'; '.join(moves)}."
        )
        moves = [_move(row, model, "tail_mass") for model in trained]
        sentences.append(
            f"At {kind}s the mass outside the 20 most probable tokens goes from "
            f"{share(row.means[BASE]['tail_mass'])} {'; '.join(moves)}."
        )
    row = rows[ALL]
    if not math.isnan(row.means[BASE]["kept_mass"]):
        moves = [_move(row, model, "kept_mass") for model in trained]
        sentences.append(
            "Over all positions the mass on the tokens that the training truncation keeps "
            f"(KeptMass) goes from {share(row.means[BASE]['kept_mass'])} {'; '.join(moves)}."
        )
    return sentences


def _claim(rows: dict[str, KindRow]) -> str:
    """How the measurements compare with the method's claim, if there is a tuned model."""
    forks, locks = rows[FORK], rows[LOCK]
    if TUNED not in locks.changes:
        return "The tuned model has not been analysed."
    if not (forks.count and locks.count):
        return "Without both locks and forks the method's claim cannot be weighed here."
    cut = _direction(locks.changes[TUNED]["tail_mass"], "grew", "shrank")
    spread = _direction(forks.changes[TUNED]["entropy"], "rose", "fell")
    return (
        "The method's claim is that tails are cut where precision matters (locks) and spread is "
        f"kept where exploration matters (forks). Here the tail at locks {cut}, and the entropy at "
        f"forks {spread}. That tells of distributions, not of whether they caused a score."
    )


def _direction(moved: Estimate, up: str, down: str) -> str:
    if moved.low > 0:
        return f"{up} (the interval excludes 0)"
    if moved.high < 0:
        return f"{down} (the interval excludes 0)"
    return "did not change beyond its interval"


def _move(row: KindRow, model: str, measure: str) -> str:
    """`to 1.204 in the tuned model (-0.103 [-0.151, -0.058])`."""
    value, estimate = row.means[model][measure], row.changes[model][measure]
    if measure.endswith("mass"):
        shown, moved = share(value), f"{points(estimate)} points"
    else:
        shown, moved = number(value), change(estimate)
    return f"to {shown} in {'the tuned model' if model == TUNED else model} ({moved})"


def _eval_temps(facts: Facts, models: list[str]) -> dict[str, float]:
    """The temperature that each model was reported at, or is configured for."""
    settings = facts.run.config.eval
    temps = {model: settings.base_temp if model == BASE else settings.temp for model in models}
    for benchmark in facts.main[:1]:
        temps |= {
            arm: model.setting.temp for arm, model in benchmark.models.items() if arm in temps
        }
    return temps
