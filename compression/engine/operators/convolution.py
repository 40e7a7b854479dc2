"""Convolutions."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from compression.engine.graph import Node
from compression.engine.operators.linear import centred
from compression.engine.operators.table import Kernel, operator
from compression.engine.operators.windows import halves, windows

CONVOLUTIONS: Mapping[int, Callable[..., Tensor]] = {
    1: functional.conv1d,
    2: functional.conv2d,
    3: functional.conv3d,
}
TRANSPOSED: Mapping[int, Callable[..., Tensor]] = {
    1: functional.conv_transpose1d,
    2: functional.conv_transpose2d,
    3: functional.conv_transpose3d,
}


@operator("Conv")
def conv(node: Node) -> Kernel:
    groups, pads = node.integer("group", 1), node.ints("pads") or []
    half = pads[: len(pads) // 2]
    if node.text("auto_pad", "NOTSET") == "NOTSET" and pads and half == pads[len(half) :]:
        convolve = CONVOLUTIONS[len(half)]
        strides, dilations = node.ints("strides") or 1, node.ints("dilations") or 1
        return lambda x, weight, bias=None: convolve(x, weight, bias, strides, half, dilations, groups)

    def kernel(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        window = windows(node, list(weight.shape[2:]), list(x.shape[2:]))
        convolve = CONVOLUTIONS[weight.dim() - 2]
        if not window.symmetric:
            return convolve(window.pad(x), weight, bias, window.strides, 0, window.dilations, groups)
        return convolve(x, weight, bias, window.strides, window.half_padding, window.dilations, groups)

    return kernel


@operator("ConvInteger")
def conv_integer(node: Node) -> Kernel:
    """Exact in float64: products of bytes."""
    convolve = conv(node)

    def kernel(
        x: Tensor, weight: Tensor, x_zero: Tensor | None = None, w_zero: Tensor | None = None
    ) -> Tensor:
        y: Tensor = convolve(centred(x, x_zero, 0).double(), centred(weight, w_zero, 0).double())
        return y.round().to(torch.int32)

    return kernel


@operator("ConvTranspose")
def conv_transpose(node: Node) -> Kernel:
    groups = node.integer("group", 1)

    def kernel(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        axes = [
            _Axis(node, d, x.shape[2 + d], weight.shape[2 + d], weight.dim() - 2)
            for d in range(weight.dim() - 2)
        ]
        transposed = TRANSPOSED[len(axes)]
        strides, dilations = [axis.stride for axis in axes], [axis.dilation for axis in axes]
        if all(axis.simple for axis in axes):
            padding, extra = [axis.before for axis in axes], [axis.extra for axis in axes]
            return transposed(x, weight, bias, strides, padding, extra, groups, dilations)
        full = transposed(x, weight, None, strides, 0, 0, groups, dilations)
        for dim, axis in enumerate(axes, start=2):
            full = axis.crop(full, dim)
        return full if bias is None else full + bias.reshape(-1, *[1] * len(axes))

    return kernel


class _Axis:
    """One spatial axis: which part of the full output is kept."""

    def __init__(self, node: Node, index: int, size: int, kernel: int, rank: int) -> None:
        def at(name: str, default: int) -> int:
            values = node.ints(name)
            return values[index] if values else default

        self.stride, self.dilation, self.extra = at("strides", 1), at("dilations", 1), at("output_padding", 0)
        pads, mode = node.ints("pads") or [0] * (2 * rank), node.text("auto_pad", "NOTSET")
        self.before, self.after = pads[index], pads[index + rank]
        reach = self.dilation * (kernel - 1) + 1
        full = self.stride * (size - 1) + reach
        self.count = full + self.extra - self.before - self.after
        wanted = node.ints("output_shape")
        if wanted:
            self._fit(wanted[-rank:][index], full, mode)
        elif mode.startswith("SAME"):
            self._fit(min(size * self.stride, full + self.extra), full, mode)
        fits = self.count == full + self.extra - self.before - self.after
        self.simple = fits and self.before == self.after and self.extra < max(self.stride, self.dilation)

    def _fit(self, count: int, full: int, mode: str) -> None:
        """Pads that give this many outputs."""
        total = max(full + self.extra - count, 0)
        self.before, self.after = halves(total, mode)
        self.count = count

    def crop(self, full: Tensor, dim: int) -> Tensor:
        kept = full.narrow(dim, self.before, min(self.count, full.shape[dim] - self.before))
        missing = self.count - kept.shape[dim]
        if not missing:
            return kept
        return functional.pad(kept, [0, 0] * (full.dim() - 1 - dim) + [0, missing])


@operator("Col2Im", host=(1, 2))
def col2im(node: Node) -> Kernel:
    """Adds every block to where it was cut from, for any number of axes."""

    def kernel(x: Tensor, image: Tensor, block: Tensor) -> Tensor:
        sizes, kernel_sizes = [int(i) for i in image.tolist()], [int(i) for i in block.tolist()]
        places, padded, window = _places(node, kernel_sizes, sizes, x.device)
        channels = x.shape[1] // places.shape[0]
        blocks = x.reshape(x.shape[0], channels, -1)
        flat = x.new_zeros(x.shape[0], channels, padded.numel())
        y = flat.index_add(2, places.reshape(-1), blocks).reshape(x.shape[0], channels, *padded.shape)
        for dim, (before, _) in enumerate(window, start=2):
            y = y.narrow(dim, before, sizes[dim - 2])
        return y

    return kernel


def _places(
    node: Node, kernel: list[int], sizes: list[int], device: torch.device
) -> tuple[Tensor, Tensor, Any]:
    """Positions in the padded image, [elements of a block, blocks]."""
    window = windows(node, kernel, sizes)
    shape = [size + sum(pads) for size, pads in zip(sizes, window.pads, strict=True)]
    positions = torch.arange(torch.Size(shape).numel(), device=device).reshape(shape)
    unfolded = positions
    for dim, (size, stride, dilation) in enumerate(
        zip(kernel, window.strides, window.dilations, strict=True)
    ):
        unfolded = unfolded.unfold(dim, dilation * (size - 1) + 1, stride)[..., ::dilation]
    rank = len(kernel)
    order = [*range(rank, 2 * rank), *range(rank)]
    count = torch.Size(kernel).numel()
    return unfolded.permute(order).reshape(count, -1), positions, window.pads
