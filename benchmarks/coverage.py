"""How often "95 %" intervals hold the truth, and how wide they are: candidates against what
`ssd.method.interval_ends` does, by simulation. Prints Markdown.

    python benchmarks/coverage.py                # 25 minutes; the tables of docs/statistics.md
    python benchmarks/coverage.py --repeats 100  # some minutes, with less certain figures

Every cell is a kind of benchmark: a number of problems, chances of passing from a Beta distribution
of some mean and spread, samples per problem, and k. Chances are drawn anew for every repeat. The
worst cell of many is below its own truth by luck alone, so cells of the chosen interval below
94.5 % are repeated twenty times as often, and those figures count.

R repeats, P problems, G samples, B resamples, N counts of correct samples.
"""

import argparse
import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

from ssd.method.estimates import largest_step, pass_at_k, sampling_noise
from ssd.method.interval_ends import (
    DIFFERENCE_PSEUDO,
    SCORE_PSEUDO,
    difference_ends,
    mean_ends,
    score_ends,
    t_quantile,
)

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]
Z = NormalDist().inv_cdf(0.975)
PROMISE, SUSPECT = 0.94, 0.945
CHOSEN = "chosen"
RESAMPLES, BOOTSTRAPPED = 300, 200
"""Of a bootstrap, and the repeats that it is tried on: no more are needed to see it fail."""
SIZES = (20, 48, 164, 1000)
ASKED = ((1, 1), (2, 1), (5, 1), (20, 1), (5, 5), (20, 10))
"""Samples per problem, and k."""
MEANS = (0.01, 0.03, 0.1, 0.3, 0.5, 0.9, 0.97, 0.99)
SPREADS = (0.05, 1.0, 10.0, 1e6)
"""a + b of the Beta distribution: 0.05 is nearly all or nothing, 1e6 equal problems."""
CHANGES = ((0.0, 0.0), (0.05, 1.0), (0.03, 1.0), (0.5, 0.6), (0.95, 0.5), (1.0, 0.97))
"""Share of problems whose chance the tuned model draws anew, and the mean that it draws from: no
change but sampling, few that turn to passed, many that change a little."""


@dataclass(frozen=True, slots=True)
class Cell:
    """One kind of benchmark."""

    num_problems: int
    num_samples: int
    k: int
    mean: float
    spread: float
    change: tuple[float, float] | None = None
    over_samples: bool = False

    @property
    def group(self) -> str:
        if self.k > 1:
            return "pass@k"
        return "pass@1, one sample" if self.num_samples == 1 else "pass@1, several samples"

    def draw(self, repeats: int, rng: np.random.Generator) -> tuple[list[Integers], Floats]:
        """Correct samples of one or two models, each (R, P), and what is to be estimated, (R,)."""
        chances = [self._chances(self.mean, repeats, rng)]
        values = [self._value(self.mean)]
        if self.change is not None:
            share, mean = self.change
            redrawn = rng.random(chances[0].shape) < share
            drawn = self._chances(mean, repeats, rng)
            chances.insert(0, np.where(redrawn, drawn, chances[0]))
            values.insert(0, share * self._value(mean) + (1 - share) * values[0])
        counts = [rng.binomial(self.num_samples, chance) for chance in chances]
        if self.over_samples:
            own = [(1 - (1 - chance) ** self.k).mean(axis=1) for chance in chances]
            return counts, own[0] - own[1] if self.change else own[0]
        return counts, np.full(repeats, values[0] - values[1] if self.change else values[0])

    def _chances(self, mean: float, repeats: int, rng: np.random.Generator) -> Floats:
        shape = (repeats, self.num_problems)
        if mean in (0, 1) or self.spread >= 1e6:
            return np.full(shape, float(mean))
        return rng.beta(mean * self.spread, (1 - mean) * self.spread, size=shape)

    def _value(self, mean: float) -> float:
        """E[1 - (1 - p)^k]."""
        if mean in (0, 1) or self.spread >= 1e6:
            return 1 - (1 - mean) ** self.k
        order = np.arange(self.k)
        return float(1 - np.prod(((1 - mean) * self.spread + order) / (self.spread + order)))

    def scores(self, counts: Integers) -> Floats:
        return pass_at_k(self.num_samples, np.arange(self.num_samples + 1), self.k)[counts]


Candidate = Callable[[Cell, list[Integers], np.random.Generator], Floats]


