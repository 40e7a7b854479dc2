"""One choice for each of many things, so that all together cost least within a budget (the multiple-choice
knapsack problem), by Lagrange multipliers (Everett 1963) and a greedy use of what is left.
"""

from collections.abc import Sequence
from typing import NamedTuple

_TRIES = 64


class Choice(NamedTuple):
    cost: float
    loss: float
    """Of which the sum is limited."""


def cheapest(choices: Sequence[Sequence[Choice]], budget: float) -> list[int] | None:
    """The index of the choice for each; None where even the least losses are too much together. Never worse
    than the best on the convex hull of each.
    """
    picked = [min(range(len(own)), key=lambda at, own=own: own[at][::-1]) for own in choices]  # type: ignore[misc]
    if _loss(choices, picked) > budget:
        return None
    low, high = 1e-30, 1e30
    for _ in range(_TRIES):
        middle = (low * high) ** 0.5
        tried = [_best(own, middle) for own in choices]
        if _loss(choices, tried) <= budget:
            picked, high = tried, middle
        else:
            low = middle
    return _filled(choices, picked, budget)


def _loss(choices: Sequence[Sequence[Choice]], picked: Sequence[int]) -> float:
    return sum(own[at].loss for own, at in zip(choices, picked, strict=True))


def _best(own: Sequence[Choice], price: float) -> int:
    return min(range(len(own)), key=lambda at: (own[at].cost + price * own[at].loss, own[at].cost))


def _filled(choices: Sequence[Sequence[Choice]], picked: list[int], budget: float) -> list[int]:
    """The largest saving that still fits, again and again."""
    while True:
        left = budget - _loss(choices, picked)
        steps = [
            (own[at].cost - other.cost, -number, -index)
            for number, (own, at) in enumerate(zip(choices, picked, strict=True))
            for index, other in enumerate(own)
            if other.cost < own[at].cost and other.loss - own[at].loss <= left
        ]
        if not steps:
            return picked
        _, number, index = max(steps)
        picked[-number] = -index
