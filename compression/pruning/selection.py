"""Which units stay, under a budget: scores decide within a group, a common threshold between groups."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Scores = Mapping[str, npt.NDArray[np.float64]]
"""Importance of the units, by group."""
Kept = dict[str, list[int]]
BISECTIONS = 24
_BLOCK = 8
"""Channels that vector units take at a time, at least."""


@dataclass(frozen=True)
class Range:
    """How many units of a group may stay."""

    least: int
    most: int
    step: int = 1

    def count(self, wanted: float) -> int:
        """The nearest multiple of the step within the range."""
        return int(np.clip(self.step * round(wanted / self.step), self.least, self.most))


@dataclass(frozen=True)
class Limits:
    """Of every group, whatever was cut before."""

    round_to: int = 16
    min_channels: int = 8
    max_ratio: float = 0.9
    """Of the units of a group that may go."""

    def range(self, size: int, left: int) -> Range:
        """Of a group that had `size` units and has `left` now. Small groups are rounded to half as much, or
        a quarter; heads and groups of channels are few: those are not rounded, and one may be left.
        """
        step = self.round_to
        while step > size // 2 and step > 1:
            step //= 2
        many = step >= min(self.round_to, _BLOCK)
        step = step if many else 1
        least = max(step, self.min_channels if many else 1, int(np.ceil(size * (1 - self.max_ratio))))
        return Range(min(step * -(-least // step), left), left, step)


Ranges = Mapping[str, Range]
"""By group."""


def keep(scores: Scores, counts: Mapping[str, int]) -> Kept:
    """The best units, in their own order."""
    return {
        name: sorted(np.argsort(-values, kind="stable")[: counts[name]].tolist())
        for name, values in scores.items()
    }


def smallest(scores: Scores, ranges: Ranges) -> Kept:
    """As few units as may be."""
    return keep(scores, {name: ranges[name].least for name in scores})


@dataclass(frozen=True)
class Budget:
    cost: Callable[[Kept], float]
    limit: float
    tries: int = BISECTIONS


def select(
    scores: Scores, weights: Mapping[str, float], ranges: Ranges, budget: Budget, *, uniform: bool = False
) -> Kept | None:
    """The largest choice within the budget; None where even the smallest is beyond it.

    `uniform` takes the same share of every group; else units of all groups are ranked by score over weight,
    which is what one unit of a group costs.
    """
    ladder = _shares(scores, ranges) if uniform else _thresholds(scores, weights, ranges)
    if budget.cost(keep(scores, ladder(1.0))) > budget.limit:
        return None
    low, high = 0.0, 1.0
    for _ in range(budget.tries):
        middle = (low + high) / 2
        if budget.cost(keep(scores, ladder(middle))) > budget.limit:
            low = middle
        else:
            high = middle
    return _filled(scores, weights, ranges, ladder(high), budget)


Ladder = Callable[[float], dict[str, int]]
"""How many units of each group stay, for a pressure of 0 to 1."""


def _shares(scores: Scores, ranges: Ranges) -> Ladder:
    return lambda pressure: {
        name: ranges[name].count(len(values) * (1 - pressure)) for name, values in scores.items()
    }


def _thresholds(scores: Scores, weights: Mapping[str, float], ranges: Ranges) -> Ladder:
    values = {name: np.sort(own / weights[name]) for name, own in scores.items()}
    every = np.sort(np.concatenate(list(values.values())))

    def counts(pressure: float) -> dict[str, int]:
        at = int(pressure * len(every))
        threshold = every[at] if at < len(every) else np.inf
        return {
            name: ranges[name].count(len(own) - int(np.searchsorted(own, threshold)))
            for name, own in values.items()
        }

    return counts


def _filled(
    scores: Scores, weights: Mapping[str, float], ranges: Ranges, counts: dict[str, int], budget: Budget
) -> Kept:
    """Rounding takes several groups down at once, and by more than is needed: what fits comes back, the units
    that matter most for what they cost first.
    """
    ranked = {name: -np.sort(-values) for name, values in scores.items()}
    growing = {name for name in scores if counts[name] < ranges[name].most}

    def gain(name: str) -> float:
        return float(ranked[name][counts[name] :][: ranges[name].step].mean()) / weights[name]

    while growing:
        name = max(sorted(growing), key=gain)
        more = min(counts[name] + ranges[name].step, ranges[name].most)
        tried = {**counts, name: more}
        fits = budget.cost(keep(scores, tried)) <= budget.limit
        counts = tried if fits else counts
        if not fits or more == ranges[name].most:
            growing.remove(name)
    return keep(scores, counts)