def chosen(cell: Cell, counts: list[Integers], rng: np.random.Generator) -> Floats:
    """What the project does."""
    noise = None
    if cell.over_samples:
        noise = sum(sampling_noise(cell.num_samples, count, cell.k) for count in counts)
    ends = score_ends if cell.change is None else difference_ends
    step = largest_step(cell.num_samples, cell.k)
    return ends(*map(cell.scores, counts), noise=noise, step=step)


def values_of(cell: Cell, counts: list[Integers]) -> Floats:
    scores = [cell.scores(count) for count in counts]
    return scores[0] if cell.change is None else scores[0] - scores[1]


def student(cell: Cell, counts: list[Integers], rng: np.random.Generator) -> Floats:
    return mean_ends(values_of(cell, counts))


def full_pseudo(cell: Cell, counts: list[Integers], rng: np.random.Generator) -> Floats:
    """Pseudo-problems of weight 1 whatever the spread: Agresti-Coull and Bonett-Price as they are,
    with t in the place of z."""
    value = values_of(cell, counts)
    number = SCORE_PSEUDO if cell.change is None else DIFFERENCE_PSEUDO
    middle, half = (0.5, 0.5) if cell.change is None else (0.0, 1.0)
    size = cell.num_problems + number
    centre = (value.sum(axis=1) + number * middle) / size
    squares = ((value - middle) ** 2).sum(axis=1) + number * half**2 - size * (centre - middle) ** 2
    reach = t_quantile(size - 1) * np.sqrt(squares / size / (size - 1))
    return np.stack([centre - reach, centre + reach])


def wilson(score_P: Floats) -> Floats:
    """Wilson's interval with as many problems as the variance of the mean stands for."""
    mean = score_P.mean(axis=1)
    most, variance = mean * (1 - mean), score_P.var(axis=1, ddof=1) / score_P.shape[1]
    size = np.divide(most, variance, out=np.full_like(most, score_P.shape[1]), where=variance > 0)
    centre = (mean + Z**2 / 2 / size) / (1 + Z**2 / size)
    reach = Z / (1 + Z**2 / size) * np.sqrt(most / size + Z**2 / 4 / size**2)
    return np.stack([centre - reach, centre + reach])


def wilson_score(cell: Cell, counts: list[Integers], rng: np.random.Generator) -> Floats:
    return wilson(cell.scores(counts[0]))


def newcombe(cell: Cell, counts: list[Integers], rng: np.random.Generator) -> Floats:
    """Newcombe (1998), method 8: Wilson's ends of both, put together by their correlation."""
    one, other = (cell.scores(count) for count in counts)
    means = one.mean(axis=1), other.mean(axis=1)
    spread = one.std(axis=1) * other.std(axis=1)
    covariance = (one * other).mean(axis=1) - means[0] * means[1]
    correlation = np.divide(covariance, spread, out=np.zeros_like(spread), where=spread > 0)
    (low_1, high_1), (low_2, high_2) = wilson(one), wilson(other)

    def reach(mine: Floats, theirs: Floats) -> Floats:
        return np.sqrt(np.maximum(mine**2 - 2 * correlation * mine * theirs + theirs**2, 0))

    value = means[0] - means[1]
    below = reach(means[0] - low_1, high_2 - means[1])
    return np.stack([value - below, value + reach(high_1 - means[0], means[1] - low_2)])


def posterior(cell: Cell, counts: list[Integers], rng: np.random.Generator) -> Floats:
    """Central 95 % of the posterior of E[1 - (1 - p)^k] under a beta-binomial model (Bowyer et al.
    2025, arXiv 2503.01747), uniform in the mean and in the logarithm of the spread. The grid lies
    where the posterior of such a cell does, since a coarse one would be judged for its steps."""
    noise = max(1 / cell.num_samples, 1 / (1 + cell.spread))
    error = np.sqrt(cell.mean * (1 - cell.mean) * noise / cell.num_problems)
    reach = 8 * error + 10 * noise / cell.num_problems
    low, high = max(0.0, cell.mean - reach), min(1.0, cell.mean + reach)
    means = low + (high - low) * (np.arange(120) + 0.5) / 120
    factor = np.exp(min(7.0, 60 / np.sqrt(cell.num_problems)))
    near = min(cell.spread, 1e4)
    spreads = np.geomspace(near / factor, near * factor, 60)
    mean, spread = (axis.ravel() for axis in np.meshgrid(means, spreads))
    log_passing = log_rising(mean * spread, cell.num_samples)
    log_failing = log_rising((1 - mean) * spread, cell.num_samples)
    likelihood = log_passing + log_failing[:, ::-1] - log_rising(spread, cell.num_samples)[:, -1:]
    counted = histogram(counts[0], cell.num_samples + 1)
    weight = counted @ likelihood.T
    weight = np.exp(weight - weight.max(axis=1, keepdims=True))
    order = np.arange(cell.k)
    failing = ((1 - mean) * spread)[:, None] + order
    value = 1 - np.prod(failing / (spread[:, None] + order), axis=1)
    rank = value.argsort()
    cumulated = weight[:, rank].cumsum(axis=1)
    ends = [
        value[rank][(cumulated < level * cumulated[:, -1:]).sum(axis=1)] for level in (0.025, 0.975)
    ]
    return np.stack(ends)


