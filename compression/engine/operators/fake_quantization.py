"""QuantizeLinear and DequantizeLinear as one operator, which the peephole makes of a pair of them.

The gradient passes straight through inside the range and stops outside; that of the scale is LSQ's (Esser et
al. 2020, arXiv:1902.08153, eq. 3). Values are those of the two operators, bit for bit.
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from compression.engine.graph import Node
from compression.engine.operators.fused import DOMAIN
from compression.engine.operators.quantization import dequantize_linear, quantize_linear
from compression.engine.operators.table import Context, Kernel, operator


class FakeQuantize(torch.autograd.Function):
    """clamp(round(x / s), low, high) s, in few passes: the tensors are those of whole feature maps."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, scale: Tensor, low: Any, high: Any) -> Tensor:
        ctx.save_for_backward(x, scale)
        ctx.bounds = low, high
        return torch.round(x / scale).clamp_(low, high).mul_(scale)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:
        x, scale = ctx.saved_tensors
        exact = x / scale
        rounded = torch.round(exact)
        clamped = rounded.clamp(*ctx.bounds)
        inside = rounded.eq_(clamped)
        towards_x = gradient * inside if ctx.needs_input_grad[0] else None
        towards_scale = None
        if ctx.needs_input_grad[1]:
            error = clamped.sub_(exact.mul_(inside)).mul_(gradient)
            towards_scale = error.sum_to_size(scale.shape)
        return towards_x, towards_scale, None, None


@operator("FakeQuantize", domain=DOMAIN, contextual=True)
def fake_quantize(node: Node) -> Kernel:
    """Inputs x, scale, zero point; attributes `axis` of the scales, and `low` and `high` that limit the
    integers more than their type does.
    """
    axis, name = node.integer("axis", 1), node.inputs[1]
    limits = node.number("low", -torch.inf), node.number("high", torch.inf)
    quantize, dequantize = quantize_linear(node), dequantize_linear(node)

    def kernel(context: Context, x: Tensor, scale: Tensor, zero_point: Tensor) -> Tensor:
        if context.observer is not None:
            context.observer(name, x.detach())
        if zero_point.is_floating_point():
            whole: Tensor = dequantize(quantize(x, scale, zero_point), scale, zero_point)
            return whole
        info = torch.iinfo(zero_point.dtype)
        low, high = max(info.min, limits[0]), min(info.max, limits[1])
        shape = [-1 if dim == axis % x.dim() else 1 for dim in range(x.dim())] if scale.dim() else []
        zero = zero_point.item() if zero_point.numel() == 1 else zero_point.reshape(shape).to(scale.dtype)
        apply: Kernel = FakeQuantize.apply
        result: Tensor = apply(x.to(scale.dtype), scale.reshape(shape), low - zero, high - zero)
        return result

    return kernel
