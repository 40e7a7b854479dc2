"""Sums over samples and what they are sure of. Memory is flat in the number of samples."""

from collections.abc import Callable
from typing import Any

import numpy as np

from compression.dataset import Array
from compression.measurement import Interval

_Z = 1.959964
"""97.5 % quantile of the normal distribution."""
_GROUPS = 64
_SEED = 0x50617265
"""Nobody makes data with it: labels drawn by the same numbers would each have groups of their own."""

Statistic = Callable[[Array], Any]
"""Of sums [..., *row], for each of the leading axes."""


def wilson(correct: int, n: int) -> Interval:
    """95 % interval of a proportion (Wilson 1927)."""
    share, z2 = correct / n, _Z * _Z
    centre = (share + z2 / (2 * n)) / (1 + z2 / n)
    half = _Z / (1 + z2 / n) * (share * (1 - share) / n + z2 / (4 * n * n)) ** 0.5
    return max(0.0, centre - half), min(1.0, centre + half)


def around(value: float, error: float, least: float = -np.inf, most: float = np.inf) -> Interval:
    """95 % interval of a normal estimate, within what is possible."""
    return max(least, value - _Z * error), min(most, value + _Z * error)


def student(freedom: int) -> float:
    """97.5 % quantile of Student's t, by its expansion (Abramowitz and Stegun 26.7.5); 0.003 off at 7."""
    first = (_Z**3 + _Z) / (4 * freedom)
    return _Z + first + (5 * _Z**5 + 16 * _Z**3 + 3 * _Z) / (96 * freedom**2)


class Sums:
    """Rows of numbers, one for each sample, added up in groups that samples fall into by chance.

    What the total says is as sure as it stays the same without one of the groups: the delete-a-group
    jackknife (Kott 2001), which takes any smooth statistic and any dependence within a sample.
    """

    def __init__(self) -> None:
        self.n = 0
        self._random = np.random.default_rng(_SEED)
        self._sizes = np.zeros(_GROUPS, int)
        self._groups: Array = np.zeros(())

    def add(self, rows: Array) -> None:
        """[n, ...]"""
        belongs = self._random.integers(0, _GROUPS, len(rows)) == np.arange(_GROUPS)[:, None]
        self.n += len(rows)
        self._sizes += belongs.sum(1)
        self._groups = self._groups + np.tensordot(belongs.astype(float), rows.astype(float), 1)

    @property
    def total(self) -> Array:
        return np.asarray(self._groups.sum(0))

    def interval(self, statistic: Statistic, least: float = -np.inf, most: float = np.inf) -> Interval:
        """95 %, between these bounds; of no width where all samples are in one group."""
        total, value = self.total, float(statistic(self.total))
        others = total - self._groups[self._sizes > 0]
        if len(others) < 2:
            return value, value
        error = float(np.sqrt((1 - 1 / len(others)) * ((statistic(others) - value) ** 2).sum()))
        half = student(len(others) - 1) * error
        return max(least, value - half), min(most, value + half)