def log_rising(start: Floats, number: int) -> Floats:
    """log of start (start + 1) ... (start + n - 1) for n = 0 ... number, (..., number + 1)."""
    logs = np.log(start[:, None] + np.arange(number)).cumsum(axis=1)
    return np.concatenate([np.zeros((len(start), 1)), logs], axis=1)


def histogram(index_R_P: Integers, size: int) -> Integers:
    repeats = len(index_R_P)
    flat = (index_R_P + size * np.arange(repeats)[:, None]).ravel()
    return np.bincount(flat, minlength=size * repeats).reshape(repeats, size)


@dataclass(frozen=True, slots=True)
class Resampled:
    """Means and errors of bootstrap resamples, (R, B), of values (R, P)."""

    value: Floats
    means: Floats
    errors: Floats

    @classmethod
    def of(cls, value: Floats, rng: np.random.Generator) -> "Resampled":
        number = value.shape[1]
        kinds, index = np.unique(value.round(9), return_inverse=True)
        counted = histogram(index.reshape(value.shape), len(kinds))
        # Problems with equal values are redrawn together, which is the same and much faster.
        drawn = rng.multinomial(number, counted / number, size=(RESAMPLES, len(value)))
        means = (drawn @ kinds / number).T
        squares = (drawn @ kinds**2 / number).T
        return cls(value, means, np.sqrt(np.maximum(squares - means**2, 0) / (number - 1)))

    def quantiles(self, levels_R_2: Floats) -> Floats:
        ordered = np.sort(self.means, axis=1)
        index = np.clip((levels_R_2 * RESAMPLES).astype(int), 0, RESAMPLES - 1)
        return np.take_along_axis(ordered, index, axis=1).T

    def percentile(self) -> Floats:
        return np.quantile(self.means, [0.025, 0.975], axis=1)

    def studentised(self) -> Floats:
        mean = self.value.mean(axis=1)
        error = self.value.std(axis=1, ddof=1) / np.sqrt(self.value.shape[1])
        offset = self.means - mean[:, None]
        safe = self.errors > 0
        ratio = np.divide(offset, self.errors, out=np.zeros_like(offset), where=safe)
        low, high = np.quantile(ratio, [0.025, 0.975], axis=1)
        return np.stack([mean - high * error, mean - low * error])

    def corrected(self) -> Floats:
        """BCa (Efron 1987)."""
        mean = self.value.mean(axis=1, keepdims=True)
        below = (self.means < mean).mean(axis=1) + (self.means == mean).mean(axis=1) / 2
        normal = NormalDist()
        clipped = np.clip(below, 1 / RESAMPLES, 1 - 1 / RESAMPLES)
        bias = np.array([normal.inv_cdf(share) for share in clipped])
        apart = self.value - mean
        squares = (apart**2).sum(axis=1)
        skew = np.divide(
            (apart**3).sum(axis=1), 6 * squares**1.5, out=np.zeros_like(squares), where=squares > 0
        )
        levels = []
        for z in (-Z, Z):
            moved = bias + (bias + z) / (1 - skew * (bias + z))
            levels.append([normal.cdf(one) for one in moved])
        return self.quantiles(np.array(levels).T)


CLOSED: dict[str, Candidate] = {CHOSEN: chosen, "Student's t": student, "full weight": full_pseudo}
SCORES: dict[str, Candidate] = {"Wilson": wilson_score, "beta-binomial posterior": posterior}
PAIRS: dict[str, Candidate] = {"Newcombe": newcombe}
BOOTSTRAPS: dict[str, Callable[[Resampled], Floats]] = {
    "percentile bootstrap (before)": Resampled.percentile,
    "studentised bootstrap": Resampled.studentised,
    "BCa bootstrap": Resampled.corrected,
}


