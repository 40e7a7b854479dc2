"""Matrix products."""

import string

import torch
from torch import Tensor
from torch.nn import functional

from compression.engine.graph import Node
from compression.engine.operators.arithmetic import widened
from compression.engine.operators.table import Kernel, operator, plain

plain("MatMul", widened(torch.matmul))


@operator("Gemm")
def gemm(node: Node) -> Kernel:
    alpha, beta = node.number("alpha", 1.0), node.number("beta", 1.0)
    left, right = node.flag("transA"), node.flag("transB")

    def kernel(a: Tensor, b: Tensor, c: Tensor | None = None) -> Tensor:
        a, b = a.t() if left else a, b.t() if right else b
        if c is None:
            return alpha * (a @ b) if alpha != 1 else a @ b
        if a.is_floating_point():
            return torch.addmm(c, a, b, beta=beta, alpha=alpha)
        return (alpha * (a @ b) + beta * c).to(a.dtype)

    if alpha == beta == 1 and right and not left:
        return lambda a, b, c=None: (
            functional.linear(a, b, c) if c is None or c.dim() == 1 else kernel(a, b, c)
        )
    return kernel


@operator("Einsum")
def einsum(node: Node) -> Kernel:
    equation = node.text("equation").replace(" ", "")
    return lambda *operands: torch.einsum(_lettered(equation, operands), *operands)


def _lettered(equation: str, operands: tuple[Tensor, ...]) -> str:
    """ONNX lets an ellipsis stand for different numbers of axes, which torch broadcasts too; letters are the
    same.
    """
    if "->" in equation or "..." in equation or not operands:
        return equation
    counted = sorted(
        letter for letter in set(equation) & set(string.ascii_letters) if equation.count(letter) == 1
    )
    return f"{equation}->{''.join(counted)}"


@operator("MatMulInteger")
def matmul_integer(_node: Node) -> Kernel:
    return _matmul_integer


def _matmul_integer(
    a: Tensor, b: Tensor, a_zero: Tensor | None = None, b_zero: Tensor | None = None
) -> Tensor:
    """Zero points per row of `a` and per column of `b`."""
    return torch.matmul(centred(a, a_zero, -2), centred(b, b_zero, -1))


def centred(x: Tensor, zero_point: Tensor | None, axis: int) -> Tensor:
    """x - zero_point in int32, a zero point of one dimension lying along `axis`."""
    wide = x.to(torch.int32)
    if zero_point is None:
        return wide
    if zero_point.dim() == 1 and zero_point.numel() > 1:
        zero_point = zero_point.reshape([-1 if d == axis % x.dim() else 1 for d in range(x.dim())])
    return wide - zero_point.to(torch.int32)
