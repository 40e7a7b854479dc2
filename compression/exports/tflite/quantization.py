"""Scales and zero points of QuantizeLinear and DequantizeLinear, as TFLite has them: always in int8."""

from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import onnx

from compression.dataset import Array
from compression.graph import walk
from compression.graph.index import Index

_UNSIGNED = 128
"""A code of uint8 less this is the same code in int8."""


@dataclass(frozen=True, eq=False)
class Quantization:
    """real = (code - zero_point) * scale."""

    scales: Array
    """float32, one, or one for each slice of `axis`."""
    zero_point: int
    axis: int = 0

    @classmethod
    def of(cls, scale: float, zero_point: int) -> Self:
        return cls(np.array([scale], np.float32), zero_point)

    def same(self, other: "Quantization") -> bool:
        return self.zero_point == other.zero_point and np.array_equal(self.scales, other.scales)

    def along(self, axis: int) -> "Quantization":
        """The same scales where the axis went elsewhere."""
        return Quantization(self.scales, self.zero_point, axis)


def read(node: onnx.NodeProto, index: Index) -> Quantization | None:
    """Of a QuantizeLinear or DequantizeLinear of 8 bits, in int8; None of any other, and of blocks."""
    scale, zero_point = index.constant(node.input[1]), _zero_point(node, index)
    if scale is None or zero_point is None or scale.ndim > 1 or scale.dtype != np.float32:
        return None
    if zero_point.dtype not in (np.uint8, np.int8) or np.unique(zero_point).size != 1:
        return None
    point = int(zero_point.reshape(-1)[0]) - (_UNSIGNED if zero_point.dtype == np.uint8 else 0)
    return Quantization(scale.reshape(-1), point, _axis(node) if scale.ndim else 0)


def codes(array: Array) -> Array:
    """Codes of uint8 or int8 as int8."""
    if array.dtype == np.uint8:
        return (array.astype(np.int16) - _UNSIGNED).astype(np.int8)
    return array


def dequantized(node: onnx.NodeProto, index: Index) -> Array | None:
    """What a DequantizeLinear of a constant gives, also of the int32 of a bias; None of anything else."""
    stored, scale, zero_point = (
        index.constant(node.input[0]),
        index.constant(node.input[1]),
        _zero_point(node, index),
    )
    if stored is None or scale is None or zero_point is None or scale.ndim > 1:
        return None
    shape = [1] * stored.ndim
    if scale.ndim and stored.ndim:
        shape[_axis(node)] = scale.size
    offset, step = (
        np.broadcast_to(part, scale.shape).reshape(shape).astype(np.float64) for part in (zero_point, scale)
    )
    return ((stored - offset) * step).astype(np.float32)


def _zero_point(node: onnx.NodeProto, index: Index) -> Array | None:
    if len(node.input) > 2 and node.input[2]:
        return index.constant(node.input[2])
    stored = index.constant(node.input[0])
    return np.zeros(1, np.uint8 if stored is None else stored.dtype)


def _axis(node: onnx.NodeProto) -> int:
    axis: Any = walk.attribute(node, "axis", 1)
    return int(axis)
