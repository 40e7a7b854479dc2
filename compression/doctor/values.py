"""Values of inputs: not finite, always the same, not as models take them."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np

from compression.dataset import Array, Dataset
from compression.fit import LABELS
from compression.inspection import Finding

_CHUNK = 4 << 20
_SHOWN = 5
_TYPICAL = 10
"""Prepared images lie within about 3 of 0; those of models with a mean but no deviation lie beyond."""
_NARROW = 0.05
"""Pixels from 0 to 255 that were scaled twice lie closer together."""
_APART = 50
"""Splits of one data set do not differ by such a factor."""


@dataclass(frozen=True)
class Range:
    """Of finite values; of each column where a row is a vector."""

    low: Array
    high: Array
    odd: int = 0
    """Rows with values that are not finite."""
    first: int = -1
    """Of these rows."""

    @property
    def magnitude(self) -> float:
        return float(max(np.abs(self.low).max(), np.abs(self.high).max()))


def chunks(array: Array) -> Iterator[Array]:
    rows = max(1, _CHUNK * len(array) // max(1, array.nbytes))
    for start in range(0, len(array), rows):
        yield np.asarray(array[start : start + rows])


def largest_integers(data: Dataset) -> dict[str, int]:
    """Of each input of 32 or 64 bit integers, over all splits."""
    found: dict[str, int] = {}
    for key, array in data.arrays.items():
        name = key.partition("/")[2]
        if array.dtype.kind in "iu" and array.dtype.itemsize >= 4 and array.size and name not in LABELS:
            found[name] = max(found.get(name, 0), *(int(chunk.max()) for chunk in chunks(array)))
    return found


def findings(data: Dataset, *, prepared: bool = False) -> list[Finding]:
    """One of each kind for an input, whatever its splits."""
    inputs: dict[str, dict[str, Array]] = {}
    for split, own in data.splits.items():
        for name, array in own.arrays.items():
            if array.dtype.kind == "f" or array.dtype == np.uint8:
                inputs.setdefault(name, {})[split] = array
    return [finding for name, arrays in inputs.items() for finding in _input(name, arrays, prepared=prepared)]


def _input(name: str, arrays: dict[str, Array], *, prepared: bool) -> list[Finding]:
    ranges = {split: _range(array) for split, array in arrays.items()}
    kind = next(iter(arrays.values()))
    low = np.minimum.reduce([found.low for found in ranges.values()])
    high = np.maximum.reduce([found.high for found in ranges.values()])
    found = _not_finite(name, ranges)
    if np.isinf(low).any():
        return found
    found += _constant(name, low, high) + _apart(name, ranges)
    if kind.ndim >= 3 and kind.dtype.kind == "f" and not found:
        found += _scale(name, float(low.min()), float(high.max()), prepared=prepared and kind.ndim == 4)
    return found


def _range(array: Array) -> Range:
    axes = None if array.ndim != 2 else 0
    low, high = np.asarray(np.inf), np.asarray(-np.inf)
    odd, first, start = 0, -1, 0
    for piece in chunks(array):
        chunk = piece if piece.dtype.kind == "f" else piece.astype(np.float32)
        good = np.isfinite(chunk)
        low = np.minimum(low, chunk.min(axes, where=good, initial=np.inf))
        high = np.maximum(high, chunk.max(axes, where=good, initial=-np.inf))
        if not good.all():
            rows = np.flatnonzero(~good.reshape(len(chunk), -1).all(axis=1))
            first = start + int(rows[0]) if first < 0 else first
            odd += len(rows)
        start += len(chunk)
    return Range(low, high, odd, first)


def _not_finite(name: str, ranges: dict[str, Range]) -> list[Finding]:
    told = [
        f"{found.odd} of {split} (row {found.first} first)" for split, found in ranges.items() if found.odd
    ]
    if not told:
        return []
    detail = f"{name}: rows hold NaN or infinite values: {', '.join(told)}"
    return [_finding("not_finite", "error", detail, "replace or remove these rows")]


def _constant(name: str, low: Array, high: Array) -> list[Finding]:
    same = np.flatnonzero(low == high)
    if not len(same):
        return []
    if len(same) == low.size:
        detail = f"every value of {name} is {float(low.flat[0]):g}"
        if low.size > 1:
            detail = f"every row of {name} is the same"
        return [_finding("constant", "warning", detail, "check how the data set was written")]
    shown = ", ".join(str(column) for column in same[:_SHOWN])
    detail = f"{len(same)} of the {low.size} columns of {name} never change: {shown} (counted from 0)"
    return [_finding("constant", "warning", detail, "check them: a model learns nothing from such columns")]


def _apart(name: str, ranges: dict[str, Range]) -> list[Finding]:
    sizes = {split: found.magnitude for split, found in ranges.items()}
    least, most = min(sizes, key=sizes.__getitem__), max(sizes, key=sizes.__getitem__)
    if sizes[most] <= _APART * sizes[least]:
        return []
    detail = f"{name} goes up to {sizes[most]:g} in {most}, but to {sizes[least]:g} in {least}"
    return [_finding("splits_differ", "warning", detail, "scale all splits in the same way")]


def _scale(name: str, low: float, high: float, *, prepared: bool) -> list[Finding]:
    """Of images."""
    values = f"{name} holds floats of {low:g} to {high:g}"
    if low >= 0 and 200 < high <= 255:
        way_out = "scale as in training, or keep pixels as uint8 if the model scales them"
        return [_finding("unscaled", "warning", f"{values}, as pixels not yet scaled", way_out)]
    if prepared and max(-low, high) > _TYPICAL:
        detail = f"{values}; most models take about -3 to 3"
    elif prepared and high - low < _NARROW:
        detail = f"{values}, as pixels scaled twice"
    else:
        return []
    way_out = "compare image.scale, image.mean and image.std with what the model was trained with"
    return [_finding("out_of_range", "warning", detail, way_out)]


def _finding(code: str, severity: Literal["warning", "error"], detail: str, way_out: str) -> Finding:
    return Finding(code=code, severity=severity, detail=detail[:400], way_out=way_out)
