"""Which of the sub-networks that were judged is taken."""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

from compression.subnets.network import Network
from compression.subnets.search import Found
from compression.subnets.space import Space, Subnet

_MEASURED = 6
"""Sub-networks that are measured at most beyond those that are wanted."""


class Check(NamedTuple):
    """A cost that was predicted, and what it is."""

    predicted: float
    measured: float


def frontier(found: Iterable[Found]) -> list[Found]:
    """Those that no other beats in both, the cheapest first."""
    front: list[Found] = []
    for one in sorted(found, key=lambda one: (one.cost, one.loss)):
        if not front or one.loss < front[-1].loss:
            front.append(one)
    return front


def within(
    found: Sequence[Found], limit: float, measured: Callable[[Subnet], float], count: int
) -> tuple[list[Found], list[Check]]:
    """The best `count` whose measured cost is within the limit, of every choice of blocks one before a second
    one of any; and what was measured on the way. Where a prediction was too low, all are taken to be as far
    off. The cheapest of all if none is within.
    """
    accepted, checks, factor = list[Found](), list[Check](), 1.0
    for one in _varied(found):
        if len(accepted) == count or len(checks) == count + _MEASURED:
            break
        if one.cost * factor <= limit:
            checks.append(Check(one.cost, measured(one.subnet)))
            factor = max(factor, checks[-1].measured / one.cost)
            accepted += [one] if checks[-1].measured <= limit else []
    return accepted or [min(found, key=lambda one: one.cost)], checks


def _varied(found: Iterable[Found]) -> list[Found]:
    """The best first, but before the second of any choice of blocks the first of all others: how much a block
    matters is what shared weights tell least of.
    """
    seen: Counter[tuple[str, ...]] = Counter()
    round_of: dict[Subnet, int] = {}
    ordered = sorted(found, key=lambda one: (one.loss, one.cost))
    for one in ordered:
        round_of[one.subnet] = seen[one.subnet.dropped]
        seen[one.subnet.dropped] += 1
    return sorted(ordered, key=lambda one: round_of[one.subnet])


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
