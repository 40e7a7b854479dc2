"""k-means of numbers: a few values that stand for many with the least squared error.

In one dimension clusters are intervals. With the numbers sorted and summed up once, a step of Lloyd's
algorithm costs k binary searches, and the best clustering there is can be computed (Wang and Song 2011,
Ckmeans.1d.dp) instead of searched for.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, Self

import numpy as np
import numpy.typing as npt

Doubles = npt.NDArray[np.float64]
Indices = npt.NDArray[np.int64]
Start = Literal["exact", "kmeans++", "density", "linear"]
EXACT = 4096
"""Different numbers up to which the best clustering is computed; more are first grouped with neighbours."""
ROUNDS = 200
MOST = 256
"""Values of a weight that counts as clustered, each for `FEWEST` weights on average."""
FEWEST = 8
_SAMPLE = 4096


@dataclass(frozen=True)
class Points:
    """Different numbers, ascending, and how often each occurs."""

    values: Doubles
    counts: Doubles

    @classmethod
    def of(cls, numbers: npt.NDArray[Any]) -> Self:
        values, counts = np.unique(numbers.astype(np.float64, copy=False), return_counts=True)
        return cls(values, counts.astype(np.float64))

    def __len__(self) -> int:
        return len(self.values)

    @cached_property
    def mass(self) -> Doubles:
        """How many numbers lie before each point; of all at the end."""
        return _sums(self.counts)

    @cached_property
    def _first(self) -> Doubles:
        return _sums(self.counts * (self.values - self._middle))

    @cached_property
    def _second(self) -> Doubles:
        return _sums(self.counts * np.square(self.values - self._middle))

    @cached_property
    def _middle(self) -> float:
        """Sums are of distances from the mean: they cancel less."""
        return float(np.average(self.values, weights=self.counts))

    def means(self, cuts: Indices) -> Doubles:
        """Of the points between each two neighbouring cuts; NaN where there are none."""
        mass, total = np.diff(self.mass[cuts]), np.diff(self._first[cuts])
        return np.where(mass > 0, total / np.maximum(mass, 1) + self._middle, np.nan)

    def error(self, begin: Indices, end: Indices) -> Doubles:
        """Sums of squared distances of the points of [begin, end) from their mean."""
        mass = self.mass[end] - self.mass[begin]
        total = self._first[end] - self._first[begin]
        squares = self._second[end] - self._second[begin]
        return np.maximum(squares - np.square(total) / np.maximum(mass, 1), 0)

    def grouped(self, size: int) -> "Points":
        """At most so many: neighbours, equally many, by their mean."""
        cuts = np.linspace(0, len(self), min(size, len(self)) + 1).astype(np.int64)
        return Points(self.means(cuts), np.diff(self.mass[cuts]))


def _sums(values: Doubles) -> Doubles:
    return np.concatenate([[0.0], np.cumsum(values)])


@dataclass(frozen=True)
class Codebook:
    """Ascending centroids, and the numbers at which one cluster ends and the next begins."""

    centroids: Doubles
    edges: Doubles

    def assign(self, numbers: npt.NDArray[Any]) -> Indices:
        """The index of each number's centroid."""
        indices: Indices = np.searchsorted(self.edges, numbers, side="right")
        return indices


def fit(
    numbers: npt.NDArray[Any], clusters: int, start: Start, random: np.random.Generator, penalty: float = 0.0
) -> Codebook:
    """At most `clusters` centroids; the numbers themselves where these are as few.

    `start` is where Lloyd's algorithm begins: the best clustering of at most 4,096 points, k-means++ (Arthur
    and Vassilvitskii 2007), equal shares of the numbers, or equal distances from the least to the largest.

    With a `penalty` what is minimised is the squared error and the entropy of the clusters
    (entropy-constrained scalar quantization: Choi et al. 2017, arXiv:1612.01543). It is the squared error
    that a bit is worth, as a multiple of that of k-means.
    """
    points = Points.of(numbers)
    if len(points) <= clusters:
        return Codebook(points.values, points.values[1:])
    found = _lloyd(points, _started(points.grouped(EXACT), clusters, start, random), 0.0)
    if not penalty:
        return found
    cuts = np.concatenate([[0], np.searchsorted(points.values, found.edges), [len(points)]])
    error = float(points.error(cuts[:-1], cuts[1:]).sum() / points.mass[-1])
    return _lloyd(points, found.centroids, penalty * error)


