"""Pools. Padding is made explicit where torch's own does not fit; a short last window of ceil_mode is padded
for.
"""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from compression.engine.graph import Node
from compression.engine.operators.convolution import CONVOLUTIONS
from compression.engine.operators.table import Kernel, ints, operator
from compression.engine.operators.windows import Windows, windows

MAX_POOLS: Mapping[int, Callable[..., Any]] = {
    1: functional.max_pool1d,
    2: functional.max_pool2d,
    3: functional.max_pool3d,
}
AVERAGE_POOLS: Mapping[int, Callable[..., Tensor]] = {
    1: functional.avg_pool1d,
    2: functional.avg_pool2d,
    3: functional.avg_pool3d,
}


def _window(node: Node, x: Tensor) -> Windows:
    return windows(node, node.ints("kernel_shape") or [], list(x.shape[2:]))


@operator("MaxPool")
def max_pool(node: Node) -> Kernel:
    with_indices = len(node.outputs) > 1

    def kernel(x: Tensor) -> Any:
        window = _window(node, x)
        y = x if x.is_floating_point() else x.to(torch.float32)
        padding: list[int] | int = 0
        if window.symmetric and _torch_pads(window):
            padding = window.half_padding
        else:
            y = window.pad(y, -torch.inf)
        pool = MAX_POOLS[len(window.kernel)]
        result = pool(
            y, window.kernel, window.strides, padding, window.dilations, return_indices=with_indices
        )
        if not with_indices:
            return result.to(x.dtype)
        values, places = result
        return values.to(x.dtype), _global_indices(places, x, window, explicit=padding == 0, node=node)

    return kernel


def _torch_pads(window: Windows) -> bool:
    return all(0 <= pad <= size // 2 for pad, size in zip(window.half_padding, window.kernel, strict=True))


def _global_indices(places: Tensor, x: Tensor, window: Windows, *, explicit: bool, node: Node) -> Tensor:
    """From positions in one padded plane to positions in the whole tensor."""
    sizes = list(x.shape[2:])
    coordinates, rest = list[Tensor](), places
    for size, (before, after), more in list(zip(sizes, window.pads, window.overhang, strict=True))[::-1]:
        extent = size + before + after + more if explicit else size
        coordinates.insert(0, rest % extent - (before if explicit else 0))
        rest = rest // extent
    order = range(len(sizes))[::-1] if node.flag("storage_order") else range(len(sizes))
    flat = torch.zeros_like(places)
    for axis in order:
        flat = flat * sizes[axis] + coordinates[axis]
    planes = torch.arange(x.shape[0] * x.shape[1], device=x.device).reshape(*x.shape[:2], *[1] * len(sizes))
    return flat + planes * torch.Size(sizes).numel()


@operator("MaxUnpool", host=(2,))
def max_unpool(node: Node) -> Kernel:
    def kernel(x: Tensor, indices: Tensor, shape: Tensor | None = None) -> Tensor:
        window = _window(node, x)
        spatial = [
            (size - 1) * stride + extent - before - after
            for size, stride, extent, (before, after) in zip(
                x.shape[2:], window.strides, window.kernel, window.pads, strict=True
            )
        ]
        sizes = torch.Size([*x.shape[:2], *spatial])
        y = x.new_zeros(sizes.numel()).scatter(0, indices.reshape(-1), x.reshape(-1)).reshape(sizes)
        if shape is None:
            return y
        return functional.pad(
            y, [n for a, b in zip(sizes[::-1], ints(shape)[::-1], strict=True) for n in (0, b - a)]
        )

    return kernel


def _window_sums(x: Tensor, window: Windows) -> Tensor:
    """Sums over the windows of a padded tensor."""
    rank, channels = len(window.kernel), x.shape[1]
    ones = x.new_ones(channels, 1, *window.kernel)
    return CONVOLUTIONS[rank](x, ones, None, window.strides, 0, window.dilations, channels)


@operator("AveragePool")
def average_pool(node: Node) -> Kernel:
    include_pad = node.flag("count_include_pad")

    def kernel(x: Tensor) -> Tensor:
        window = _window(node, x)
        if window.symmetric and _torch_pads(window) and set(window.dilations) == {1}:
            pool = AVERAGE_POOLS[len(window.kernel)]
            return pool(x, window.kernel, window.strides, window.half_padding, count_include_pad=include_pad)
        mask = torch.ones_like(x[:1, :1])
        if include_pad:
            mask = window.pad(mask, 1, overhang=False)
            mask = functional.pad(mask, [n for more in reversed(window.overhang) for n in (0, more)])
        else:
            mask = window.pad(mask)
        return _window_sums(window.pad(x), window) / _window_sums(mask, window)

    return kernel


@operator("LpPool")
def lp_pool(node: Node) -> Kernel:
    p = node.integer("p", 2)

    def kernel(x: Tensor) -> Tensor:
        window = _window(node, x)
        return _window_sums(window.pad(x.abs() ** p), window) ** (1 / p)

    return kernel


@operator("GlobalAveragePool")
def global_average_pool(_node: Node) -> Kernel:
    return lambda x: x.mean(list(range(2, x.dim())), keepdim=True)


@operator("GlobalMaxPool")
def global_max_pool(_node: Node) -> Kernel:
    return lambda x: x.amax(list(range(2, x.dim())), keepdim=True)


@operator("GlobalLpPool")
def global_lp_pool(node: Node) -> Kernel:
    p = node.integer("p", 2)
    return lambda x: torch.linalg.vector_norm(x, p, dim=list(range(2, x.dim())), keepdim=True)
