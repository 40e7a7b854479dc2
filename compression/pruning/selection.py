"""Which units stay, under a budget: scores decide within a group, a common threshold between groups."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Scores = Mapping[str, npt.NDArray[np.float64]]
"""Importance of the units, by group."""
Kept = dict[str, list[int]]
BISECTIONS = 24


@dataclass(frozen=True)
class Limits:
    """Of how many units of a group stay."""

    round_to: int = 8
    min_channels: int = 8
    max_ratio: float = 0.9
    """Of the units of a group that may go."""

    def count(self, wanted: float, size: int) -> int:
        """The nearest multiple of `round_to` within the limits; all, where the group is no larger than these
        allow. Heads and groups of channels are few: they are not rounded.
        """
        step = self.round_to if size >= 2 * self.round_to else 1
        least = min(
            size, max(step, self.min_channels if step > 1 else 1, int(np.ceil(size * (1 - self.max_ratio))))
        )
        return int(np.clip(step * round(wanted / step), least, size))


def keep(scores: Scores, counts: Mapping[str, int]) -> Kept:
    """The best units, in their own order."""
    return {
        name: sorted(np.argsort(-values, kind="stable")[: counts[name]].tolist())
        for name, values in scores.items()
    }


def smallest(scores: Scores, limits: Limits) -> Kept:
    """As few units as the limits allow."""
    return keep(scores, {name: limits.count(0, len(values)) for name, values in scores.items()})


@dataclass(frozen=True)
class Budget:
    cost: Callable[[Kept], float]
    limit: float
    tries: int = BISECTIONS


def select(
    scores: Scores, weights: Mapping[str, float], limits: Limits, budget: Budget, *, uniform: bool = False
) -> Kept | None:
    """The largest choice within the budget; None where even the smallest is beyond it.

    `uniform` takes the same share of every group; else units of all groups are ranked by score over weight,
    which is what one unit of a group costs.
    """
    ladder = _shares(scores, limits) if uniform else _thresholds(scores, weights, limits)
    if budget.cost(keep(scores, ladder(1.0))) > budget.limit:
        return None
    low, high = 0.0, 1.0
    for _ in range(budget.tries):
        middle = (low + high) / 2
        if budget.cost(keep(scores, ladder(middle))) > budget.limit:
            low = middle
        else:
            high = middle
    return _filled(scores, ladder(low), ladder(high), budget)


Ladder = Callable[[float], dict[str, int]]
"""How many units of each group stay, for a pressure of 0 to 1."""


def _shares(scores: Scores, limits: Limits) -> Ladder:
    return lambda pressure: {
        name: limits.count(len(values) * (1 - pressure), len(values)) for name, values in scores.items()
    }


def _thresholds(scores: Scores, weights: Mapping[str, float], limits: Limits) -> Ladder:
    values = {name: np.sort(own / weights[name]) for name, own in scores.items()}
    every = np.sort(np.concatenate(list(values.values())))

    def counts(pressure: float) -> dict[str, int]:
        at = int(pressure * len(every))
        threshold = every[at] if at < len(every) else np.inf
        return {
            name: limits.count(len(own) - int(np.searchsorted(own, threshold)), len(own))
            for name, own in values.items()
        }

    return counts


def _filled(scores: Scores, more: Mapping[str, int], fewer: Mapping[str, int], budget: Budget) -> Kept:
    """Rounding takes several groups down at once: those that fit come back."""
    counts = dict(fewer)
    for name in sorted(
        more, key=lambda name: -float(np.sort(scores[name])[len(scores[name]) - counts[name]])
    ):
        if more[name] > counts[name]:
            tried = {**counts, name: more[name]}
            if budget.cost(keep(scores, tried)) <= budget.limit:
                counts = tried
    return keep(scores, counts)
