"""Ranges of activations from their histogram: four classic methods and the choice among them by error."""

from collections.abc import Callable, Iterator
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from compression.kernels.histogram import Histogram
from compression.kernels.rounding import grid

Method = Literal["minmax", "percentile", "entropy", "mse"]
Doubles = npt.NDArray[np.float64]
TINY = 1e-12


class Range(NamedTuple):
    low: float
    high: float


def minmax(seen: Histogram, _bits: int, _percentile: float) -> Range:
    return Range(min(seen.minimum, 0.0), max(seen.maximum, 0.0))


def percentile(seen: Histogram, _bits: int, share: float) -> Range:
    """Cuts off (100 - share) / 2 per cent at each end; at an end that is 0, nothing."""
    total = np.cumsum(seen.counts)
    tail = (100 - share) / 200 * total[-1]
    edges = np.linspace(seen.low, seen.high, len(total) + 1)
    low = edges[int(np.searchsorted(total, tail, side="right"))]
    high = edges[min(int(np.searchsorted(total, total[-1] - tail)) + 1, len(total))]
    widest = minmax(seen, 0, 0)
    return Range(min(max(float(low), widest.low), 0.0), max(min(float(high), widest.high), 0.0))


def mse(seen: Histogram, bits: int, _percentile: float) -> Range:
    """Least expected squared error over shares of either end; a coarse grid, then a finer one around its
    best.
    """
    widest = minmax(seen, bits, 0)
    low_share, high_share = 1.0, 1.0
    for half_width, points in ((0.42, 7), (0.1, 7)):
        candidates = [
            (a, b)
            for a in _shares(low_share, half_width, points, one=widest.low == 0)
            for b in _shares(high_share, half_width, points, one=widest.high == 0)
        ]
        errors = [error(seen, Range(widest.low * a, widest.high * b), bits) for a, b in candidates]
        low_share, high_share = candidates[int(np.argmin(errors))]
    return Range(widest.low * low_share, widest.high * high_share)


def _shares(center: float, half_width: float, points: int, *, one: bool) -> Doubles:
    if one:
        return np.ones(1)
    return np.unique(np.clip(np.linspace(center - half_width, center + half_width, points), 0.05, 1.0))


def entropy(seen: Histogram, bits: int, _percentile: float) -> Range:
    """Least KL divergence between the histogram and its quantized self (Migacz, GTC 2017), over shares of the
    range.
    """
    widest = minmax(seen, bits, 0)
    candidates = [Range(widest.low * share, widest.high * share) for share in np.linspace(0.3, 1.0, 15)]
    divergences = [_divergence(seen, candidate, bits) for candidate in candidates]
    return candidates[len(candidates) - 1 - int(np.argmin(divergences[::-1]))]


def _divergence(seen: Histogram, to: Range, bits: int) -> float:
    centers, counts = seen.centers, seen.counts.astype(np.float64)
    counts[np.abs(centers).argmin()] = 0  # zero is exact on every grid, and of a ReLU most values
    inside = (centers >= to.low) & (centers <= to.high)
    if not inside.any():
        return float(np.inf)
    reference = counts[inside]
    kept = reference.copy()
    reference[0] += counts[centers < to.low].sum()
    reference[-1] += counts[centers > to.high].sum()
    cell = np.rint(centers[inside] / grid(*to, bits).scale).astype(np.int64)
    cell -= cell.min()
    filled = np.maximum(np.bincount(cell, kept > 0), 1)
    spread = (np.bincount(cell, kept) / filled)[cell] * (kept > 0)
    p, q = reference / max(reference.sum(), TINY), spread / max(spread.sum(), TINY)
    used = p > 0
    return float((p[used] * np.log(p[used] / np.maximum(q[used], TINY))).sum())


def error(seen: Histogram, to: Range, bits: int) -> float:
    """Expected squared error of quantizing to that range: rounding inside, clipping outside."""
    step = grid(*to, bits)
    centers, counts = seen.centers, seen.counts
    rounded = np.clip(np.rint(centers / step.scale), -step.zero_point, step.levels - step.zero_point)
    return float((np.square(rounded * step.scale - centers) * counts).sum() / max(counts.sum(), 1))


METHODS: dict[Method, Callable[[Histogram, int, float], Range]] = {
    "minmax": minmax,
    "percentile": percentile,
    "entropy": entropy,
    "mse": mse,
}


def by_error(seen: Histogram, bits: int, share: float) -> tuple[Method, Range]:
    """The method with the least expected squared error on this tensor; the simplest among equals."""
    ranked = list(_ranked(seen, bits, share))
    _, method, chosen = min(ranked, key=lambda entry: entry[0])
    return method, chosen


def _ranked(seen: Histogram, bits: int, share: float) -> Iterator[tuple[float, Method, Range]]:
    for name, method in METHODS.items():
        chosen = method(seen, bits, share)
        yield error(seen, chosen, bits), name, chosen
