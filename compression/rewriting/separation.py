"""A k x k convolution told apart: a kernel within each group of channels, and a 1 x 1 that mixes the groups.

Start: for each group the best map of rank `rank` of its weights (a depthwise kernel is the rank-1 SVD of an
input channel: Jaderberg et al. 2014, arXiv:1405.3866; Guo et al. 2018, arXiv:1808.09007). Then block-wise
least squares against what the layer gave: one group after the other takes the best map of its rank for what
the others leave (reduced-rank regression, Izenman 1975), and the mixing is solved for all groups together.
Each step is exact, so the error never grows; only the moments of what the layer reads are looked at.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from compression.kernels.redundancy import regularised

Floats = npt.NDArray[np.float64]
SWEEPS = 6
"""Over all groups. Of a CNN's layers the error falls to a sixth of that of the SVD; more change little."""


@dataclass(frozen=True, eq=False)
class Separation:
    kernels: Floats
    """[groups, rank, channels of a group, points]; what they give has a mean square of 1."""
    mixing: Floats
    """[outputs, groups, rank]."""
    error: float
    """Share of the output's energy that is lost, 0-1."""

    @property
    def whole(self) -> Floats:
        """As one kernel [outputs, inputs, points]."""
        return _joined(self.mixing, self.kernels)


def separate(weight: Floats, moment: Floats, channels: int, rank: int, sweeps: int = SWEEPS) -> Separation:
    """`weight` [outputs, inputs, points], `moment` [inputs * points, inputs * points] of what it reads;
    XX
        Time grows as outputs * (inputs * points)^2 for each sweep.
    """
    moment = regularised(moment if moment.any() else np.eye(len(moment)))
    fit = _Fit(weight, moment, channels, rank)
    for _ in range(sweeps):
        fit.mix()
        fit.sweep()
    fit.mix()
    return Separation(fit.kernels, fit.mixing, fit.error)


class _Fit:
    def __init__(self, weight: Floats, moment: Floats, channels: int, rank: int) -> None:
        outputs, inputs, points = weight.shape
        self._shape = inputs // channels, rank, channels, points
        self._width = channels * points
        self._weight, self._moment = weight.reshape(outputs, -1), moment
        self._cross = self._weight @ moment
        """E[y x'] of the layer as it was."""
        grouped = self._weight.reshape(outputs, -1, self._width)
        parts = [_best(grouped[:, at], np.eye(self._width), rank) for at in range(self._shape[0])]
        self.mixing = np.stack([mixing for mixing, _ in parts], 1)
        self.kernels = np.stack([kernels for _, kernels in parts]).reshape(self._shape)

    @property
    def error(self) -> float:
        energy = float(np.sum(self._cross * self._weight))
        left = self._weight - _joined(self.mixing, self.kernels).reshape(self._weight.shape)
        lost = float(np.sum((left @ self._moment) * left))
        return lost / max(energy, float(np.finfo(np.float64).tiny))

    def mix(self) -> None:
        """The best mixing for these kernels."""
        groups, rank, *_ = self._shape
        kernels = self.kernels.reshape(groups, rank, self._width)
        moment = self._moment.reshape(groups, self._width, groups, self._width)
        half = np.einsum("gra,gahb->grhb", kernels, moment, optimize=True)
        inner = np.einsum("grhb,hqb->grhq", half, kernels, optimize=True).reshape(groups * rank, -1)
        cross = np.einsum("oga,gra->ogr", self._cross.reshape(-1, groups, self._width), kernels)
        flat = cross.reshape(-1, groups * rank)
        self.mixing = np.linalg.solve(inner, flat.T).T.reshape(cross.shape)

    def sweep(self) -> None:
        """Kernels and mixing of each group anew, for what the others leave."""
        groups, rank, *_ = self._shape
        kernels = self.kernels.reshape(groups, rank, self._width)
        left = self._cross - _joined(self.mixing, self.kernels).reshape(self._weight.shape) @ self._moment
        for at in range(groups):
            own = slice(at * self._width, (at + 1) * self._width)
            before = self.mixing[:, at] @ kernels[at]
            moment = self._moment[own, own]
            self.mixing[:, at], kernels[at] = _regressed(left[:, own] + before @ moment, moment, rank)
            left -= (self.mixing[:, at] @ kernels[at] - before) @ self._moment[own]
        self.kernels = kernels.reshape(self._shape)


def _joined(mixing: Floats, kernels: Floats) -> Floats:
    """[outputs, inputs, points], whether a kernel's axes are two or (channels of a group, points)."""
    joined: Floats = np.einsum("ogr,gr...->og...", mixing, kernels, optimize=True)
    return joined.reshape(len(mixing), -1, kernels.shape[-1])


def _regressed(cross: Floats, moment: Floats, rank: int) -> tuple[Floats, Floats]:
    """Of `cross` E[y x'] and E[x x']: the map of this rank that tells y from x best, as in `_best`."""
    return _best(np.asarray(np.linalg.solve(moment, cross.T).T), moment, rank)


def _best(weight: Floats, moment: Floats, rank: int) -> tuple[Floats, Floats]:
    """[outputs, rank] and [rank, n], whose product is nearest to `weight` [outputs, n] on inputs of such a
    (regular) moment; what comes between has a mean square of 1.
    """
    root = np.linalg.cholesky(moment)
    basis, sizes, codes = np.linalg.svd(weight @ root, full_matrices=False)
    return basis[:, :rank] * sizes[:rank], np.linalg.solve(root.T, codes[:rank].T).T
