"""Rounds of a run: each a run folder of its own, which samples from what the one before trained.

The first is the run itself; the others lie below its folder and differ in `rounds.number` alone, so
that every stage takes one of them as it takes a run. The control `t1` has rounds of its own below
its own folder.
"""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

from ssd.arms import BASE, TUNED
from ssd.artifacts.names import ROUNDS
from ssd.config.choices import TrainFrom
from ssd.run.folder import Run


def of_round(run: Run, number: int) -> Run:
    """Another round of the same run, or of the same control."""
    settings = run.config.rounds
    if number == settings.number:
        return run
    first = run.folder if settings.number == 1 else run.folder.parents[1]
    config = dataclasses.replace(run.config, rounds=dataclasses.replace(settings, number=number))
    folder = first if number == 1 else first / ROUNDS / str(number)
    return dataclasses.replace(run, folder=folder, config=config)


def all_rounds(run: Run) -> list[Run]:
    """Every round of a run, of which the run itself is the first; a later round stands alone."""
    settings = run.config.rounds
    if settings.number > 1:
        return [run]
    return [of_round(run, number) for number in range(1, settings.count + 1)]


def drawn_by(run: Run) -> tuple[Run, str]:
    """The run and its model that draws a round's samples: the base model, then what the round
    before has trained."""
    number = run.config.rounds.number
    return (run, BASE) if number == 1 else (of_round(run, number - 1), TUNED)


def begun_from(run: Run) -> tuple[Run, str]:
    """The run and its model that a round's training begins with."""
    fresh = run.config.rounds.train_from is TrainFrom.base
    return (run, BASE) if fresh else drawn_by(run)


def accumulated(run: Run) -> list[Run]:
    """The rounds whose samples a round trains on, the first one's first."""
    settings = run.config.rounds
    if not settings.accumulate:
        return [run]
    return [of_round(run, number) for number in range(1, settings.number + 1)]


@dataclass(frozen=True, slots=True)
class Fall:
    """The last round beside the best one before it, by pass@1 on held-out problems."""

    number: int
    score: float
    best_number: int
    best: float

    def exceeds(self, max_drop: float) -> bool:
        """Whether it is more than `rounds.max_drop` allows."""
        return self.best - self.score > max_drop + 1e-9  # shares are fractions, floats are not

    def sentence(self, max_drop: float) -> str:
        """The rule with its numbers, and what follows from it."""
        points = 100 * (self.best - self.score)
        moved = f"{abs(points):.1f} points {'below' if points > 0 else 'above'}"
        moved = moved if points else "as many as"
        verdict = "more than" if self.exceeds(max_drop) else "within"
        return (
            f"round {self.number} passes {100 * self.score:.1f}% of the held-out problems, {moved} "
            f"round {self.best_number}, the best before it ({100 * self.best:.1f}%): {verdict} "
            f"rounds.max_drop={max_drop:g}"
        )


def fall(held_out: Sequence[float]) -> Fall | None:
    """The last of these scores, of rounds 1, 2 and so on, beside the best of the others; None for
    the first round."""
    *earlier, score = held_out
    if not earlier:
        return None
    best = max(earlier)
    return Fall(len(held_out), score, earlier.index(best) + 1, best)
