"""Casts, and QuantizeLinear / DequantizeLinear with what is built on them.

Rounding passes the gradient straight through (Bengio et al. 2013, arXiv:1308.3432). While a gradient is
wanted a quantized tensor holds its integers in floating point, and the gradient of the scale is that of LSQ
(arXiv:1902.08153).
"""

from collections.abc import Mapping

import torch
from onnx import TensorProto
from torch import Tensor

from compression.engine.convert import NARROW, torch_dtype
from compression.engine.graph import Node
from compression.engine.operators.convolution import conv
from compression.engine.operators.table import Kernel, operator, unsupported

NARROW_RANGES: Mapping[int, tuple[int, int]] = {
    TensorProto.UINT4: (0, 15),
    TensorProto.INT4: (-8, 7),
    TensorProto.UINT2: (0, 3),
    TensorProto.INT2: (-2, 1),
}
FLOAT8 = {torch.float8_e4m3fn, torch.float8_e4m3fnuz, torch.float8_e5m2, torch.float8_e5m2fnuz}
_FRACTION = {torch.float8_e4m3fn: 3, torch.float8_e4m3fnuz: 3, torch.float8_e5m2fnuz: 2}
E8M0 = torch.float8_e8m0fnu
E8M0_BIAS = 127


def cast_to(x: Tensor, onnx_type: int, saturate: bool = True, round_mode: str = "up") -> Tensor:
    if onnx_type in NARROW_RANGES:
        low, high = NARROW_RANGES[onnx_type]
        return ((x.to(torch.int32) - low) % (high - low + 1) + low).to(NARROW[onnx_type])
    if onnx_type == TensorProto.FLOAT4E2M1:
        return _round_to_float4(x.to(torch.float32))
    dtype = torch_dtype(onnx_type)
    if dtype in FLOAT8:
        return _to_float8(x.to(torch.float32), dtype, saturate)
    if dtype == E8M0:
        return _to_power_of_two(x.to(torch.float32), round_mode)
    return x.to(dtype)


def _to_float8(x: Tensor, dtype: torch.dtype, saturate: bool) -> Tensor:
    largest = torch.finfo(dtype).max
    if saturate:
        x = x.clamp(-largest, largest)
    elif dtype != torch.float8_e5m2:
        x = torch.where(x.abs() > largest * (1 + 2.0 ** -(_FRACTION[dtype] + 1)), torch.nan, x)
    return x.to(dtype)


def _to_power_of_two(x: Tensor, round_mode: str) -> Tensor:
    mantissa, exponent = torch.frexp(x.abs())
    up = {"up": mantissa > 0.5, "nearest": mantissa >= 0.75}.get(
        round_mode, torch.zeros_like(x, dtype=torch.bool)
    )
    biased = (exponent - 1 + up.to(exponent.dtype) + E8M0_BIAS).clamp(0, 2 * E8M0_BIAS)
    biased = torch.where(x == 0, 0, biased)
    return torch.where(x.isnan(), 255, biased).to(torch.uint8).view(E8M0)


def _round_to_float4(x: Tensor) -> Tensor:
    """To the nearest of 0, 0.5, 1, 1.5, 2, 3, 4, 6; ties to the even code."""
    size = x.abs().clamp(max=6)
    step = torch.where(size < 2, 0.5, torch.where(size < 4, 1.0, 2.0))
    rounded = torch.where(x.isnan(), 0, torch.round(size / step) * step)
    return torch.copysign(rounded, torch.where(x.isnan(), -torch.ones_like(x), x))


@operator("Cast")
def cast(node: Node) -> Kernel:
    target, saturate, round_mode = node.integer("to"), node.flag("saturate", 1), node.text("round_mode", "up")
    if target == TensorProto.STRING:
        raise unsupported(node, "strings")
    return lambda x: cast_to(x, target, saturate, round_mode)


@operator("CastLike")
def cast_like(node: Node) -> Kernel:
    saturate, round_mode = node.flag("saturate", 1), node.text("round_mode", "up")
    narrow = node.types.get(node.inputs[1])

    def kernel(x: Tensor, like: Tensor) -> Tensor:
        if narrow is not None:
            return cast_to(x, narrow)
        if like.dtype in FLOAT8:
            return _to_float8(x.to(torch.float32), like.dtype, saturate)
        return _to_power_of_two(x.to(torch.float32), round_mode) if like.dtype == E8M0 else x.to(like.dtype)

    return kernel


