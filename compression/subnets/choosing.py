"""Which of the sub-networks that were judged is taken."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

from compression.subnets.network import Network
from compression.subnets.search import Found
from compression.subnets.space import Space, Subnet

_MEASURED = 6
"""Sub-networks that are measured at most before the cheapest is taken."""


class Check(NamedTuple):
    """A cost that was predicted, and what it is."""

    predicted: float
    measured: float


def best_of(found: Iterable[Found]) -> Found:
    return min(found, key=lambda one: (one.loss, one.cost))


def frontier(found: Iterable[Found]) -> list[Found]:
    """Those that no other beats in both, the cheapest first."""
    front: list[Found] = []
    for one in sorted(found, key=lambda one: (one.cost, one.loss)):
        if not front or one.loss < front[-1].loss:
            front.append(one)
    return front


def within(
    found: Sequence[Found], limit: float, measured: Callable[[Subnet], float]
) -> tuple[Found, list[Check]]:
    """The best whose measured cost is within the limit, and what was measured on the way. Where a prediction
    was too low, all are taken to be as far off.
    """
    cheapest, checks, factor = min(found, key=lambda one: one.cost), list[Check](), 1.0
    for _ in range(_MEASURED):
        best = best_of([one for one in found if one.cost * factor <= limit] or [cheapest])
        checks.append(Check(best.cost, measured(best.subnet)))
        if checks[-1].measured <= limit or best is cheapest:
            return best, checks
        factor = max(factor, checks[-1].measured / best.cost)
    return cheapest, checks


def described(best: Found, found: Sequence[Found], space: Space, network: Network) -> dict[str, Any]:
    """JSON: the choice, what it was chosen from, and the frontier."""
    return {
        **_one(best, space, network),
        "groups": {name: len(ranked) for name, ranked in space.ranked.items()},
        "blocks": list(space.blocks),
        "space": space.size,
        "judged": len(found),
        "frontier": [_one(one, space, network) for one in frontier(found)],
    }


def _one(found: Found, space: Space, network: Network) -> dict[str, Any]:
    return {
        "cost": found.cost,
        **found.scores,
        "kept": network.told(space.kept(found.subnet), found.subnet.dropped),
        "dropped": list(found.subnet.dropped),
    }
