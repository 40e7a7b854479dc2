"""Disjoint sets of slices (tensor, axis, index), which must be kept or removed together."""

import numpy as np
import numpy.typing as npt

Ids = npt.NDArray[np.int64]
FROZEN = 0
"""The slice that stands for everything that must stay."""


class Slices:
    """Union-find on numbered slices, with numpy: what is joined is kept as pairs and merged when asked."""

    def __init__(self) -> None:
        self._labels: Ids = np.zeros(1, np.int64)
        self._size = 1
        self._pairs: list[tuple[Ids, Ids]] = []

    def take(self, size: int) -> Ids:
        """New slices, each a set of its own."""
        self._size += size
        return np.arange(self._size - size, self._size)

    def join(self, one: Ids, other: Ids | int) -> None:
        """Pairwise; one set joins many by broadcasting."""
        pairs = np.broadcast_arrays(one, other)
        self._pairs.append((pairs[0].ravel(), pairs[1].ravel()))

    def freeze(self, ids: Ids) -> None:
        self.join(ids, FROZEN)

    def labels(self) -> Ids:
        """The set of each slice, named by its lowest member."""
        labels = np.concatenate([self._labels, np.arange(len(self._labels), self._size)])
        if self._pairs:
            one, other = (np.concatenate(side) for side in zip(*self._pairs, strict=True))
            labels = _merged(labels, one, other)
        self._labels, self._pairs = labels, []
        return labels


def _merged(labels: Ids, one: Ids, other: Ids) -> Ids:
    """Lowest labels spread over the pairs, with pointer jumping (Shiloach and Vishkin 1982)."""
    while len(one):
        first, second = labels[one], labels[other]
        lowest = np.minimum(first, second)
        np.minimum.at(labels, first, lowest)
        np.minimum.at(labels, second, lowest)
        while not np.array_equal(jumped := labels[labels], labels):
            labels = jumped
        apart = labels[one] != labels[other]
        one, other = one[apart], other[apart]
    return labels
