"""Sums over samples and what they are sure of. Memory is flat in the number of samples."""

from collections.abc import Callable
from typing import Any

import numpy as np

from compression.dataset import Array
from compression.measurement import Interval

Z = 1.959964
"""97.5 % quantile of the normal distribution."""
GROUPS = 64
_SEED = 0x50617265
"""Nobody makes data with it: labels drawn by the same numbers would each have groups of their own."""

Statistic = Callable[[Array], Any]
"""Of sums [..., *row], for each of the leading axes."""


def wilson(correct: int, n: int) -> Interval:
    """95 % interval of a proportion (Wilson 1927)."""
    share, z2 = correct / n, Z * Z
    centre = (share + z2 / (2 * n)) / (1 + z2 / n)
    half = Z / (1 + z2 / n) * (share * (1 - share) / n + z2 / (4 * n * n)) ** 0.5
    return max(0.0, centre - half), min(1.0, centre + half)


def around(value: float, error: float, least: float = -np.inf, most: float = np.inf) -> Interval:
    """95 % interval of a normal estimate, within what is possible."""
    return max(least, value - Z * error), min(most, value + Z * error)


def student(freedom: int) -> float:
    """97.5 % quantile of Student's t, by its expansion (Abramowitz and Stegun 26.7.5); 0.003 off at 7."""
    first = (Z**3 + Z) / (4 * freedom)
    return Z + first + (5 * Z**5 + 16 * Z**3 + 3 * Z) / (96 * freedom**2)


def half_width(others: Array, value: float) -> float:
    """Of the 95 % interval around a value, from what it is without each of the groups: the delete-a-group
    jackknife (Kott 2001).
    """
    error = float(np.sqrt((1 - 1 / len(others)) * ((others - value) ** 2).sum()))
    return student(len(others) - 1) * error


def groups(n: int) -> Array:
    """The group that each of the first n samples falls into by chance, always the same."""
    return np.random.default_rng(_SEED).integers(0, GROUPS, n)


class Sums:
    """Rows of numbers, one for each sample, added up in groups that samples fall into by chance.

    What the total says is as sure as it stays the same without one of the groups: the delete-a-group
    jackknife (Kott 2001), which takes any smooth statistic and any dependence within a sample.
    """

    def __init__(self) -> None:
        self.n = 0
        self._random = np.random.default_rng(_SEED)
        self._sizes = np.zeros(GROUPS, int)
        self._groups: Array = np.zeros(())

    def add(self, rows: Array) -> None:
        """[n, ...]"""
        belongs = self._random.integers(0, GROUPS, len(rows)) == np.arange(GROUPS)[:, None]
        self.n += len(rows)
        self._sizes += belongs.sum(1)
        self._groups = self._groups + np.tensordot(belongs.astype(float), rows.astype(float), 1)

    @property
    def total(self) -> Array:
        return np.asarray(self._groups.sum(0))

    def interval(self, statistic: Statistic, least: float = -np.inf, most: float = np.inf) -> Interval:
        """95 %, between these bounds; of no width where all samples are in one group."""
        value, others = float(statistic(self.total)), self.without(statistic)
        if len(others) < 2:
            return value, value
        half = half_width(others, value)
        return max(least, value - half), min(most, value + half)

    def without(self, statistic: Statistic) -> Array:
        """The statistic without each of the groups, in their order: two models that were judged on the same
        samples have the same groups. Empty where all are in one.
        """
        others = self.total - self._groups[self._sizes > 0]
        return np.asarray(statistic(others)) if len(others) > 1 else np.zeros(0)
