"""Arithmetic, comparison, logic and bits of several tensors, with numpy's broadcasting."""

from collections.abc import Mapping
from functools import reduce

import torch
from torch import Tensor

from compression.engine.graph import Node
from compression.engine.operators.table import Kernel, operator, plain, scalar

UNSIGNED = {torch.uint16, torch.uint32, torch.uint64}


def widened(kernel: Kernel) -> Kernel:
    """Computes unsigned integers, for which torch has few functions, in int64: exact modulo their size."""

    def wide(x: Tensor, *others: Tensor) -> Tensor:
        if x.dtype not in UNSIGNED:
            result: Tensor = kernel(x, *others)
            return result
        result = kernel(x.to(torch.int64), *(other.to(torch.int64) for other in others))
        return result if result.dtype == torch.bool else result.to(x.dtype)

    return wide


BINARY: Mapping[str, Kernel] = {
    "Add": torch.add,
    "Sub": torch.sub,
    "Mul": torch.mul,
    "Equal": torch.eq,
    "Greater": torch.gt,
    "GreaterOrEqual": torch.ge,
    "Less": torch.lt,
    "LessOrEqual": torch.le,
    "BitwiseAnd": torch.bitwise_and,
    "BitwiseOr": torch.bitwise_or,
    "BitwiseXor": torch.bitwise_xor,
    "BitwiseNot": torch.bitwise_not,
}
for _name, _kernel in BINARY.items():
    plain(_name, widened(_kernel))

LOGICAL: Mapping[str, Kernel] = {
    "And": torch.logical_and,
    "Or": torch.logical_or,
    "Xor": torch.logical_xor,
    "Not": torch.logical_not,
}
for _name, _kernel in LOGICAL.items():
    plain(_name, _kernel)


@operator("Div")
def div(_node: Node) -> Kernel:
    """Integers are divided towards zero."""

    @widened
    def kernel(x: Tensor, y: Tensor) -> Tensor:
        return torch.div(x, y) if x.is_floating_point() else torch.div(x, y, rounding_mode="trunc")

    return kernel


@operator("Mod")
def mod(node: Node) -> Kernel:
    return widened(torch.fmod if node.flag("fmod") else torch.remainder)


@operator("Pow")
def power(node: Node) -> Kernel:
    """The result has the base's type, whatever the exponent's."""
    exponent = scalar(node, 1)
    if exponent == 2:
        return lambda x, _: x * x

    def kernel(x: Tensor, y: Tensor) -> Tensor:
        if y.dtype in UNSIGNED:
            y = y.to(torch.int64)
        return torch.pow(x, y).to(x.dtype)

    return kernel


@operator("BitShift")
def bit_shift(node: Node) -> Kernel:
    left = node.text("direction") == "LEFT"

    @widened
    def kernel(x: Tensor, y: Tensor) -> Tensor:
        return torch.bitwise_left_shift(x, y) if left else torch.bitwise_right_shift(x, y)

    return kernel


def _folded(function: Kernel) -> Kernel:
    @widened
    def kernel(*tensors: Tensor) -> Tensor:
        return reduce(function, tensors)

    return kernel


plain("Max", _folded(torch.maximum))
plain("Min", _folded(torch.minimum))
plain("Sum", _folded(torch.add))


@operator("Mean")
def mean(_node: Node) -> Kernel:
    return lambda *tensors: reduce(torch.add, tensors) / len(tensors)


@operator("Where")
def where(_node: Node) -> Kernel:
    return torch.where


@operator("CumSum", host=(1,))
def cumsum(node: Node) -> Kernel:
    return _cumulative(node, torch.cumsum, 0)


@operator("CumProd", host=(1,))
def cumprod(node: Node) -> Kernel:
    return _cumulative(node, torch.cumprod, 1)


def _cumulative(node: Node, function: Kernel, neutral: int) -> Kernel:
    exclusive, reverse = node.flag("exclusive"), node.flag("reverse")

    def kernel(x: Tensor, axis: Tensor) -> Tensor:
        dim = int(axis.item())
        x = x.flip(dim) if reverse else x
        if exclusive:
            first = torch.full_like(x.narrow(dim, 0, 1), neutral)
            x = torch.cat([first, x.narrow(dim, 0, x.shape[dim] - 1)], dim)
        y: Tensor = function(x, dim).to(x.dtype)
        return y.flip(dim) if reverse else y

    return kernel
