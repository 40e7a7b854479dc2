"""Reshape as one rule: both shapes are refined to common factors, and each axis follows one of them.

[batch, length, heads * size] -> [batch, length, heads, size] has the factors batch, length, heads and size:
the merged axis follows the heads (all slices of a head go together), and the axis of sizes stays as it is.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from compression.graph.channels.slices import FROZEN, Ids, Slices

Pair = tuple[list[int], list[int]]


def blocks(source: Sequence[int], target: Sequence[int]) -> list[Pair] | None:
    """Shortest runs of axes with equal products, axes of size one left out; None where a size is zero."""
    if 0 in source or 0 in target:
        return None
    sides = [[at for at, size in enumerate(shape) if size != 1] for shape in (source, target)]
    found: list[Pair] = []
    left: list[int] = []
    right: list[int] = []
    products = [1, 1]
    while sides[0] or sides[1]:
        if products[0] <= products[1]:
            left.append(sides[0].pop(0))
            products[0] *= source[left[-1]]
        else:
            right.append(sides[1].pop(0))
            products[1] *= target[right[-1]]
        if products[0] == products[1]:
            found.append((left, right))
            left, right, products = [], [], [1, 1]
    return found


@dataclass(frozen=True)
class _Place:
    """Where a factor lies in an axis: slice i has (i // stride) % size."""

    ids: Ids
    stride: int
    size: int

    @property
    def axis(self) -> int:
        return int(self.ids[0])

    @property
    def whole(self) -> bool:
        return self.size == len(self.ids)

    def join(self, slices: Slices, factor: Ids) -> None:
        slices.join(self.ids, factor[np.arange(len(self.ids)) // self.stride % self.size])


@dataclass(frozen=True)
class Block:
    left: list[Ids]
    right: list[Ids]

    def settle(self, slices: Slices) -> None:
        """Joins, for each axis, the outermost factor that may be cut; all others stay."""
        labels = slices.labels()
        alive = [
            factor
            for factor in self._factors()
            if not any(place.whole and (labels[place.ids] == FROZEN).all() for place in factor)
        ]
        chosen: dict[int, tuple[_Place, _Place]] = {}
        for factor in alive:
            for place in factor:
                chosen.setdefault(place.axis, factor)
        free = set()
        for factor in alive:
            if all(chosen[place.axis] is factor for place in factor):
                own = slices.take(factor[0].size)
                for place in factor:
                    place.join(slices, own)
                    free.add(place.axis)
        for ids in (*self.left, *self.right):
            if int(ids[0]) not in free:
                slices.freeze(ids)

    def _factors(self) -> list[tuple[_Place, _Place]]:
        """Outermost first; none where the shapes have no common refinement."""
        bounds = sorted({*_bounds(self.left), *_bounds(self.right)})
        sizes = [after // before for before, after in pairwise(bounds)]
        if any(after % before for before, after in pairwise(bounds)):
            return []
        return list(zip(_places(self.left, sizes), _places(self.right, sizes), strict=True))


def _bounds(axes: Sequence[Ids]) -> list[int]:
    return [1, *np.cumprod([len(ids) for ids in axes]).tolist()]


def _places(axes: Sequence[Ids], sizes: Sequence[int]) -> Iterator[_Place]:
    rest = iter(sizes)
    for ids in axes:
        stride = len(ids)
        while stride > 1:
            size = next(rest)
            stride //= size
            yield _Place(ids, stride, size)
