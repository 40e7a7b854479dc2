"""Activations and the other elementwise functions of one tensor."""

import math
from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn import functional

from compression.engine.graph import Node
from compression.engine.operators.table import Kernel, operator, plain, scalar

UNARY: Mapping[str, Kernel] = {
    "Abs": torch.abs,
    "Acos": torch.acos,
    "Acosh": torch.acosh,
    "Asin": torch.asin,
    "Asinh": torch.asinh,
    "Atan": torch.atan,
    "Atanh": torch.atanh,
    "Ceil": torch.ceil,
    "Cos": torch.cos,
    "Cosh": torch.cosh,
    "Det": torch.linalg.det,
    "Erf": torch.erf,
    "Exp": torch.exp,
    "Floor": torch.floor,
    "HardSwish": functional.hardswish,
    "IsNaN": torch.isnan,
    "Log": torch.log,
    "Mish": functional.mish,
    "Neg": torch.neg,
    "Reciprocal": torch.reciprocal,
    "Relu": torch.relu,
    "Round": torch.round,
    "Sigmoid": torch.sigmoid,
    "Sign": torch.sign,
    "Sin": torch.sin,
    "Sinh": torch.sinh,
    "Softplus": functional.softplus,
    "Softsign": functional.softsign,
    "Sqrt": torch.sqrt,
    "Tan": torch.tan,
    "Tanh": torch.tanh,
}
for _name, _kernel in UNARY.items():
    plain(_name, _kernel)


@operator("Celu")
def celu(node: Node) -> Kernel:
    alpha = node.number("alpha", 1.0)
    return lambda x: functional.celu(x, alpha)


@operator("Elu")
def elu(node: Node) -> Kernel:
    alpha = node.number("alpha", 1.0)
    return lambda x: functional.elu(x, alpha)


@operator("Gelu")
def gelu(node: Node) -> Kernel:
    approximate = node.text("approximate", "none")
    return lambda x: functional.gelu(x, approximate=approximate)


@operator("HardSigmoid")
def hard_sigmoid(node: Node) -> Kernel:
    alpha, beta = node.number("alpha", 0.2), node.number("beta", 0.5)
    if math.isclose(alpha, 1 / 6, rel_tol=1e-6) and beta == 0.5:
        return functional.hardsigmoid
    return lambda x: torch.clamp(x * alpha + beta, 0, 1)


@operator("LeakyRelu")
def leaky_relu(node: Node) -> Kernel:
    alpha = node.number("alpha", 0.01)
    return lambda x: functional.leaky_relu(x, alpha)


@operator("PRelu")
def prelu(_node: Node) -> Kernel:
    return lambda x, slope: torch.where(x < 0, x * slope, x)


@operator("Selu")
def selu(node: Node) -> Kernel:
    alpha = node.number("alpha", 1.67326319217681884765625)
    gamma = node.number("gamma", 1.05070102214813232421875)
    return lambda x: gamma * (x.clamp(min=0) + alpha * torch.expm1(x.clamp(max=0)))


@operator("Shrink")
def shrink(node: Node) -> Kernel:
    bias, lambd = node.number("bias"), node.number("lambd", 0.5)

    def kernel(x: Tensor) -> Tensor:
        below, above = (x < -lambd).to(x.dtype), (x > lambd).to(x.dtype)
        return ((x + bias) * below + (x - bias) * above).to(x.dtype)

    return kernel


@operator("Swish")
def swish(node: Node) -> Kernel:
    alpha = node.number("alpha", 1.0)
    if alpha == 1:
        return functional.silu
    return lambda x: x * torch.sigmoid(alpha * x)


@operator("SwiGLU")
def swiglu(node: Node) -> Kernel:
    alpha = node.number("alpha", 1.0)
    return lambda gate, value: gate * torch.sigmoid(alpha * gate) * value


@operator("ThresholdedRelu")
def thresholded_relu(node: Node) -> Kernel:
    alpha = node.number("alpha", 1.0)
    return lambda x: torch.where(x > alpha, x, 0)


@operator("IsInf")
def is_inf(node: Node) -> Kernel:
    negative, positive = node.flag("detect_negative", 1), node.flag("detect_positive", 1)
    if negative and positive:
        return torch.isinf
    if negative or positive:
        return torch.isposinf if positive else torch.isneginf
    return lambda x: torch.zeros_like(x, dtype=torch.bool)


@operator("Clip")
def clip(node: Node) -> Kernel:
    """Constant bounds run as numbers, which keeps them out of the backward pass."""
    if node.opset < 11:
        low, high = node.attributes.get("min"), node.attributes.get("max")
        return lambda x: torch.clamp(x, low, high) if low is not None or high is not None else x
    low, high = scalar(node, 1), scalar(node, 2)
    if (
        (low is not None or not node.has(1))
        and (high is not None or not node.has(2))
        and (node.has(1) or node.has(2))
    ):
        return lambda x, *_: torch.clamp(x, low, high) if x.is_floating_point() else _clip(x, *_)
    return _clip


def _clip(x: Tensor, low: Tensor | None = None, high: Tensor | None = None) -> Tensor:
    if low is not None:
        x = torch.maximum(x, low)
    return x if high is None else torch.minimum(x, high)


@operator("Hardmax")
def hardmax(node: Node) -> Kernel:
    axis = node.integer("axis", -1 if node.opset >= 13 else 1)

    def kernel(x: Tensor) -> Tensor:
        shape = x.shape
        flat = x if node.opset >= 13 else x.reshape(math.prod(shape[:axis]), -1)
        dim = axis if node.opset >= 13 else 1
        index = flat.argmax(dim, keepdim=True)
        return torch.zeros_like(flat).scatter(dim, index, 1).reshape(shape)

    return kernel


@operator("Softmax", "LogSoftmax")
def softmax(node: Node) -> Kernel:
    """Before opset 13 over all axes from `axis` on, flattened."""
    function = torch.softmax if node.op_type == "Softmax" else torch.log_softmax
    if node.opset >= 13:
        axis = node.integer("axis", -1)
        return lambda x: function(x, axis)
    first = node.integer("axis", 1)

    def kernel(x: Tensor) -> Tensor:
        start = first % x.dim() if x.dim() else 0
        if start == x.dim() - 1:
            return function(x, -1)
        return function(x.flatten(start), -1).reshape(x.shape)

    return kernel
