"""Resampling: Resize as one interpolation matrix per axis, with torch's own where it computes the same;
grids; regions.
"""

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from compression.engine.graph import Node
from compression.engine.operators.table import Kernel, ints, operator


@dataclass(frozen=True)
class Axis:
    """How one axis is resampled: to `count` elements, `scale` times as many as before (before rounding)."""

    dim: int
    size: int
    count: int
    scale: float
    roi: tuple[float, float] | None = None

    @property
    def trivial(self) -> bool:
        return self.count == self.size and self.scale == 1 and self.roi is None


@operator("Resize", host=(1, 2, 3))
def resize(node: Node) -> Kernel:
    def kernel(x: Tensor, *operands: Tensor | None) -> Tensor:
        given = (None, *operands) if node.opset < 11 else operands
        roi, scales, sizes = (*given, None, None, None)[:3]
        return resample(node, x, axes_of(node, x, roi, scales, sizes))

    return kernel


@operator("Upsample", host=(1,))
def upsample(node: Node) -> Kernel:
    fixed = node.attributes.get("scales")

    def kernel(x: Tensor, scales: Tensor | None = None) -> Tensor:
        given = torch.tensor(fixed) if scales is None else scales
        return resample(node, x, axes_of(node, x, None, given, None))

    return kernel


def axes_of(
    node: Node, x: Tensor, roi: Tensor | None, scales: Tensor | None, sizes: Tensor | None
) -> list[Axis]:
    dims = [dim % x.dim() for dim in node.ints("axes") or range(x.dim())]
    regions: list[Any] = [None] * len(dims)
    if coordinates(node) == "tf_crop_and_resize" and roi is not None:
        bounds = roi.tolist()
        regions = list(zip(bounds[: len(dims)], bounds[len(dims) :], strict=True))
    if scales is not None and scales.numel():
        factors = scales.tolist()
        counts = [math.floor(x.shape[dim] * factor) for dim, factor in zip(dims, factors, strict=True)]
    else:
        counts = ints(sizes if sizes is not None else [])
        factors, counts = _fitted(node, [x.shape[dim] for dim in dims], counts)
    columns = zip(dims, counts, factors, regions, strict=True)
    return [Axis(dim, x.shape[dim], count, factor, region) for dim, count, factor, region in columns]


def _fitted(node: Node, before: list[int], counts: list[int]) -> tuple[list[float], list[int]]:
    factors = [count / size for count, size in zip(counts, before, strict=True)]
    policy = node.text("keep_aspect_ratio_policy", "stretch")
    if policy == "stretch":
        return factors, counts
    factor = min(factors) if policy == "not_larger" else max(factors)
    return [factor] * len(before), [math.floor(size * factor + 0.5) for size in before]


def coordinates(node: Node) -> str:
    default = "half_pixel" if node.opset >= 11 and node.op_type == "Resize" else "asymmetric"
    return node.text("coordinate_transformation_mode", default)


def resample(node: Node, x: Tensor, axes: list[Axis]) -> Tensor:
    fast = _by_torch(node, x, axes)
    if fast is not None:
        return fast
    for axis in axes:
        if axis.trivial:
            continue
        if node.text("mode", "nearest") == "nearest" and axis.roi is None:
            x = x.index_select(axis.dim, _nearest(node, axis).to(x.device))
        else:
            x = _interpolated(node, x, axis)
    return x


def _by_torch(node: Node, x: Tensor, axes: list[Axis]) -> Tensor | None:
    """F.interpolate on images whose size is the scale's exactly."""
    spatial = [axis for axis in axes if axis.dim >= 2]
    exact = all(math.isclose(axis.count, axis.size * axis.scale, rel_tol=1e-6) for axis in spatial)
    leading = all(axis.trivial for axis in axes if axis.dim < 2)
    if x.dim() != 4 or len(spatial) != 2 or not (exact and leading and x.is_floating_point()):
        return None
    size, how = [axis.count for axis in spatial], (node.text("mode", "nearest"), coordinates(node))
    if how == ("nearest", "asymmetric") and _rounding(node) == "floor":
        return functional.interpolate(x, size, mode="nearest")
    if how[0] != "linear" or node.flag("antialias") or node.flag("exclude_outside"):
        return None
    if how[1] in {"half_pixel", "align_corners"}:
        return functional.interpolate(x, size, mode="bilinear", align_corners=how[1] == "align_corners")
    return None