def cells(kind: str) -> Iterator[Cell]:
    """All cells of `scores` or `differences` over problems, or the same over `samples`."""
    over_samples = kind.endswith("samples")
    for size, (samples, k), mean, spread in itertools.product(SIZES, ASKED, MEANS, SPREADS):
        if over_samples and samples == 1:
            continue
        cell = (size, samples, k, mean, spread)
        if kind.startswith("scores"):
            yield Cell(*cell, None, over_samples)
        elif mean in (0.03, 0.5):
            for change in CHANGES:
                yield Cell(*cell, change, over_samples)


def held(ends: Floats, truth: Floats) -> float:
    return float(np.mean((ends[0] <= truth + 1e-12) & (truth - 1e-12 <= ends[1])))


def measure(cell: Cell, repeats: int, rng: np.random.Generator) -> dict[str, tuple[float, float]]:
    """Coverage, and width as a multiple of 2 * 1.96 true errors (NaN where that is below half a
    point), by candidate."""
    counts, truth = cell.draw(repeats, rng)
    low, high = (0, 1) if cell.change is None else (-1, 1)
    oracle = 2 * Z * float((values_of(cell, counts).mean(axis=1) - truth).std())
    names = {CHOSEN: chosen}
    if not cell.over_samples:
        names = CLOSED | (SCORES if cell.change is None else PAIRS)
    ends = {name: candidate(cell, counts, rng) for name, candidate in names.items()}
    if not cell.over_samples:
        few = [count[:BOOTSTRAPPED] for count in counts]
        resampled = Resampled.of(values_of(cell, few), rng)
        ends |= {name: make(resampled) for name, make in BOOTSTRAPS.items()}
    found = {}
    for name, pair in ends.items():
        clipped = np.clip(pair, low, high)
        width = float((clipped[1] - clipped[0]).mean())
        share = held(clipped, truth[: clipped.shape[1]])
        found[name] = (share, width / oracle if oracle >= 0.005 else np.nan)
    if found[CHOSEN][0] < SUSPECT:
        found[CHOSEN] = (again(cell, repeats, rng), found[CHOSEN][1])
    return found


def again(cell: Cell, repeats: int, rng: np.random.Generator) -> float:
    shares = []
    for _ in range(20):
        counts, truth = cell.draw(repeats, rng)
        shares.append(held(chosen(cell, counts, rng), truth))
    return float(np.mean(shares))


def table(results: list[tuple[Cell, dict[str, tuple[float, float]]]]) -> str:
    """A row per candidate; per group of cells the worst coverage, the share of cells below 94 %,
    and the median width."""
    groups = list(dict.fromkeys(cell.group for cell, _ in results))
    lines = [
        f"| interval | {' | '.join(groups)} |",
        "| :-- |" + " :-- |" * len(groups),
    ]
    for name in results[0][1]:
        row = []
        for group in groups:
            pairs = [found[name] for cell, found in results if cell.group == group]
            shares = np.array([pair[0] for pair in pairs])
            width = np.nanmedian([pair[1] for pair in pairs])
            row.append(
                f"{100 * shares.min():.1f} %, {100 * (shares < PROMISE).mean():.0f} %, {width:.2f}"
            )
        lines.append(f"| {name} | {' | '.join(row)} |")
    worst = sorted(results, key=lambda result: result[1][CHOSEN][0])[:3]
    told = "; ".join(f"{100 * found[CHOSEN][0]:.1f} % at {cell}" for cell, found in worst)
    return "\n".join([*lines, "", f"worst of the chosen: {told}"])


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        description="Coverage and width of 95 %% intervals, by simulation; prints Markdown.",
    )
    parser.add_argument("--repeats", type=int, default=1000, help="of every cell; 1000 by default")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    print("Worst coverage, share of cells below 94 %, median width as a multiple of the normal")
    print("interval with the true error; bootstraps are tried on 200 repeats.")
    for kind in ("scores", "differences", "scores over samples", "differences over samples"):
        rng = np.random.default_rng(arguments.seed)
        results = [(cell, measure(cell, arguments.repeats, rng)) for cell in cells(kind)]
        print(f"\n{kind}, {len(results)} cells\n\n{table(results)}", flush=True)


if __name__ == "__main__":
    main()
