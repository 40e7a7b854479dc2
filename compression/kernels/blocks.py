"""Rounding a matrix in blocks: neighbours along the summed axis share a scale and a zero point.

A weight comes as [outputs, inputs], inputs a multiple of the block; its integers are unsigned.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]
Bytes = npt.NDArray[np.uint8]
DAMPING = 0.01
"""Of the mean of the Hessian's diagonal, added to it."""
_SMALLEST = 1e-30
_ROUNDS, _NORM, _BETA, _GROWTH = 20, 0.7, 10.0, 1.01
"""HQQ's own settings (lp_norm, beta, kappa)."""
_SHARES = tuple(1 - step / 20 for step in range(1, 9))
"""Of a block's range that are tried where errors have weights."""


@dataclass(frozen=True)
class Blocks:
    """(integers - zero_points) * scales: integers [outputs, blocks, block], the others [outputs, blocks]."""

    integers: Bytes
    scales: Floats
    zero_points: Bytes

    @property
    def restored(self) -> Floats:
        """[outputs, inputs]."""
        whole = (self.integers - self.zero_points[..., None].astype(np.float32)) * self.scales[..., None]
        return whole.reshape(len(whole), -1)


def nearest(weight: Floats, bits: int, block: int, importance: Doubles | None = None) -> Blocks:
    """Round to nearest between the extremes of each block; with an importance of each input, [inputs], that
    squared errors are weighted by, between what loses least, as some of AWQ's gain comes from (Lin et al.
    2023, arXiv:2306.00978).
    """
    parts = weight.reshape(len(weight), -1, block)
    scales, zeros = _grid(parts, bits, None if importance is None else importance.reshape(-1, block))
    return Blocks(_rounded(parts, scales, zeros, bits), scales[..., 0], zeros[..., 0].astype(np.uint8))


def half_quadratic(weight: Floats, bits: int, block: int) -> Blocks:
    """Zero points that a robust norm of the error likes best (HQQ: Badri and Shaji 2023), then rounded to
    integers, as kernels want them.
    """
    parts = weight.reshape(len(weight), -1, block)
    scales, zeros = _grid(parts, bits)
    beta, best = _BETA, np.inf
    found = zeros
    for _ in range(_ROUNDS):
        integers = np.clip(np.rint(parts / scales + found), 0, 2**bits - 1)
        error = parts - (integers - found) * scales
        mean = float(np.abs(error).mean())
        if mean >= best:
            break
        best, zeros = mean, found
        sparse = _shrunk(error, beta)
        found = (integers - (parts - sparse) / scales).mean(-1, keepdims=True)
        beta *= _GROWTH
    zeros = np.clip(np.rint(zeros), 0, 2**bits - 1)
    return Blocks(_rounded(parts, scales, zeros, bits), scales[..., 0], zeros[..., 0].astype(np.uint8))


def second_order(weight: Floats, hessian: Doubles, bits: int, block: int) -> Blocks:
    """Column after column is rounded, and those that follow take up the error (GPTQ: Frantar et al. 2022,
    arXiv:2210.17323). `hessian` is the sum of x x' over what the layer reads, [inputs, inputs]; its diagonal
    weighs errors where a block's range is chosen.
    """
    outputs, inputs = weight.shape
    left = weight.astype(np.float32, copy=True)
    upper = _inverse_root(hessian)
    integers = np.empty((outputs, inputs), np.uint8)
    found: list[tuple[Floats, Floats]] = []
    for start in range(0, inputs, block):
        end = start + block
        scales, zeros = _grid(left[:, start:end], bits, np.diag(hessian)[start:end])
        errors = np.empty((outputs, block), np.float32)
        for column in range(start, end):
            own = left[:, column : column + 1]
            rounded = _rounded(own, scales, zeros, bits)
            error = (own - (rounded - zeros) * scales) / upper[column, column]
            left[:, column:end] -= error @ upper[column : column + 1, column:end]
            integers[:, column : column + 1] = rounded
            errors[:, column - start] = error[:, 0]
        left[:, end:] -= errors @ upper[start:end, end:]
        found.append((scales, zeros))
    shape = (outputs, inputs // block, block)
    whole_scales, whole_zeros = (np.concatenate(one, 1) for one in zip(*found, strict=True))
    return Blocks(integers.reshape(shape), whole_scales, whole_zeros.astype(np.uint8))


def packed(integers: Bytes, bits: int) -> Bytes:
    """Along the last axis, two of 4 bits to a byte, the first in its lower half; an odd one with a zero."""
    if bits == 8:
        return integers
    even = np.pad(integers, [(0, 0)] * (integers.ndim - 1) + [(0, integers.shape[-1] % 2)])
    return np.bitwise_or(even[..., ::2], np.left_shift(even[..., 1::2], 4), dtype=np.uint8)


def _grid(parts: Floats, bits: int, importance: Doubles | None = None) -> tuple[Floats, Floats]:
    """Of the last axis: 0 is on the grid. Where there is an importance, the share of the range is taken whose
    weighted squared error is least.
    """
    low = np.minimum(parts.min(-1, keepdims=True), 0)
    high = np.maximum(parts.max(-1, keepdims=True), 0)
    scales, zeros = _between(low, high, bits)
    if importance is None:
        return scales, zeros
    weights = np.asarray(importance, np.float32)
    least = _weighted(parts, scales, zeros, bits, weights)
    for share in _SHARES:
        own = _between(share * low, share * high, bits)
        error = _weighted(parts, *own, bits, weights)
        better = error < least
        scales, zeros = (np.where(better, new, old) for new, old in zip(own, (scales, zeros), strict=True))
        least = np.minimum(error, least)
    return scales, zeros


def _between(low: Floats, high: Floats, bits: int) -> tuple[Floats, Floats]:
    extent = (high - low) / (2**bits - 1)
    scales = np.where(extent > _SMALLEST, extent, 1).astype(np.float32)
    return scales, np.rint(-low / scales).astype(np.float32)


def _weighted(parts: Floats, scales: Floats, zeros: Floats, bits: int, weights: Floats) -> Floats:
    difference = (_rounded(parts, scales, zeros, bits) - zeros) * scales - parts
    return np.asarray((np.square(difference) * weights).sum(-1, keepdims=True), np.float32)


def _rounded(parts: Floats, scales: Floats, zeros: Floats, bits: int) -> Bytes:
    integers: Bytes = np.clip(np.rint(parts / scales) + zeros, 0, 2**bits - 1).astype(np.uint8)
    return integers


def _shrunk(error: Floats, beta: float) -> Floats:
    """Generalised soft thresholding for an lp norm."""
    size = np.abs(error)
    shrunk = np.maximum(size - np.power(size + 1e-8, _NORM - 1) / beta, 0)
    return np.asarray(np.sign(error) * shrunk, np.float32)


def _inverse_root(hessian: Doubles) -> Floats:
    """Upper triangular U with U' U = H^-1. Inputs that are always zero weigh nothing."""
    damped = hessian.copy()
    diagonal = np.diag(damped)
    damped[np.diag_indices_from(damped)] += DAMPING * float(diagonal.mean()) + (diagonal == 0) + 1e-12
    return np.asarray(np.linalg.cholesky(np.linalg.inv(damped)).T, np.float32)
