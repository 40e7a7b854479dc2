"""How long trials take: what has been computed says what is to come. Steps that came from a cache count as
long as they took when they were computed, so that a search that is repeated decides in the same way.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from statistics import median

from compression.search.space import epochs
from compression.search.trial import Steps, Trial


@dataclass(frozen=True)
class Pace:
    rest: float = 0.0
    """Seconds of a trial that go into measuring."""
    fixed: float = 0.0
    """Seconds of steps that train, besides the training: what they find out before it."""
    epoch: float | None = None
    """Seconds of an epoch; None before a training has ended."""

    def seconds(self, steps: Steps, share: float) -> float:
        length = epochs(steps) * share
        return self.rest + (self.fixed + length * (self.epoch or 0.0) if length else 0.0)


def pace(trials: Sequence[Trial]) -> Pace:
    """From trainings of different length of the same steps; before there are any, all of the time is taken
    for training, which is too much.
    """
    over = [trial for trial in trials if trial.state == "succeeded"]
    rest = median(trial.rest for trial in over) if over else 0.0
    trained = [trial for trial in over if trial.trained]
    if not trained:
        return Pace(rest)
    slopes = [
        (sum(long.work) - sum(short.work)) / (long.epochs - short.epochs)
        for one, other in combinations(trained, 2)
        if list(one.steps) == list(other.steps) and one.share != other.share
        for short, long in [sorted((one, other), key=lambda trial: trial.share)]
    ]
    if not slopes:
        return Pace(rest, 0.0, min(sum(trial.work) / trial.epochs for trial in trained))
    epoch = max(median(slopes), 1e-6)
    return Pace(rest, max(median(sum(one.work) - one.epochs * epoch for one in trained), 0.0), epoch)


def spent(trials: Sequence[Trial]) -> float:
    """Seconds of one worker for all of them: steps that several share are computed once."""
    seen: dict[str, float] = {}
    for trial in trials:
        for at, seconds in enumerate(trial.work):
            seen.setdefault(f"{trial.steps[: at + 1]} {trial.share}", seconds)
    return sum(seen.values()) + sum(trial.rest for trial in trials)
