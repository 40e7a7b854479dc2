"""How alike two texts are: scores of a model, or cosines between embeddings, beside what people said."""

import numpy as np

from compression.dataset import Array
from compression.measure.paired import Replicates
from compression.measure.sums import Sums, around, groups
from compression.measurement import Metric

_MOST_RANKED = 1 << 20
"""Ranks need every score: of the first million they are kept, in 8 bytes for each with its label."""
_MOST_COMPARED = 1 << 16
"""Of them, for the interval of a difference: they are ranked anew without each group."""
_CERTAIN = 1 - 1e-12


def _correlation(sums: Array) -> Array:
    """Of [..., 6]: 1, x, y, xx, yy, xy. 0 where one of them is always the same."""
    n, x, y, xx, yy, xy = np.moveaxis(sums, -1, 0)
    both = np.maximum(xx - x * x / n, 0) * np.maximum(yy - y * y / n, 0)
    return np.asarray((xy - x * y / n) / np.sqrt(np.where(both > 0, both, np.inf)))


def _fisher(sums: Array) -> Array:
    """Correlations near 1 are far from normal, these are not (Fisher 1915)."""
    return np.asarray(np.arctanh(np.clip(_correlation(sums), -_CERTAIN, _CERTAIN)))


def ranks(values: Array) -> Array:
    """From 1; equal values share the mean of theirs."""
    _, group, counts = np.unique(values, return_inverse=True, return_counts=True)
    return np.asarray((np.cumsum(counts) - (counts - 1) / 2)[group])


def spearman(pairs: Array) -> float:
    """Of [n, 2]; 0 where one of them is always the same."""
    x, y = (ranks(column) for column in pairs.T)
    x, y = x - x.mean(), y - y.mean()
    size = float(np.sqrt((x @ x) * (y @ y)))
    return float(x @ y) / size if size else 0.0


class Similarity:
    """Spearman's correlation with the labels, and Pearson's."""

    def __init__(self) -> None:
        self.sums = Sums()
        self.kept: list[Array] = []
        self.ranked = 0
        self.origin: Array | None = None

    def add(self, output: Array, labels: Array) -> None:
        """One number a sample in each."""
        pairs = np.stack([output.reshape(-1), labels.reshape(-1)], axis=1).astype(float)
        if self.origin is None:  # sums of squares lose all digits far from 0
            self.origin = pairs.mean(0)
        x, y = (pairs - self.origin).T
        self.sums.add(np.stack([np.ones(len(x)), x, y, x * x, y * y, x * y], axis=1))
        if self.ranked < _MOST_RANKED:
            self.kept.append(pairs[: _MOST_RANKED - self.ranked].astype(np.float32))
            self.ranked += len(self.kept[-1])

    def metrics(self) -> tuple[Metric, ...]:
        total, n = self.sums.total, self.sums.n
        value = float(_correlation(total))
        low, high = np.tanh(self.sums.interval(_fisher))
        pearson = Metric(name="pearson", value=value, ci95=(float(low), float(high)), n=n)
        return self._spearman(), pearson

    def _spearman(self) -> Metric:
        """Its interval is that of Bonett and Wright (2000)."""
        value = spearman(np.concatenate(self.kept))
        error = ((1 + value**2 / 2) / max(self.ranked - 3, 1)) ** 0.5
        low, high = np.tanh(around(float(np.arctanh(np.clip(value, -_CERTAIN, _CERTAIN))), error))
        return Metric(name="spearman", value=value, ci95=(float(low), float(high)), n=self.ranked)

    def evidence(self) -> Replicates:
        pairs = np.concatenate(self.kept)[:_MOST_COMPARED]
        belongs = groups(len(pairs))
        found = np.unique(belongs) if len(pairs) > 1 else ()
        return Replicates(np.array([spearman(pairs[belongs != group]) for group in found]))


class Pairs:
    """Cosines between the embeddings of rows 2i and 2i + 1, scored as similarities.

    Embeddings are [N, D], or [N, T, D] whose mean over the positions that the mask counts is taken.
    """

    def __init__(self, mask: Array | None) -> None:
        """`mask` is [N, T], of all samples in their order."""
        self.similarity, self.mask, self.seen = Similarity(), mask, 0
        self.left: tuple[Array, Array] | None = None
        """First half of a pair whose second comes with the next batch."""

    def add(self, output: Array, labels: Array) -> None:
        vectors = self._pooled(output.astype(float))
        self.seen += len(output)
        if self.left is not None:
            vectors, labels = (
                np.concatenate(both) for both in zip(self.left, (vectors, labels), strict=True)
            )
        whole = len(vectors) - len(vectors) % 2
        self.left = (vectors[whole:], labels[whole:]) if whole < len(vectors) else None
        if whole:
            one, other = vectors[0:whole:2], vectors[1:whole:2]
            size = np.linalg.norm(one, axis=1) * np.linalg.norm(other, axis=1)
            self.similarity.add((one * other).sum(1) / np.maximum(size, 1e-300), labels[0:whole:2])

    def _pooled(self, output: Array) -> Array:
        if output.ndim == 2:
            return output
        if self.mask is None:
            return np.asarray(output.mean(1))
        counted = (self.mask[self.seen : self.seen + len(output)] > 0)[:, :, None]
        return np.asarray((output * counted).sum(1) / np.maximum(counted.sum(1), 1))

    def metrics(self) -> tuple[Metric, ...]:
        return self.similarity.metrics()

    def evidence(self) -> Replicates:
        return self.similarity.evidence()