def shared(weight: npt.NDArray[Any]) -> bool:
    """Whether few values stand for many weights: those of a clustered layer."""
    some = np.unique(weight.reshape(-1)[:_SAMPLE])
    if weight.size < FEWEST or len(some) > MOST:
        return False
    return len(np.unique(weight)) <= min(MOST, weight.size // FEWEST)


def _started(points: Points, clusters: int, start: Start, random: np.random.Generator) -> Doubles:
    match start:
        case "exact":
            return _best(points, clusters)
        case "kmeans++":
            return _plus_plus(points, clusters, random)
        case "density":
            ranks = (np.arange(clusters) + 0.5) / clusters * points.mass[-1]
            quantiles: Doubles = points.values[np.searchsorted(points.mass, ranks) - 1]
            return quantiles
        case "linear":
            return np.linspace(points.values[0], points.values[-1], clusters)


def _lloyd(points: Points, centres: Doubles, penalty: float) -> Codebook:
    """Clusters that end up empty are left out."""
    cuts, edges = np.empty(0, np.int64), np.empty(0)
    bits = np.zeros(len(centres))
    for _ in range(ROUNDS):
        edges = _edges(centres, penalty * bits)
        before, cuts = cuts, np.concatenate([[0], np.searchsorted(points.values, edges), [len(points)]])
        if np.array_equal(before, cuts):
            break
        means, mass = points.means(cuts), np.diff(points.mass[cuts])
        centres, bits = means[mass > 0], -np.log2(mass[mass > 0] / points.mass[-1])
    return Codebook(centres, edges)


def _edges(centres: Doubles, prices: Doubles) -> Doubles:
    """Where the squared distances from neighbouring centres, with their prices, are equal."""
    middles = (centres[1:] + centres[:-1]) / 2
    return np.maximum.accumulate(middles + np.diff(prices) / (2 * np.diff(centres)))


def _plus_plus(points: Points, clusters: int, random: np.random.Generator) -> Doubles:
    """Each further centre is drawn by its squared distance from those there are."""
    distances = np.ones(len(points))
    chosen: list[float] = []
    while len(chosen) < clusters:
        shares = points.counts * distances
        drawn = points.values[random.choice(len(points), p=shares / shares.sum())]
        squares = np.square(points.values - drawn)
        distances = np.minimum(distances, squares) if chosen else squares
        chosen.append(float(drawn))
    return np.sort(chosen)


def _best(points: Points, clusters: int) -> Doubles:
    """By dynamic programming over the number of clusters and of points: O(k n log n)."""
    count = len(points)
    everything = np.arange(count + 1)
    least = points.error(np.zeros_like(everything), everything)
    rows = []
    for _ in range(clusters - 1):
        least, begins = _row(points, least)
        rows.append(begins)
    cuts = [count]
    for begins in reversed(rows):
        cuts.append(int(begins[cuts[-1]]))
    means = points.means(np.array([0, *reversed(cuts)]))
    return means[~np.isnan(means)]


def _row(points: Points, before: Doubles) -> tuple[Doubles, Indices]:
    """With one more cluster than `before`: the least error of the first j points, and where the last cluster
    then begins. That never moves back as j grows: halving the intervals of j leaves few beginnings to try.
    """
    count = len(points)
    least, begins = before.copy(), np.zeros(count + 2, np.int64)
    begins[-1] = count
    step = 1 << count.bit_length() - 1
    while step:
        ends = np.arange(step, count + 1, 2 * step)
        low, high = begins[ends - step], np.minimum(begins[np.minimum(ends + step, count + 1)], ends)
        lengths = high - low + 1
        starts = np.cumsum(lengths) - lengths
        tried = np.arange(lengths.sum()) + np.repeat(low - starts, lengths)
        errors = before[tried] + points.error(tried, np.repeat(ends, lengths))
        least[ends] = np.minimum.reduceat(errors, starts)
        hits = np.flatnonzero(errors == np.repeat(least[ends], lengths))
        begins[ends] = tried[hits[np.searchsorted(hits, starts)]]
        step //= 2
    return least, begins
