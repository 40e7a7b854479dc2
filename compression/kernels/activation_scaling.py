"""AWQ (Lin et al. 2023, arXiv:2306.00978): inputs that are large are divided by factors that their weights
are multiplied with, so that the weights that matter are rounded in relatively smaller steps.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from compression.kernels import blocks

Floats = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]
STEPS = 20
"""Of the grid of alpha, from 0 to 1, as AWQ's own."""
LARGEST = 1024.0
"""Of the ratio between two factors."""
_SMALLEST = 1e-12


class Scaling(NamedTuple):
    factors: Floats
    """Of each input: it is divided by them."""
    alpha: float
    left: float
    """Share of the error that is left."""


def best(weight: Floats, moment: Doubles, bits: int, block: int) -> Scaling:
    """s = rms(x)^alpha, alpha by the squared error of the outputs after rounding to nearest. `weight` is
    [outputs, inputs], inputs a multiple of the block; `moment` the sum of x x', [inputs, inputs]. AWQ takes
    mean magnitudes for rms.
    """
    rms = np.sqrt(np.maximum(np.diag(moment), 0))
    plain = np.ones(len(rms), np.float32)
    found, least = (
        Scaling(plain, 0.0, 1.0),
        output_error(weight, moment, _rounded(weight, plain, bits, block)),
    )
    start = max(least, 1e-300)
    for step in range(1, STEPS + 1):
        alpha = step / STEPS
        factors = _factors(rms, alpha)
        error = output_error(weight, moment, _rounded(weight, factors, bits, block))
        if error < least:
            found, least = Scaling(factors, alpha, error / start), error
    return found


def output_error(weight: Floats, moment: Doubles, restored: Floats) -> float:
    """Squared, summed over what the moment is of."""
    difference = restored - weight
    return float(((difference @ moment.astype(np.float32)) * difference).sum(dtype=np.float64))


def _factors(rms: Doubles, alpha: float) -> Floats:
    """With a geometric mean of 1; 1 for inputs that are always zero."""
    live = rms > _SMALLEST
    logs = np.zeros(len(rms))
    logs[live] = alpha * np.log(rms[live])
    logs[live] -= logs[live].mean() if live.any() else 0
    limit = np.log(LARGEST) / 2
    return np.exp(np.clip(logs, -limit, limit)).astype(np.float32)


def _rounded(weight: Floats, factors: Floats, bits: int, block: int) -> Floats:
    return blocks.nearest(weight * factors, bits, block).restored / factors
