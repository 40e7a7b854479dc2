"""SmoothQuant (Xiao et al. 2023, arXiv:2211.10438): channels of what a layer reads are divided by factors
that its weights are multiplied with, so that outliers of the activations become larger weights.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from compression.kernels import ranges, rounding
from compression.kernels.histogram import Histogram

Floats = npt.NDArray[np.float32]
LARGEST = 1024.0
"""Of the ratio between two factors."""


def factors(peaks: Floats, weight: Floats, alpha: float) -> Floats:
    """s_j = max|x_j|^alpha / max|w_j|^(1 - alpha), with a geometric mean of 1; 1 for channels that are always
    zero or not read. `peaks` [channels], `weight` [channels, outputs].
    """
    reach = np.abs(weight).max(1)
    live = (peaks > rounding.SMALLEST) & (reach > rounding.SMALLEST)
    logs = np.zeros(len(peaks))
    logs[live] = alpha * np.log(peaks[live]) - (1 - alpha) * np.log(reach[live])
    if live.any():
        logs[live] -= logs[live].mean()
    limit = np.log(LARGEST) / 2
    return np.exp(np.clip(logs, -limit, limit)).astype(np.float32)


def noise(rows: Floats, weight: Floats, by: Floats, bits: tuple[int, int], percentile: float) -> float:
    """Squared error of a layer's outputs, summed over samples of its inputs [rows, channels], with inputs
    divided and weights multiplied by the factors and both rounded: to (weight, activation) bits, a scale for
    each output, the range with the least error.
    """
    scaled = rows / by
    seen = Histogram()
    seen.update(scaled.ravel(), float(scaled.min()), float(scaled.max()))
    grid = rounding.grid(*ranges.by_error(seen, bits[1], percentile)[1], bits[1])
    inputs = rounding.dequantize(rounding.quantize(scaled, grid), grid)
    heavier = weight * by[:, None]
    scales = rounding.weight_scales(heavier, 1, bits[0], minimise=False)
    error = inputs @ rounding.round_trip(heavier, scales, 1, bits[0]) - rows @ weight
    return float(np.square(error, dtype=np.float64).sum())


def noises(
    rows: Floats, peaks: Floats, weight: Floats, alphas: Sequence[float], bits: tuple[int, int], share: float
) -> list[float]:
    """Of each alpha, and last of no smoothing."""
    candidates = [factors(peaks, weight, alpha) for alpha in alphas]
    plain = np.ones(len(peaks), np.float32)
    return [noise(rows, weight, by, bits, share) for by in (*candidates, plain)]
