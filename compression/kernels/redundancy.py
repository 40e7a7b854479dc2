"""Which inputs of a linear layer can best be told from the others."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Ids = npt.NDArray[np.integer]
RIDGE = 1e-3
"""Of the mean second moment, added to its diagonal."""


def regularised(moment: Floats) -> Floats:
    """Of full rank, with a little of its mean added to the diagonal."""
    ridge = RIDGE * float(np.trace(moment)) / len(moment) + float(np.finfo(np.float64).tiny)
    return np.asarray(moment + ridge * np.eye(len(moment)))


@dataclass
class Sum:
    """One layer that sums over units: E[x x'] [slices, slices] of what it reads, its weight [slices,
    outputs], and the slices of each unit [units, slices of a unit]. Of the weight only products of rows
    matter: a wide one is replaced by a square one that has the same.
    """

    moment: Floats
    weight: Floats
    indices: Ids
    energy: float = field(init=False)
    inverse: Floats = field(init=False)

    def __post_init__(self) -> None:
        self.energy = max(float(np.sum(self.weight * (self.moment @ self.weight))), np.finfo(np.float64).tiny)
        self.inverse = np.asarray(np.linalg.inv(regularised(self.moment)), np.float64)
        wide = self.weight.shape[1] > len(self.weight)
        self.weight = np.array(np.linalg.qr(self.weight.T)[1].T if wide else self.weight, np.float64)

    def losses(self) -> Floats:
        """Energy of the output that is lost with each unit, at best, as a share of all."""
        if self.indices.shape[1] == 1:
            alone = np.square(self.weight).sum(1) / np.diagonal(self.inverse) / self.energy
            return np.asarray(alone[self.indices[:, 0]])
        own = self.inverse[self.indices[:, :, None], self.indices[:, None, :]]
        rows = self.weight[self.indices]
        return np.asarray((rows * np.linalg.solve(own, rows)).sum((1, 2)) / self.energy)

    def remove(self, unit: int) -> None:
        """Takes the unit out; the others take over what they can."""
        gone = self.indices[unit]
        told = np.linalg.solve(self.inverse[np.ix_(gone, gone)], self.inverse[gone])
        self.weight -= told.T @ self.weight[gone]
        self.inverse -= self.inverse[:, gone] @ told
        self.weight[gone] = 0
        self.inverse[gone, gone] = 1  # out of the way, and never singular


def marginal_losses(sums: Sequence[Sum], units: int) -> Floats:
    """What is lost with each unit when it goes, the least first, all earlier ones being gone: Optimal Brain
    Surgeon (Hassibi and Stork 1993) on whole units. Never less than for a unit that goes earlier.
    """
    losses, left = np.zeros(units), np.ones(units, bool)
    highest = 0.0
    for _ in range(units):
        each = np.where(left, sum(one.losses() for one in sums), np.inf)
        unit = int(each.argmin())
        highest = max(highest, float(each[unit]))
        losses[unit], left[unit] = highest, False
        for one in sums:
            one.remove(unit)
    return losses
