"""How much a unit (a channel, a neuron, a head) matters: numbers for each, higher is more."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.floating]
Ids = npt.NDArray[np.integer]
Scores = npt.NDArray[np.float64]


def of_units(values: Floats, indices: Ids) -> Scores:
    """Sums of numbers of slices; `indices` [units, slices]."""
    sums: Scores = np.asarray(values, np.float64)[indices].sum(1)
    return sums


def norms(weight: Floats, axis: int, order: int) -> Scores:
    """sum |w|^order of each slice of an axis (Li et al. 2017, arXiv:1608.08710, for order 1)."""
    powers = np.abs(weight.astype(np.float64)) ** order
    return _sums(powers, axis)


def taylor(weight: Floats, gradient: Floats, axis: int) -> Scores:
    """sum w dL/dw of each slice: what the loss loses, to first order, with the slice; its square, averaged
    over batches, is the criterion of Molchanov et al. 2019 (arXiv:1906.10771).
    """
    product = weight.astype(np.float64) * gradient
    return _sums(product, axis)


def normalised(scores: Floats) -> Scores:
    """Divided by their mean; ones where all are zero: scores of several layers on one scale."""
    mean = float(np.mean(scores))
    return np.asarray(scores, np.float64) / mean if mean > 0 else np.ones(len(scores))


def combined(parts: Sequence[Floats], units: int) -> Scores:
    """Mean of normalised scores; every layer that makes or reads the units has one voice."""
    if not parts:
        return np.ones(units)
    return np.asarray(np.mean([normalised(part) for part in parts], axis=0))


def _sums(values: Scores, axis: int) -> Scores:
    sums: Scores = values.sum(tuple(at for at in range(values.ndim) if at != axis))
    return sums
