"""Sub-networks that a search begins with: all groups scaled alike, and what the ranking of units says."""

from collections.abc import Callable, Mapping

import numpy as np

from compression.pruning.selection import Budget, Range, select
from compression.subnets.space import Space, Subnet

Price = Callable[[Subnet], float]
_UNIFORM = 8


def starts(space: Space, price: Price, limit: float, *, absolute: bool) -> list[Subnet]:
    """Within the limit, the one by importance first; of the uniform ones some without the deepest blocks.

    `absolute`: the scores of several groups may be compared as they are, and are weighed against costs.
    """
    counts = range(min(space.droppable, _UNIFORM - 1) + 1)
    uniform = [
        Subnet(space.largest.widths, space.blocks[len(space.blocks) - count :] if count else ())
        for count in counts
    ]
    by_importance = ranked(space, price, limit, absolute=absolute)
    chosen = [*([] if by_importance is None else [by_importance]), *uniform]
    return [space.fitted(one, price, limit) for one in chosen]


def ranked(space: Space, price: Price, limit: float, *, absolute: bool) -> Subnet | None:
    """The widest with all blocks in which no unit left out matters more, for what it costs, than one that
    stays; None where there is none within the limit.
    """
    ranges = {name: Range(counts[0], counts[-1]) for name, counts in space.widths.items()}
    scores = {name: np.asarray(space.scores[name]) for name in space.widths}
    if not scores:
        return None
    budget = Budget(lambda kept: price(_counted(space, kept)), limit)
    weights = _unit_costs(space, price) if absolute else dict.fromkeys(scores, 1.0)
    kept = select(scores, weights, ranges, budget)
    return None if kept is None else _counted(space, kept)


def _counted(space: Space, kept: Mapping[str, list[int]]) -> Subnet:
    """Of each group the next width that has these units' number."""
    return Subnet(
        tuple(sum(count < len(kept[name]) for count in counts) for name, counts in space.widths.items())
    )


def _unit_costs(space: Space, price: Price) -> dict[str, float]:
    """What one unit of a group saves."""
    largest = space.largest
    costs = {}
    for at, (name, counts) in enumerate(space.widths.items()):
        narrower = Subnet(tuple(own - (at == group) for group, own in enumerate(largest.widths)))
        costs[name] = max(price(largest) - price(narrower), 1e-9) / (counts[-1] - counts[-2])
    return costs
