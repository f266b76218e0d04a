"""The words of a report, for readers who do not know the paper; `docs/glossary.md` has the same."""

from ssd.report.render.document import Section, Table
from ssd.report.run.facts import Facts

WORDS = {
    "T_train": "The temperature at which the model writes the answers that it is then trained on. "
    "1 is its own distribution; above 1 it takes unlikely tokens more often.",
    "T_eval": "The temperature at which the trained model answers the benchmark.",
    "T_eff": "T_train times T_eval: after an ideal training, answering at T_eval is like the "
    "untrained model answering at T_eff.",
    "truncation": "Which unlikely tokens are never taken: top-k 20 keeps the 20 likeliest, top-p "
    "0.8 the likeliest that together have 80 % of the probability.",
    "pass@k": "The share of problems that at least one of k answers solves; pass@1 is that of one "
    "answer.",
    "arm": "One model under one decoding in an evaluation, such as base or tuned.",
    "control": "An arm that asks what else could explain a gain: other decoding of the untrained "
    "model (base_swept), or training on plain samples (t1).",
    "held-out": "Problems that only choose settings, so that the reported problems stay unbiased.",
    "paired": "Two models are compared problem by problem on the same problems, so that hard "
    "problems count for both.",
    "95% interval": "Where the true value plausibly lies, given how few problems there are. A "
    "difference whose interval holds 0 may be none.",
    "undecided": "The difference may be chance: its interval holds 0, or its test does not reject "
    "0. Usual where there are few problems; it is no proof that nothing changed.",
    "lock": "A place in an answer where one token is clearly right: the untrained model gives one "
    "token most of the probability and no other a plausible share.",
    "fork": "A place where several tokens are plausible, and so the answer can go several ways.",
    "entropy, nats": "How open the choice of a token is: 0 where it is certain, 0.69 nats for an "
    "even choice of two, 2.3 for one of ten.",
    "tail": "The probability on all but the likeliest tokens: what mistakes are drawn from.",
    "KeptMass": "A model's probability of the tokens that truncation kept in sampling.",
    "recipe": "A named set of settings for one model, the paper's where it has one.",
    "corpus": "The sampled answers that a model is trained on; nothing has checked whether they "
    "are right.",
}
"""Term and meaning, in the order of need."""


def words() -> Section:
    """The folded table of words, a report's last section."""
    rows = [[term, meaning] for term, meaning in WORDS.items()]
    table = Table(
        caption="What the words of this report mean", columns=["Word", "Meaning"], sides="ll",
        rows=rows, folded=True,
    )  # fmt: skip
    return Section("Glossary", [table])


def glossary(facts: Facts) -> list[Section]:
    """The words, for whatever run."""
    return [words()]
