"""What to try next: a function of what is known, so that any worker may ask at any time.

First each kind of step, alone and before the best quantization; then pipelines that Optuna thinks of.
Trainings begin short, and the best third of each length is tried again with three times of it (successive
halving: Jamieson and Talwalkar, arXiv:1502.07943; without waiting for a whole round: Li et al.,
arXiv:1810.05934). In the last part of the time only what was best so far is trained to its end.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

from compression.search.budget import Budget
from compression.search.opening import first_round
from compression.search.pace import Pace, pace, spent
from compression.search.refine import refined
from compression.search.space import Pipeline, Space, epochs
from compression.search.trial import Steps, Trial

KEPT = 3
"""One of so many goes on, with so many times the training."""
PROBES = (KEPT**-4, KEPT**-2)
_EXPLORING = 0.55
"""Of the time and of the trials: after it nothing new is begun."""
_FIRST_ROUND = 0.3
_ROUND = 8
"""Trainings that are expected in the first round."""
_MARGIN = 1.2
"""Forecasts are exceeded by so much."""
_LONGEST = 0.15
"""Of the time, for a trial; but one that is known to take long has three times its forecast."""

Sample = Callable[[Space, Budget, Sequence[Trial], int], Pipeline | None]
"""A pipeline that was not tried yet, from those that were; the number makes it repeatable."""


@dataclass(frozen=True)
class Next:
    steps: Steps
    share: float
    seconds: float
    """At most, then it fails: no trial may use up the time of all others."""


@dataclass(frozen=True)
class Moment:
    elapsed: float
    """Seconds since the search began."""
    seats: int
    """Trials that can run at once."""
    seed: int = 0


def plan(space: Space, budget: Budget, trials: Sequence[Trial], moment: Moment, sample: Sample) -> list[Next]:
    """As many new trials as there are free seats; none and nothing open: the search is over."""
    new: list[Next] = []
    while True:
        known = [*trials, *(_begun(each, len(trials) + at) for at, each in enumerate(new))]
        if sum(trial.state == "open" for trial in known) >= moment.seats:
            return new
        coming = _Planner(space, budget, known, moment, sample).next()
        if coming is None:
            return new
        new.append(coming)


def _begun(each: Next, number: int) -> Trial:
    return Trial(number, each.steps, each.share, "open")


class _Planner:
    def __init__(
        self, space: Space, budget: Budget, trials: Sequence[Trial], moment: Moment, sample: Sample
    ) -> None:
        self._space = space
        self._budget = budget
        self._trials = trials
        self._moment = moment
        self._sample = sample

    def next(self) -> Next | None:
        if len(self._trials) >= self._budget.trials or self._left <= 0:
            return None
        if self._exploring:
            begun = self._first() or self._promotion(KEPT) or self._sampled()
            return begun or self._promotion(1) or self._refinement()
        return self._promotion(1) or self._refinement() or self._first() or self._sampled()

    @cached_property
    def _elapsed(self) -> float:
        """By the clock or, where much came from the cache, as long as it took when it was computed."""
        return max(self._moment.elapsed, spent(self._over) / self._moment.seats)

    @property
    def _left(self) -> float:
        return self._budget.seconds - self._elapsed

    @property
    def _exploring(self) -> bool:
        """Something must have been tried before the rest of a short budget is spent on the best."""
        used = len(self._trials) / self._budget.trials, self._elapsed / self._budget.seconds
        return not self._trials or max(used) < _EXPLORING

    def _first(self) -> Next | None:
        """Of the first round."""
        for pipeline in first_round(self._space, self._budget, self._trials):
            begun = self._begun(pipeline)
            if begun is not None:
                return begun
        return None

    def _sampled(self) -> Next | None:
        number = self._moment.seed + len(self._trials)
        pipeline = self._sample(self._space, self._budget, self._trials, number)
        return None if pipeline is None else self._begun(pipeline)

    def _begun(self, pipeline: Pipeline) -> Next | None:
        """The trial that told the pace is tried again: it was shorter than all others."""
        share = self._first_share if pipeline.trained else 1.0
        if self._tried(pipeline.steps, share) or not self._fits(pipeline.steps, share):
            return None
        return self._limited(pipeline.steps, share)

    def _refinement(self) -> Next | None:
        for steps, share in refined(self._space, self._budget, self._trials):
            if not self._tried(steps, share) and self._fits(steps, share):
                return self._limited(steps, share)
        return None

    def _tried(self, steps: Steps, share: float = 0.0) -> bool:
        return any(list(trial.steps) == list(steps) and trial.share >= share for trial in self._trials)

    @cached_property
    def _pace(self) -> Pace:
        return pace(self._trials)

    @property
    def _over(self) -> list[Trial]:
        return [trial for trial in self._trials if trial.state == "succeeded"]

    @property
    def _first_share(self) -> float:
        """The share that begun trainings have. The first pipeline is trained twice, the shortest first, to
        learn the pace; as long as what precedes a training takes longer than the training, there is more to
        be had.
        """
        trained = [trial for trial in self._trials if trial.trained]
        probes = [trial for trial in trained if list(trial.steps) == list(trained[0].steps)]
        if len(probes) < len(trained):
            return min(trial.share for trial in trained if trial not in probes)
        if len(probes) < len(PROBES):
            return PROBES[len(probes)]
        epoch, typical = self._pace.epoch or 0.0, epochs(trained[0].steps)
        affordable = _FIRST_ROUND * self._budget.seconds * self._moment.seats / _ROUND - self._pace.fixed
        share = PROBES[-1] / KEPT
        while share < 1 and epoch * typical * share * KEPT <= max(affordable, self._pace.fixed):
            share *= KEPT
        return min(share, 1.0)

    def _promotion(self, kept: int) -> Next | None:
        """The best trial that goes on with more training, longest trainings first. With `kept` 1 there is
        no third to be in, and as much training as there is time for.
        """
        shares = sorted({trial.share for trial in self._trials if trial.trained}, reverse=True)
        for share in shares:
            rung = [trial for trial in self._trials if trial.trained and trial.share == share]
            over = sorted(
                (trial for trial in rung if trial.state == "succeeded"),
                key=lambda trial: (trial.score(self._budget), trial.number),
            )
            for trial in over[: len(over) // kept]:
                hopeful = trial.recoverable(self._budget) and trial.potential(self._budget) < self._reached
                more = self._longer(trial, kept) if hopeful else None
                if more is not None:
                    return more
        return None

    @cached_property
    def _reached(self) -> float:
        """The score of the best that keeps all limits."""
        kept = [trial for trial in self._over if not trial.excesses(self._budget)]
        return min((trial.score(self._budget) for trial in kept), default=math.inf)

    def _longer(self, trial: Trial, kept: int) -> Next | None:
        share = min(trial.share * KEPT, 1.0)
        if kept == 1:
            while share < 1 and self._fits(trial.steps, min(share * KEPT, 1.0)):
                share = min(share * KEPT, 1.0)
        if share <= trial.share or self._tried(trial.steps, share) or not self._fits(trial.steps, share):
            return None
        return self._limited(trial.steps, share)

    def _limited(self, steps: Steps, share: float) -> Next:
        """The first one may take all the time: nobody knows how long anything takes here."""
        most = max(_LONGEST * self._budget.seconds, 3 * self._pace.seconds(steps, share))
        return Next(steps, share, min(most, self._left) if self._over else self._left)

    def _fits(self, steps: Steps, share: float) -> bool:
        """Whether it would be over in time; before the first trial nobody knows, and it is tried."""
        return _MARGIN * self._pace.seconds(steps, share) <= self._left or not self._over
