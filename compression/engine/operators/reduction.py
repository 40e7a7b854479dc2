"""Reductions. Axes are an attribute before opset 18 (ReduceSum 13), an input since."""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from compression.engine.graph import Node
from compression.engine.operators.arithmetic import UNSIGNED
from compression.engine.operators.table import Kernel, ints, operator

Reduction = Callable[[Tensor, list[int], bool], Tensor]


def _prod(x: Tensor, dims: list[int], keepdim: bool) -> Tensor:
    for dim in sorted((d % x.dim() for d in dims), reverse=True):
        x = x.prod(dim, keepdim=keepdim)
    return x


def _log_sum_exp(x: Tensor, dims: list[int], keepdim: bool) -> Tensor:
    return torch.logsumexp(x if x.is_floating_point() else x.double(), dims, keepdim)


def _extreme(function: Callable[..., Tensor], lowest: bool) -> Reduction:
    """Of an empty set: the largest value of the type, or the smallest."""

    def reduction(x: Tensor, dims: list[int], keepdim: bool) -> Tensor:
        if x.numel():
            wide = x.to(torch.uint8) if x.dtype == torch.bool else x
            return function(wide, dims, keepdim).to(x.dtype)
        return torch.full_like(x.sum(dims, keepdim=keepdim), _identity(x.dtype, lowest), dtype=x.dtype)

    return reduction


def _identity(dtype: torch.dtype, lowest: bool) -> float:
    if dtype.is_floating_point:
        return torch.inf if lowest else -torch.inf
    if dtype == torch.bool:
        return lowest
    info = torch.iinfo(dtype)
    return info.max if lowest else info.min


REDUCTIONS: Mapping[str, Reduction] = {
    "ReduceL1": lambda x, dims, keepdim: x.abs().sum(dims, keepdim=keepdim),
    "ReduceL2": lambda x, dims, keepdim: (x * x).sum(dims, keepdim=keepdim).sqrt(),
    "ReduceLogSum": lambda x, dims, keepdim: x.sum(dims, keepdim=keepdim).log(),
    "ReduceLogSumExp": _log_sum_exp,
    "ReduceMax": _extreme(torch.amax, lowest=False),
    "ReduceMean": lambda x, dims, keepdim: x.mean(dims, keepdim=keepdim),
    "ReduceMin": _extreme(torch.amin, lowest=True),
    "ReduceProd": _prod,
    "ReduceSum": lambda x, dims, keepdim: x.sum(dims, keepdim=keepdim),
    "ReduceSumSquare": lambda x, dims, keepdim: (x * x).sum(dims, keepdim=keepdim),
}


@operator(*REDUCTIONS, host=(1,))
def reduce(node: Node) -> Kernel:
    reduction, fixed = REDUCTIONS[node.op_type], node.ints("axes")
    keepdim, nothing = node.flag("keepdims", 1), node.flag("noop_with_empty_axes")

    def kernel(x: Tensor, axes: Tensor | None = None) -> Tensor:
        dims = fixed if axes is None else ints(axes)
        wide = x.to(torch.int64) if x.dtype in UNSIGNED else x
        if not dims:
            dims = [] if nothing else list(range(x.dim()))
        if not dims:
            return _elementwise(node.op_type, wide).to(x.dtype)
        return reduction(wide, dims, keepdim).to(x.dtype)

    return kernel


def _elementwise(name: str, x: Tensor) -> Tensor:
    """Reducing over no axes leaves the element's own share."""
    reduction = REDUCTIONS[name]
    return reduction(x.unsqueeze(-1), [-1], False)


@operator("ArgMax", "ArgMin")
def arg_extreme(node: Node) -> Kernel:
    function = torch.argmax if node.op_type == "ArgMax" else torch.argmin
    axis, keepdim, last = node.integer("axis"), node.flag("keepdims", 1), node.flag("select_last_index")

    def kernel(x: Tensor) -> Tensor:
        if not last:
            return function(x, axis, keepdim=keepdim)
        return x.shape[axis] - 1 - function(x.flip(axis), axis, keepdim=keepdim)

    return kernel


@operator("LpNormalization")
def lp_normalization(node: Node) -> Kernel:
    axis, p = node.integer("axis", -1), node.integer("p", 2)

    def kernel(x: Tensor) -> Tensor:
        norm = torch.linalg.vector_norm(x, p, dim=axis, keepdim=True)
        return torch.where(norm == 0, 0, x / norm)

    return kernel


@operator("TopK", host=(1,))
def topk(node: Node) -> Kernel:
    """Of equal values the first comes first."""
    axis, largest = node.integer("axis", -1), node.flag("largest", 1)

    def kernel(x: Tensor, k: Tensor) -> tuple[Tensor, Tensor]:
        wide = x.to(torch.int64) if x.dtype in UNSIGNED else x
        values, indices = torch.sort(wide, dim=axis, descending=largest, stable=True)
        count = int(k.item())
        return values.narrow(axis, 0, count).to(x.dtype), indices.narrow(axis, 0, count)

    return kernel
