"""The space of sub-networks: how many units of each group, which residual blocks."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from compression.pruning.criteria import Criterion, scores
from compression.pruning.evidence import Evidence
from compression.pruning.selection import Kept, Limits, Scores

_STAY = 2
"""At least one of so many blocks stays: a network without any would learn little."""


@dataclass(frozen=True)
class Subnet:
    """One of a space."""

    widths: tuple[int, ...]
    """Of each group, which of its widths, from 0 for the narrowest."""
    dropped: tuple[str, ...] = ()
    """Residual blocks that are left out, in the order of the graph."""


@dataclass(frozen=True)
class Space:
    """`scores` say how much the units of each elastic group matter: a sub-network takes the first of them, so
    that narrower ones lie within wider ones and can share weights (Yu et al. 2019, arXiv:1812.08928; Cai et
    al. 2020, arXiv:1908.09791).
    """

    scores: Scores
    widths: Mapping[str, Sequence[int]]
    """Numbers of units that a group may have, ascending; the last is all."""
    blocks: tuple[str, ...]

    @cached_property
    def ranked(self) -> Mapping[str, Sequence[int]]:
        """Units by group, the most important first."""
        return {name: np.argsort(-own, kind="stable").tolist() for name, own in self.scores.items()}

    @property
    def empty(self) -> bool:
        return not self.widths and not self.blocks

    @property
    def droppable(self) -> int:
        """How many blocks may be left out at once."""
        return len(self.blocks) - len(self.blocks) // _STAY

    @property
    def size(self) -> int:
        """How many sub-networks there are."""
        drops = sum(math.comb(len(self.blocks), count) for count in range(self.droppable + 1))
        return math.prod(len(counts) for counts in self.widths.values()) * drops

    @property
    def largest(self) -> Subnet:
        return Subnet(tuple(len(counts) - 1 for counts in self.widths.values()))

    @property
    def smallest(self) -> Subnet:
        """Without the deepest blocks."""
        return Subnet((0,) * len(self.widths), self.blocks[len(self.blocks) - self.droppable :])

    def random(self, generator: np.random.Generator) -> Subnet:
        """Every number of blocks is as likely as any other, and every width of a group."""
        widths = tuple(int(generator.integers(len(counts))) for counts in self.widths.values())
        count = int(generator.integers(self.droppable + 1))
        gone = generator.choice(len(self.blocks), count, replace=False) if count else ()
        return Subnet(widths, tuple(self.blocks[at] for at in sorted(gone)))

    def neighbour(
        self, subnet: Subnet, price: Callable[[Subnet], float], limit: float, generator: np.random.Generator
    ) -> Subnet:
        """A group by chance is a width wider, or a block goes or comes back; others by chance are narrower,
        until that is within the limit; what is left of it is filled. The sub-network itself where that
        cannot be.
        """
        moves = self._moves(subnet)
        moved = moves[int(generator.integers(len(moves)))] if moves else subnet
        grown = {at for at, own in enumerate(moved.widths) if own > subnet.widths[at]}
        while price(moved) > limit:
            shrinking = [at for at, own in enumerate(moved.widths) if own and at not in grown]
            if not shrinking:
                return subnet
            moved = _stepped(moved, int(generator.choice(shrinking)), -1)
        return _widened(moved, Subnet(self.largest.widths, moved.dropped), price, limit)

    def _moves(self, subnet: Subnet) -> list[Subnet]:
        """Whatever they cost."""
        last = self.largest.widths
        wider = [_stepped(subnet, at, 1) for at, own in enumerate(subnet.widths) if own < last[at]]
        flipped = (
            tuple(one for one in self.blocks if (one in subnet.dropped) != (one == name))
            for name in self.blocks
        )
        return wider + [Subnet(subnet.widths, gone) for gone in flipped if len(gone) <= self.droppable]

    def kept(self, subnet: Subnet) -> Kept:
        """The units, in their own order; of groups that stay whole nothing is said."""
        counts = {name: own[at] for (name, own), at in zip(self.widths.items(), subnet.widths, strict=True)}
        return {
            name: sorted(self.ranked[name][:count])
            for name, count in counts.items()
            if count < len(self.ranked[name])
        }

    def fitted(self, subnet: Subnet, price: Callable[[Subnet], float], limit: float) -> Subnet:
        """The sub-network itself if it is within the limit, with no more blocks left out than may be. Else a
        narrower one of much the same proportions, as wide as the limit allows; where there is none, the
        smallest of all.
        """
        wanted = Subnet(subnet.widths, subnet.dropped[-self.droppable :] if self.droppable else ())
        within = next((one for one in _narrowed(wanted) if price(one) <= limit), None)
        return self.smallest if within is None else _widened(within, wanted, price, limit)


def _stepped(subnet: Subnet, group: int, step: int) -> Subnet:
    return Subnet(tuple(own + step * (at == group) for at, own in enumerate(subnet.widths)), subnet.dropped)


def _narrowed(subnet: Subnet) -> Iterator[Subnet]:
    """The sub-network and ever narrower ones of the same proportions."""
    most = max(subnet.widths, default=0)
    yield subnet
    for rest in range(most - 1, -1, -1):
        yield Subnet(tuple(at * rest // most for at in subnet.widths), subnet.dropped)


def _widened(start: Subnet, wanted: Subnet, price: Callable[[Subnet], float], limit: float) -> Subnet:
    """By one width of one group at a time, those that lost most first, while that is within the limit."""
    growing = {
        at for at, (own, most) in enumerate(zip(start.widths, wanted.widths, strict=True)) if own < most
    }
    while growing:
        group = max(sorted(growing), key=lambda at: wanted.widths[at] - start.widths[at])
        wider = _stepped(start, group, 1)
        fits = price(wider) <= limit
        start = wider if fits else start
        if not fits or start.widths[group] == wanted.widths[group]:
            growing.remove(group)
    return start


def space(
    evidence: Evidence, criterion: Criterion, shares: Sequence[float], round_to: int, blocks: Sequence[str]
) -> Space:
    """Of all groups that the criterion can rank.

    Errors: CompressionError E_MODEL_RUN, `engine_unsupported`.
    """
    found = scores(criterion, evidence) if evidence.looked.groups else {}
    elastic = widths({name: len(values) for name, values in found.items()}, shares, round_to)
    return Space({name: found[name] for name in elastic}, elastic, tuple(blocks))


def widths(sizes: Mapping[str, int], shares: Sequence[float], round_to: int) -> dict[str, tuple[int, ...]]:
    """Numbers of units that groups of these sizes may have; groups with a single width are left out."""
    limits = Limits(round_to, min_channels=round_to, max_ratio=1 - min(shares))
    found: dict[str, tuple[int, ...]] = {}
    for name, size in sizes.items():
        allowed = limits.range(size, size)
        counts = tuple(sorted({allowed.count(size * share) for share in shares} | {size}))
        found |= {name: counts} if len(counts) > 1 else {}
    return found
