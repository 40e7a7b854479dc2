"""Operators that pick or place elements by index. Negative indices count from the end."""

import torch
from torch import Tensor

from compression.engine.graph import Node
from compression.engine.operators.table import Kernel, ints, operator, scalar


def positive(indices: Tensor, size: int) -> Tensor:
    indices = indices.to(torch.int64)
    return torch.where(indices < 0, indices + size, indices)


@operator("Gather")
def gather(node: Node) -> Kernel:
    axis, single = node.integer("axis"), scalar(node, 1)
    if single is not None and node.constants[1].dim() == 0:
        return lambda x, _: x.select(axis, int(single))

    def kernel(x: Tensor, indices: Tensor) -> Tensor:
        dim = axis % x.dim()
        picked = x.index_select(dim, positive(indices, x.shape[dim]).reshape(-1))
        return picked.reshape(x.shape[:dim] + indices.shape + x.shape[dim + 1 :])

    return kernel


@operator("GatherElements")
def gather_elements(node: Node) -> Kernel:
    axis = node.integer("axis")
    return lambda x, indices: x.gather(axis, positive(indices, x.shape[axis]))


@operator("GatherND")
def gather_nd(node: Node) -> Kernel:
    batch = node.integer("batch_dims")

    def kernel(x: Tensor, indices: Tensor) -> Tensor:
        index = tuple(positive(part, x.shape[batch + n]) for n, part in enumerate(indices.unbind(-1)))
        inner = indices.dim() - 1 - batch
        leading = tuple(
            torch.arange(x.shape[d], device=x.device).reshape(
                [-1 if e == d else 1 for e in range(batch)] + [1] * inner
            )
            for d in range(batch)
        )
        return x[leading + index]

    return kernel


def slice_along(x: Tensor, dim: int, start: int, end: int, step: int) -> Tensor:
    """Like x[start:end:step] along one axis; backwards, a start before the first element is the first."""
    if step > 0:
        return x[(slice(None),) * dim + (slice(start, end, step),)]
    length = x.shape[dim]
    first = min(max(start + length if start < 0 else start, 0), length - 1)
    last = min(max(end + length if end < 0 else end, -1), length - 1)
    return x.index_select(dim, torch.tensor(range(first, last, step), dtype=torch.int64, device=x.device))


@operator("Slice", host=(1, 2, 3, 4))
def slice_(node: Node) -> Kernel:
    """Bounds are attributes before opset 10."""

    def kernel(x: Tensor, *bounds: Tensor | None) -> Tensor:
        starts, ends, axes, steps = (
            None if b is None else ints(b) for b in (*bounds, None, None, None, None)[:4]
        )
        if starts is None or ends is None:
            starts, ends, axes = node.ints("starts") or [], node.ints("ends") or [], node.ints("axes")
        dims = range(len(starts)) if axes is None else [axis % x.dim() for axis in axes]
        for dim, start, end, step in zip(dims, starts, ends, steps or [1] * len(starts), strict=True):
            x = slice_along(x, dim, start, end, step)
        return x

    return kernel


REDUCE = {"add": "sum", "mul": "prod", "max": "amax", "min": "amin"}


@operator("ScatterElements", "Scatter")
def scatter_elements(node: Node) -> Kernel:
    axis, reduction = node.integer("axis"), node.text("reduction", "none")

    def kernel(x: Tensor, indices: Tensor, updates: Tensor) -> Tensor:
        index = positive(indices, x.shape[axis])
        if reduction == "none":
            return x.scatter(axis, index, updates)
        return x.scatter_reduce(axis, index, updates, REDUCE[reduction])

    return kernel


@operator("ScatterND")
def scatter_nd(node: Node) -> Kernel:
    reduction = node.text("reduction", "none")

    def kernel(x: Tensor, indices: Tensor, updates: Tensor) -> Tensor:
        index = tuple(positive(part, x.shape[n]) for n, part in enumerate(indices.unbind(-1)))
        if reduction in {"none", "add"}:
            return x.index_put(index, updates, accumulate=reduction == "add")
        rows = torch.arange(x.numel(), device=x.device).reshape(x.shape)[index]
        flat = x.reshape(-1).scatter_reduce(0, rows.reshape(-1), updates.reshape(-1), REDUCE[reduction])
        return flat.reshape(x.shape)

    return kernel


@operator("TensorScatter")
def tensor_scatter(node: Node) -> Kernel:
    axis, circular = node.integer("axis", -2), node.text("mode", "linear") == "circular"

    def kernel(past: Tensor, update: Tensor, start: Tensor | None = None) -> Tensor:
        dim = axis % past.dim()
        first = torch.zeros(past.shape[0], dtype=torch.int64) if start is None else start.to(torch.int64)
        steps = torch.arange(update.shape[dim], device=past.device)
        places = first.to(past.device)[:, None] + steps
        places = places % past.shape[dim] if circular else places
        shape = [past.shape[0] if d == 0 else update.shape[dim] if d == dim else 1 for d in range(past.dim())]
        return past.scatter(dim, places.reshape(shape).expand(update.shape), update)

    return kernel


@operator("OneHot", host=(1,))
def one_hot(node: Node) -> Kernel:
    axis = node.integer("axis", -1)

    def kernel(indices: Tensor, depth: Tensor, values: Tensor) -> Tensor:
        count = int(depth.item())
        index = indices.to(torch.int64)
        hot = index.remainder(count).unsqueeze(axis)
        inside = ((index >= -count) & (index < count)).unsqueeze(axis)
        dim = axis % hot.dim()
        classes = torch.arange(count, device=index.device).reshape(
            [-1 if d == dim else 1 for d in range(hot.dim())]
        )
        off, on = values.unbind()
        return torch.where((classes == hot) & inside, on, off)

    return kernel


@operator("Compress")
def compress(node: Node) -> Kernel:
    axis = node.attributes.get("axis")

    def kernel(x: Tensor, condition: Tensor) -> Tensor:
        x, dim = (x.reshape(-1), 0) if axis is None else (x, axis)
        return x.index_select(dim, condition.nonzero().reshape(-1))

    return kernel


@operator("NonZero")
def nonzero(_node: Node) -> Kernel:
    return lambda x: (x.reshape(1) if x.dim() == 0 else x).nonzero().t()[: x.dim()]


@operator("Unique")
def unique(node: Node) -> Kernel:
    axis, ordered = node.attributes.get("axis"), node.flag("sorted", 1)

    def kernel(x: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        x, dim = (x.reshape(-1), 0) if axis is None else (x, axis)
        values, inverse, counts = torch.unique(
            x, dim=dim, sorted=True, return_inverse=True, return_counts=True
        )
        first = torch.full((len(counts),), len(inverse), dtype=torch.int64, device=x.device)
        first = first.scatter_reduce(0, inverse, torch.arange(len(inverse), device=x.device), "amin")
        if not ordered:
            order = first.argsort()
            values, first, counts = values.index_select(dim, order), first[order], counts[order]
            inverse = order.argsort()[inverse]
        return values, first, inverse, counts

    return kernel
