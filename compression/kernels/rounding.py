"""Uniform quantization of arrays: scale and zero point, the grid, and the scales of weights."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]
Integers = npt.NDArray[np.int64]
SMALLEST = 1e-33
"""A smaller scale is taken for that of a range without extent."""
AT_ONCE = 1 << 18
"""Weights that are rounded at once."""
SHRINK = np.linspace(1.0, 0.75, 11)


@dataclass(frozen=True)
class Grid:
    """The integers 0..levels; `zero_point` stands for 0.0 exactly."""

    scale: float
    zero_point: int
    levels: int

    @property
    def low(self) -> float:
        return -self.zero_point * self.scale

    @property
    def high(self) -> float:
        return (self.levels - self.zero_point) * self.scale


def grid(low: float, high: float, bits: int, *, symmetric: bool = False) -> Grid:
    """Q(x) = round((x - low) / (high - low) * (2^bits - 1)), with `low` moved by less than a step so that 0.0
    is on the grid (zero padding stays exact). A range without extent gets scale 1.
    """
    low, high = min(low, 0.0), max(high, 0.0)
    levels = 2**bits - 1
    if symmetric:
        bound = max(-low, high)
        scale = _positive(2 * bound / (levels - 1))
        return Grid(scale, (levels + 1) // 2, levels)
    scale = _positive((high - low) / levels)
    return Grid(scale, round(-low / scale), levels)


def _positive(scale: float) -> float:
    return float(scale) if scale > SMALLEST else 1.0


def quantize(values: Floats, to: Grid) -> Integers:
    rounded: Integers = np.clip(np.rint(values / to.scale) + to.zero_point, 0, to.levels).astype(np.int64)
    return rounded


def dequantize(integers: Integers, of: Grid) -> Floats:
    return ((integers - of.zero_point) * of.scale).astype(np.float32)


def largest(bits: int) -> int:
    """The largest integer of symmetric weights: 127 for 8 bits, so that -w is as exact as w."""
    return int(2 ** (bits - 1) - 1)


def weight_scales(weight: Floats, axis: int | None, bits: int, *, minimise: bool = True) -> Floats:
    """Symmetric scales, one per index of `axis` (or a single one), each the best of some that clip the
    largest weights a little in favour of the others (least squares), or the one that clips none.
    """
    if axis is None:
        return _scales(weight.reshape(1, -1), bits, minimise=minimise)
    rows = np.moveaxis(weight, axis, 0)
    some = (rows[part] for part in _parts(rows))
    return np.concatenate([_scales(part.reshape(len(part), -1), bits, minimise=minimise) for part in some])


def _scales(rows: Floats, bits: int, *, minimise: bool) -> Floats:
    bound = np.abs(rows).max(1, keepdims=True, initial=0.0)
    full = np.where(bound > SMALLEST * largest(bits), bound / largest(bits), 1.0).astype(np.float32)
    if not minimise:
        return full.ravel()
    best, least = full, np.full_like(full, np.inf)
    for share in SHRINK:
        scale = (full * share).astype(np.float32)
        error = np.square(_round_trip(rows, scale, bits) - rows).sum(1, keepdims=True)
        best, least = np.where(error < least, scale, best), np.minimum(error, least)
    return best.ravel()


def _parts(array: Floats) -> Iterator[slice]:
    """Along the first axis: few enough numbers at once that what is computed of them stays in the cache."""
    step = max(1, AT_ONCE // max(1, array[:1].size))
    return (slice(at, at + step) for at in range(0, len(array), step))


def quantize_weight(weight: Floats, scales: Floats, axis: int | None, bits: int) -> npt.NDArray[np.int8]:
    bound, steps = largest(bits), spread(scales, axis, weight.ndim)
    integers = np.empty(weight.shape, np.int8)
    for part in _parts(weight):
        rounded = np.rint(weight[part] / (steps[part] if axis == 0 else steps))
        integers[part] = np.clip(rounded, -bound, bound)
    return integers


def round_trip(weight: Floats, scales: Floats, axis: int | None, bits: int) -> Floats:
    """The weight as the quantized model sees it."""
    integers = quantize_weight(weight, scales, axis, bits)
    return (integers * spread(scales, axis, weight.ndim)).astype(np.float32, copy=False)


def spread(scales: Floats, axis: int | None, rank: int) -> Floats:
    """Scales shaped to be broadcast against a weight of that rank."""
    if axis is None:
        return scales.reshape((1,) * rank)
    return scales.reshape([-1 if index == axis else 1 for index in range(rank)])


def _round_trip(rows: Floats, scale: Floats, bits: int) -> Floats:
    bound = largest(bits)
    rounded: Floats = np.clip(np.rint(rows / scale), -bound, bound) * scale
    return rounded
