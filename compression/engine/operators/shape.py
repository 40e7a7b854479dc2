"""Operators that move elements or tell sizes. Sizes are int64 tensors on the host."""

import math

import torch
from torch import Tensor

from compression.engine.graph import Node
from compression.engine.operators.table import Kernel, ints, operator


@operator("Identity")
def identity(_node: Node) -> Kernel:
    return lambda x: x


@operator("Reshape", host=(1,))
def reshape(node: Node) -> Kernel:
    allow_zero = node.flag("allowzero")
    constant = node.constants.get(1)
    fixed = None if constant is None else ints(constant)

    def kernel(x: Tensor, shape: Tensor) -> Tensor:
        sizes = fixed if fixed is not None else ints(shape)
        if 0 in sizes and not allow_zero:
            sizes = [size or x.shape[axis] for axis, size in enumerate(sizes)]
        return x.reshape(sizes)

    return kernel


@operator("Flatten")
def flatten(node: Node) -> Kernel:
    axis = node.integer("axis", 1)

    def kernel(x: Tensor) -> Tensor:
        rows = math.prod(x.shape[:axis])
        return x.reshape(rows, x.numel() // rows if rows else 0)

    return kernel


@operator("Transpose")
def transpose(node: Node) -> Kernel:
    order = node.ints("perm")
    return lambda x: x.permute(order if order is not None else list(range(x.dim()))[::-1])


@operator("Squeeze", host=(1,))
def squeeze(node: Node) -> Kernel:
    fixed = node.ints("axes")

    def kernel(x: Tensor, axes: Tensor | None = None) -> Tensor:
        dims = fixed if axes is None else ints(axes)
        return x.squeeze() if dims is None else x.squeeze(dims)

    return kernel


@operator("Unsqueeze", host=(1,))
def unsqueeze(node: Node) -> Kernel:
    fixed = node.ints("axes")

    def kernel(x: Tensor, axes: Tensor | None = None) -> Tensor:
        dims = ints(axes) if axes is not None else fixed or []
        rank = x.dim() + len(dims)
        for dim in sorted(d % rank for d in dims):
            x = x.unsqueeze(dim)
        return x

    return kernel


@operator("Concat")
def concat(node: Node) -> Kernel:
    axis = node.integer("axis", 1)
    return lambda *tensors: torch.cat(tensors, axis)


@operator("Split", host=(1,))
def split(node: Node) -> Kernel:
    axis, fixed, count = node.integer("axis"), node.ints("split"), len(node.outputs)

    def kernel(x: Tensor, sizes: Tensor | None = None) -> tuple[Tensor, ...]:
        parts = fixed if sizes is None else ints(sizes)
        if parts is None:
            step = -(-x.shape[axis] // count)
            parts = [min(step, max(0, x.shape[axis] - step * index)) for index in range(count)]
        return torch.split(x, parts, axis)

    return kernel


@operator("Expand", host=(1,))
def expand(_node: Node) -> Kernel:
    return lambda x, shape: x.expand(_broadcast(list(x.shape), ints(shape)))


def _broadcast(one: list[int], other: list[int]) -> list[int]:
    rank = max(len(one), len(other))
    pairs = zip([1] * (rank - len(one)) + one, [1] * (rank - len(other)) + other, strict=True)
    return [b if a == 1 else a for a, b in pairs]


@operator("Tile", host=(1,))
def tile(_node: Node) -> Kernel:
    return lambda x, repeats: x.repeat(ints(repeats)) if x.dim() else x


@operator("Shape")
def shape_of(node: Node) -> Kernel:
    start, end = node.integer("start"), node.attributes.get("end")
    return lambda x: torch.tensor(list(x.shape)[slice(start, end)], dtype=torch.int64)


@operator("Size")
def size(_node: Node) -> Kernel:
    return lambda x: torch.tensor(x.numel(), dtype=torch.int64)


@operator("DepthToSpace")
def depth_to_space(node: Node) -> Kernel:
    block, depth_first = node.integer("blocksize"), node.text("mode", "DCR") == "DCR"

    def kernel(x: Tensor) -> Tensor:
        n, c, h, w = x.shape
        if depth_first:
            y = x.reshape(n, block, block, c // block**2, h, w).permute(0, 3, 4, 1, 5, 2)
        else:
            y = x.reshape(n, c // block**2, block, block, h, w).permute(0, 1, 4, 2, 5, 3)
        return y.reshape(n, c // block**2, h * block, w * block)

    return kernel


@operator("SpaceToDepth")
def space_to_depth(node: Node) -> Kernel:
    block, depth_first = node.integer("blocksize"), node.text("mode", "DCR") == "DCR"

    def kernel(x: Tensor) -> Tensor:
        n, c, h, w = x.shape
        y = x.reshape(n, c, h // block, block, w // block, block)
        y = y.permute(0, 3, 5, 1, 2, 4) if depth_first else y.permute(0, 1, 3, 5, 2, 4)
        return y.reshape(n, c * block**2, h // block, w // block)

    return kernel


@operator("Pad", host=(1, 3))
def pad(node: Node) -> Kernel:
    """Pads may be negative, and cut then."""
    mode, fixed = node.text("mode", "constant"), node.ints("pads")
    fixed_value = node.number("value")

    def kernel(
        x: Tensor, pads: Tensor | None = None, value: Tensor | None = None, axes: Tensor | None = None
    ) -> Tensor:
        amounts = fixed if pads is None else ints(pads)
        dims = list(range(x.dim())) if axes is None else [d % x.dim() for d in ints(axes)]
        pairs = list(zip(dims, amounts or [], (amounts or [])[len(dims) :], strict=False))
        if mode == "constant":
            return _pad_constant(x, pairs, fixed_value if value is None else value.item())
        for dim, before, after in pairs:
            x = _pad_indexed(x, dim, (before, after), mode)
        return x

    return kernel


def _pad_constant(x: Tensor, pairs: list[tuple[int, int, int]], value: float) -> Tensor:
    amounts = [0] * (2 * x.dim())
    for dim, before, after in pairs:
        amounts[2 * (x.dim() - 1 - dim)] = before
        amounts[2 * (x.dim() - 1 - dim) + 1] = after
    if x.dtype == torch.bool:
        return torch.nn.functional.pad(x.to(torch.uint8), amounts, value=int(value)).to(torch.bool)
    return torch.nn.functional.pad(x, amounts, value=value)


def _pad_indexed(x: Tensor, dim: int, amounts: tuple[int, int], mode: str) -> Tensor:
    """Reflect, edge and wrap: a choice of positions along one axis."""
    before, after = amounts
    if before == after == 0:
        return x
    length = x.shape[dim]
    positions = torch.arange(-before, length + after, device=x.device)
    if mode == "edge":
        positions = positions.clamp(0, length - 1)
    elif mode == "wrap":
        positions = positions.remainder(length)
    else:
        period = max(2 * (length - 1), 1)
        positions = positions.remainder(period)
        positions = torch.minimum(positions, period - positions) if length > 1 else positions * 0
    return x.index_select(dim, positions)


@operator("CenterCropPad", host=(1,))
def center_crop_pad(node: Node) -> Kernel:
    fixed = node.ints("axes")

    def kernel(x: Tensor, shape: Tensor) -> Tensor:
        dims = list(range(x.dim())) if fixed is None else [d % x.dim() for d in fixed]
        for dim, target in zip(dims, ints(shape), strict=True):
            surplus = x.shape[dim] - target
            if surplus > 0:
                x = x.narrow(dim, surplus // 2, target)
            elif surplus < 0:
                before = -surplus // 2
                x = _pad_constant(x, [(dim, before, -surplus - before)], 0)
        return x

    return kernel


@operator("Trilu", host=(1,))
def trilu(node: Node) -> Kernel:
    function = torch.triu if node.flag("upper", 1) else torch.tril
    return lambda x, k=None: function(x, 0 if k is None else int(k.item()))


@operator("ReverseSequence", host=())
def reverse_sequence(node: Node) -> Kernel:
    time, batch = node.integer("time_axis"), node.integer("batch_axis", 1)

    def kernel(x: Tensor, lengths: Tensor) -> Tensor:
        y = x.movedim((batch, time), (0, 1))
        steps = torch.arange(y.shape[1], device=x.device)[None]
        length = lengths[:, None].to(x.device)
        index = torch.where(steps < length, length - 1 - steps, steps)
        rows = torch.arange(y.shape[0], device=x.device)[:, None]
        return y[rows, index].movedim((0, 1), (batch, time))

    return kernel
