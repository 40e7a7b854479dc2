"""Trial: a pipeline with a share of its training, and what came of it."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from compression.measurement import Measurements
from compression.search.budget import RECOVERED, Budget, Excess, cost, excesses
from compression.search.space import epochs

Steps = Sequence[Mapping[str, Any]]
State = Literal["open", "succeeded", "failed"]
_PATIENCE = 2.0
"""How much more than allowed an almost untrained network may lose: training brings some of it back."""
_WEIGHT = 2.0
"""A limit broken by as much as it allows costs as much as 7.4 times the objective."""
_POINT = 0.01


@dataclass(frozen=True)
class Trial:
    number: int
    steps: Steps
    """With all the training that was proposed."""
    share: float
    """Of that training, that was done; 1 where nothing trains."""
    state: State
    measurements: Measurements | None = None
    work: Sequence[float] = ()
    """Seconds that each of its steps took when it was computed, by this trial or an earlier one."""
    rest: float = 0.0
    """Seconds of all else: measuring."""
    caution: float = 0.0
    """Standard errors that are added to what it lost."""

    @property
    def trained(self) -> bool:
        return epochs(self.steps) > 0

    @property
    def epochs(self) -> float:
        return epochs(self.steps) * self.share

    def excesses(self, budget: Budget) -> Sequence[Excess]:
        """Limits that it breaks; none where it was not measured."""
        return [] if self.measurements is None else excesses(budget, self.measurements, self.caution)

    def recoverable(self, budget: Budget) -> bool:
        """Whether more training could bring something that counts: of a network that loses no more than it
        may, it makes nothing smaller or faster.
        """
        lost = any(excess.limit in RECOVERED for excess in self.excesses(budget))
        return budget.objective == "metric" or lost

    @property
    def lost(self) -> float:
        """Of the metric, else of agreement; infinite where neither is known."""
        found = None if self.measurements is None else cost("metric", self.measurements)
        return math.inf if found is None else found

    def potential(self, budget: Budget) -> float:
        """The score if training brought back all that is lost; it changes neither size nor speed."""
        if budget.objective == "metric":
            return -math.inf
        return self.score(budget.model_copy(update={"max_metric_drop": None, "min_agreement": None}))

    def score(self, budget: Budget) -> float:
        """Smaller is better: the logarithm of the objective, and more for each limit that is broken. Of a
        network that has not had all its training, more of a loss is forgiven.
        """
        if self.measurements is None:
            return math.inf
        forgiving = 1 + _PATIENCE * (1 - min(self.share, 1.0))
        penalty = 0.0
        for excess in self.excesses(_forgiving(budget, forgiving)):
            penalty += _WEIGHT * excess.factor
        found = cost(budget.objective, self.measurements)
        if found is None or math.isnan(found):
            return math.inf
        lost = found / _POINT if budget.objective == "metric" else math.log(max(found, 1e-9))
        return lost + penalty


def _forgiving(budget: Budget, factor: float) -> Budget:
    drop, agreement = budget.max_metric_drop, budget.min_agreement
    changed = {
        "max_metric_drop": None if drop is None else drop * factor,
        "min_agreement": None if agreement is None else max(1 - (1 - agreement) * factor, 0.0),
    }
    return budget.model_copy(update=changed)


_TIE = 0.03
"""Of the objective: timings of one network differ by as much."""


def best(budget: Budget, trials: Sequence[Trial]) -> Trial | None:
    """Within all limits the smallest objective, of those that are as good as equal the one that loses least;
    where none keeps the limits, the one nearest to them.
    """
    measured = [trial for trial in trials if trial.measurements is not None]
    kept = [trial for trial in measured if not trial.excesses(budget)]
    if not kept:
        return min(measured, key=lambda trial: _broken(budget, trial), default=None)
    least = min(_objective(budget, trial) for trial in kept)
    tie = 0.0 if budget.objective == "metric" else _TIE
    equal = [trial for trial in kept if _objective(budget, trial) <= least * (1 + tie)]
    return min(equal, key=lambda trial: (trial.lost, trial.number))


def _broken(budget: Budget, trial: Trial) -> tuple[float, float, int]:
    beyond = sum(excess.factor for excess in trial.excesses(budget))
    return beyond, _objective(budget, trial), trial.number


def _objective(budget: Budget, trial: Trial) -> float:
    """As a share of the original's; infinite where it was not measured."""
    found = None if trial.measurements is None else cost(budget.objective, trial.measurements)
    return math.inf if found is None else found