def _rounding(node: Node) -> str:
    default = "round_prefer_floor" if node.opset >= 11 and node.op_type == "Resize" else "floor"
    return node.text("nearest_mode", default)


def positions(node: Node, axis: Axis) -> Tensor:
    """Where each output element lies among the input's: in float64, for the nearest in float32, which breaks
    ties.

    align_corners goes by the whole number of output elements, as ONNX Runtime does; the reference
    implementation by the product of size and scale.
    """
    nearest = node.text("mode", "nearest") == "nearest"
    x = torch.arange(axis.count, dtype=torch.float32 if nearest else torch.float64)
    width = axis.scale * axis.size
    mode = coordinates(node)
    if mode == "align_corners":
        return x * (axis.size - 1) / max(axis.count - 1, 1)
    if mode == "asymmetric":
        return x / axis.scale
    if mode == "tf_crop_and_resize" and axis.roi is not None:
        start, end = axis.roi
        step = (end - start) * (axis.size - 1)
        return (x * step / (width - 1) if width != 1 else step / 2 + 0 * x) + start * (axis.size - 1)
    if mode == "pytorch_half_pixel" and axis.count == 1:
        return torch.zeros_like(x)
    offset = axis.size / 2 * (1 - axis.count / width) if mode == "half_pixel_symmetric" else 0.0
    return offset + (x + 0.5) / axis.scale - 0.5


def _nearest(node: Node, axis: Axis) -> Tensor:
    x = positions(node, axis)
    rounded = {
        "round_prefer_floor": torch.ceil(x - 0.5),
        "round_prefer_ceil": torch.floor(x + 0.5),
        "floor": torch.floor(x),
        "ceil": torch.ceil(x),
    }[_rounding(node)]
    return rounded.to(torch.int64).clamp(0, axis.size - 1)


def _interpolated(node: Node, x: Tensor, axis: Axis) -> Tensor:
    matrix = _matrix(node, axis).to(
        device=x.device, dtype=x.dtype if x.is_floating_point() else torch.float32
    )
    y = (x.to(matrix.dtype).movedim(axis.dim, -1) @ matrix.t()).movedim(-1, axis.dim)
    if axis.roi is not None:
        place = positions(node, axis)
        outside = ((place < 0) | (place > axis.size - 1)).to(x.device)
        shape = [-1 if dim == axis.dim else 1 for dim in range(x.dim())]
        y = torch.where(outside.reshape(shape), node.number("extrapolation_value"), y)
    return y if x.is_floating_point() else y.round().to(x.dtype)


def _matrix(node: Node, axis: Axis) -> Tensor:
    """[count, size]: each row the weights of one output element; what lies outside falls to the edge."""
    place = positions(node, axis)
    if node.text("mode", "nearest") == "nearest":
        return functional.one_hot(_nearest(node, axis), axis.size).double()
    cubic = node.text("mode") == "cubic"
    stretch = min(axis.scale, 1.0) if node.flag("antialias") else 1.0
    reach = math.ceil((2 if cubic else 1) / stretch) + 1
    taps = torch.floor(place)[:, None] + torch.arange(-reach, reach + 1, dtype=torch.float64)
    distance = (taps - place[:, None]).abs() * stretch
    weights = _cubic(distance, node.number("cubic_coeff_a", -0.75)) if cubic else (1 - distance).clamp(min=0)
    if node.flag("exclude_outside"):
        weights = weights * ((taps >= 0) & (taps < axis.size))
    weights = weights / weights.sum(1, keepdim=True)
    index = taps.to(torch.int64).clamp(0, axis.size - 1)
    return torch.zeros(axis.count, axis.size, dtype=torch.float64).scatter_add(1, index, weights)


def _cubic(t: Tensor, a: float) -> Tensor:
    """Keys' kernel."""
    near = ((a + 2) * t - (a + 3)) * t * t + 1
    far = a * (((t - 5) * t + 8) * t - 4)
    return torch.where(t <= 1, near, torch.where(t < 2, far, 0))