def _shaped(parameter: Tensor, x: Tensor, axis: int, block: int) -> Tensor:
    """A scale or zero point against its tensor: one, one per index of an axis, or one per block along it."""
    if parameter.numel() == 1 and parameter.dim() < 2:
        return parameter.reshape(())
    if block:
        return parameter.repeat_interleave(block, axis).narrow(axis, 0, x.shape[axis])
    if parameter.dim() == 1:
        return parameter.reshape([-1 if dim == axis % x.dim() else 1 for dim in range(x.dim())])
    return parameter


def straight_through(x: Tensor) -> Tensor:
    """Rounded half to even; the gradient is that of the identity."""
    return x + (torch.round(x) - x).detach() if x.requires_grad else torch.round(x)


def _range(onnx_type: int | None, dtype: torch.dtype) -> tuple[int, int]:
    if onnx_type is not None and onnx_type in NARROW_RANGES:
        return NARROW_RANGES[onnx_type]
    info = torch.iinfo(dtype)
    return info.min, info.max


@operator("QuantizeLinear")
def quantize_linear(node: Node) -> Kernel:
    axis, block, saturate = node.integer("axis", 1), node.integer("block_size"), node.flag("saturate", 1)
    declared = node.types.get(node.inputs[2]) if node.has(2) else node.attributes.get("output_dtype")
    precision = node.integer("precision")

    def kernel(x: Tensor, scale: Tensor, zero_point: Tensor | None = None) -> Tensor:
        wide = x if not precision else x.to(torch_dtype(precision))
        y = wide / _shaped(scale, x, axis, block).to(wide.dtype)
        dtype = (
            torch_dtype(declared or TensorProto.UINT8) if zero_point is None or declared else zero_point.dtype
        )
        if dtype in FLOAT8:
            return _to_float8(y.to(torch.float32), dtype, saturate)
        if declared == TensorProto.FLOAT4E2M1:
            return _round_to_float4(y.to(torch.float32))
        y = straight_through(y)
        if zero_point is not None:
            y = y + _shaped(zero_point, x, axis, block).to(y.dtype)
        y = y.clamp(*_range(declared, dtype))
        return y if y.requires_grad else y.to(dtype)

    return kernel


@operator("DequantizeLinear")
def dequantize_linear(node: Node) -> Kernel:
    axis, block = node.integer("axis", 1), node.integer("block_size")
    target = node.attributes.get("output_dtype")

    def kernel(x: Tensor, scale: Tensor, zero_point: Tensor | None = None) -> Tensor:
        y = x.to(torch.float32)
        if zero_point is not None:
            y = y - _shaped(zero_point, x, axis, block).to(torch.float32)
        y = y * _shaped(scale, x, axis, block).to(torch.float32)
        return y.to(torch_dtype(target) if target else scale.dtype)

    return kernel


@operator("DynamicQuantizeLinear")
def dynamic_quantize_linear(_node: Node) -> Kernel:
    def kernel(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        low, high = x.amin().clamp(max=0), x.amax().clamp(min=0)
        scale = (high - low) / 255
        zero_point = torch.where(scale == 0, 0, torch.round(-low / scale)).clamp(0, 255)
        y = (torch.round(x / scale) + zero_point).clamp(0, 255)
        return y.to(torch.uint8), scale, zero_point.to(torch.uint8)

    return kernel


def _requantized(y: Tensor, factor: Tensor, zero_point: Tensor) -> Tensor:
    info = torch.iinfo(zero_point.dtype)
    rounded = torch.round(y * factor.to(y.dtype)) + zero_point.to(y.dtype)
    return rounded.clamp(info.min, info.max).to(zero_point.dtype)


@operator("QLinearMatMul")
def qlinear_matmul(_node: Node) -> Kernel:
    """Inputs a, b and the result, each with scale and zero point: per tensor, or per row of a and column of
    b.
    """

    def kernel(*operands: Tensor) -> Tensor:
        a, a_scale, a_zero, b, b_scale, b_zero, y_scale, y_zero = operands
        product = (a.double() - a_zero.double()) @ (b.double() - b_zero.double())
        return _requantized(product, a_scale.double() * b_scale.double() / y_scale.double(), y_zero)

    return kernel


@operator("QLinearConv")
def qlinear_conv(node: Node) -> Kernel:
    convolve = conv(node)

    def kernel(*operands: Tensor) -> Tensor:
        x, x_scale, x_zero, w, w_scale, w_zero, y_scale, y_zero = operands[:8]
        bias = operands[8].double() if len(operands) > 8 else None
        per_filter = (-1, *[1] * (w.dim() - 1))
        weight = w.double() - w_zero.double().reshape(per_filter if w_zero.dim() else ())
        y = convolve(x.double() - x_zero.double(), weight, bias)
        scales = w_scale.double().reshape(per_filter[:-1] if w_scale.dim() else ())
        return _requantized(y, x_scale.double() * scales / y_scale.double(), y_zero)

    return kernel
