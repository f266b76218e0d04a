"""The tables of the analysis, and how its numbers are written."""

import math

from ssd.analyse.summary import Estimate, KindRow, sensitivity
from ssd.method.locks import FORK, LOCK
from ssd.records.analysis import TERMS, Analysis
from ssd.report.render import formats
from ssd.report.render.document import Table


def kind_tables(rows: list[KindRow]) -> list[Table]:
    """Spread and tail of every model by kind of position, each beside its change."""
    against = "changes are against the base model with 95% intervals"
    spread, tail = [], []
    for row in rows:
        for model, means in row.means.items():
            changed = row.changes.get(model)
            name = f"{row.kind}, {model}"
            spread.append(
                [
                    name,
                    f"{row.count:,} ({formats.percent(row.share.value)})",
                    number(means["entropy"]),
                    change(changed["entropy"]) if changed else "-",
                    share(means["top1"]),
                ]
            )
            tail.append(
                [
                    name,
                    share(means["tail_mass"]),
                    points(changed["tail_mass"]) if changed else "-",
                    share(means["kept_mass"]),
                    number(means["support"], 2),
                ]
            )
    return [
        Table(
            caption=f"Spread by kind of position: mean entropy in nats; {against}",
            columns=["Kind, model", "Positions", "Entropy", "Change", "Top-1"],
            rows=spread,
        ),
        Table(
            caption="Tail by kind of position: mass outside the 20 most probable tokens, mass on "
            "the tokens that the training truncation keeps of the base model's distribution "
            f"(KeptMass), and how many it keeps of this model's; {against}, in percentage points",
            columns=["Kind, model", "Tail mass", "Change", "KeptMass", "Tokens kept"],
            rows=tail,
        ),
    ]


def term_table(rows: list[KindRow]) -> Table:
    """The loss and its parts of every model by kind of position."""
    return Table(
        caption="The training loss at the probe's positions, and its parts (paper, appendix B); "
        "changes are against the base model with 95% intervals",
        columns=["Kind, model", "Loss", "Change", "Support", "Reshaping", "Alignment", "Constant"],
        rows=[
            [
                f"{row.kind}, {model}",
                number(means["cross_entropy"], 4),
                change(row.changes[model]["cross_entropy"], 4) if model in row.changes else "-",
                *(number(means[name], 4) for name in TERMS),
            ]
            for row in rows
            for model, means in row.means.items()
        ],
        folded=True,
    )


def sensitivity_table(analysis: Analysis, trained: list[str]) -> Table:
    """What other thresholds of the classifier would have found."""
    columns = [f"{kind} entropy, {model}" for model in trained for kind in ("Lock", "Fork")]
    rows = [
        [
            f"{row.plausible:g}, {row.lock_top1:g}",
            *(formats.percent(row.shares[kind]) for kind in (LOCK, FORK)),
            *(
                signed(row.entropy_changes[model][kind], 4)
                for model in trained
                for kind in (LOCK, FORK)
            ),
        ]
        for row in sensitivity(analysis)
    ]
    return Table(
        caption="What other thresholds would have found (analyse.plausible, analyse.lock_top1): "
        "shares of positions, and mean changes of entropy in nats",
        columns=["Thresholds", "Locks", "Forks", *columns],
        rows=rows,
        folded=True,
    )


def number(value: float, digits: int = 3) -> str:
    """`1.204`, `151,936.000`, or `-` where there is none."""
    return "-" if math.isnan(value) else f"{value:z,.{digits}f}"


def signed(value: float, digits: int = 3) -> str:
    """`+0.103`, or `-` where there is none."""
    return "-" if math.isnan(value) else f"{value:+z.{digits}f}"


def share(value: float) -> str:
    """A share in percent, with more digits where it is small: tails are."""
    digits = 1 if value >= 0.1 else 2 if value >= 0.01 else 3
    return "-" if math.isnan(value) else f"{100 * value:.{digits}f}%"


def change(estimate: Estimate, digits: int = 3) -> str:
    """`-0.103 [-0.151, -0.058]`; without the interval where there is none."""
    low, high = estimate.low, estimate.high
    ends = "" if math.isnan(low) else f" [{signed(low, digits)}, {signed(high, digits)}]"
    return signed(estimate.value, digits) + ends


def points(estimate: Estimate) -> str:
    """A change of a share in percentage points, with its interval."""
    return change(Estimate(100 * estimate.value, 100 * estimate.low, 100 * estimate.high))
