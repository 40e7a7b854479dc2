"""Multiply-accumulates, from shapes: one rule per operator."""

import math
from collections.abc import Callable, Iterable
from typing import cast

import onnx

from compression.graph import walk
from compression.graph.shapes import Shapes

Rule = Callable[[onnx.NodeProto, Shapes], int]
"""Raises KeyError where a shape is unknown."""


def _convolution(weight: int) -> Rule:
    def rule(node: onnx.NodeProto, shapes: Shapes) -> int:
        _, channels, *kernel = shapes[node.input[weight]].dims
        return shapes[node.output[0]].elements * channels * math.prod(kernel)

    return rule


def _conv_transpose(node: onnx.NodeProto, shapes: Shapes) -> int:
    _, channels, *kernel = shapes[node.input[1]].dims
    return shapes[node.input[0]].elements * channels * math.prod(kernel)


def _matmul(node: onnx.NodeProto, shapes: Shapes) -> int:
    return shapes[node.output[0]].elements * shapes[node.input[0]].dims[-1]


def _gemm(node: onnx.NodeProto, shapes: Shapes) -> int:
    contracted = 0 if walk.attribute(node, "transA", 0) else 1
    return shapes[node.output[0]].elements * shapes[node.input[0]].dims[contracted]


def _matmul_nbits(node: onnx.NodeProto, shapes: Shapes) -> int:
    return shapes[node.output[0]].elements * cast("int", walk.attribute(node, "K"))


def _recurrent(node: onnx.NodeProto, shapes: Shapes) -> int:
    """X [length, batch, features] times W and R, [directions, gates * hidden, …] or transposed."""
    length, batch, _ = shapes[node.input[0]].dims
    return length * batch * (shapes[node.input[1]].elements + shapes[node.input[2]].elements)


def _einsum(node: onnx.NodeProto, shapes: Shapes) -> int:
    """One product for each combination of the indices: right for contractions of two operands."""
    equation = cast("bytes", walk.attribute(node, "equation")).decode().replace(" ", "")
    if "." in equation:
        raise KeyError(equation)
    sizes: dict[str, int] = {}
    for term, name in zip(equation.split("->")[0].split(","), node.input, strict=True):
        sizes |= dict(zip(term, shapes[name].dims, strict=True))
    return math.prod(sizes.values())


def _attention(node: onnx.NodeProto, shapes: Shapes) -> int:
    """Scores and their product with V; Q, K, V are [batch, heads, length, size] or [batch, length, heads *
    size].
    """
    q, k, v = (shapes[name].dims for name in node.input[:3])
    if len(q) == 4:
        return q[0] * q[1] * q[2] * k[2] * (q[3] + v[3])
    groups = cast("int", walk.attribute(node, "q_num_heads")) / cast(
        "int", walk.attribute(node, "kv_num_heads")
    )
    return q[0] * q[1] * k[1] * (q[2] + int(v[2] * groups))


def _unknown(node: onnx.NodeProto, _shapes: Shapes) -> int:
    raise KeyError(node.op_type)


RULES: dict[str, Rule] = {
    "Conv": _convolution(1),
    "FusedConv": _convolution(1),
    "NhwcFusedConv": _convolution(1),
    "ConvInteger": _convolution(1),
    "QLinearConv": _convolution(3),
    "ConvTranspose": _conv_transpose,
    "MatMul": _matmul,
    "FusedMatMul": _unknown,
    "MatMulInteger": _matmul,
    "MatMulInteger16": _matmul,
    "MatMulIntegerToFloat": _matmul,
    "DynamicQuantizeMatMul": _matmul,
    "QLinearMatMul": _matmul,
    "MatMulNBits": _matmul_nbits,
    "MatMulBnb4": _matmul_nbits,
    "Gemm": _gemm,
    "FusedGemm": _gemm,
    "QGemm": _gemm,
    "LSTM": _recurrent,
    "GRU": _recurrent,
    "RNN": _recurrent,
    "DynamicQuantizeLSTM": _recurrent,
    "Einsum": _einsum,
    "Attention": _attention,
    "QAttention": _unknown,
    "MultiHeadAttention": _unknown,
    "GroupQueryAttention": _unknown,
    "DeformConv": _unknown,
}


def count(nodes: Iterable[onnx.NodeProto], shapes: Shapes) -> int | None:
    """Of the nodes as given; None where a shape, or how often a loop runs, is unknown. If counts its larger
    branch.
    """
    try:
        return sum(_node(node, shapes) for node in nodes)
    except (KeyError, ValueError, IndexError, ZeroDivisionError, TypeError):
        return None


def _node(node: onnx.NodeProto, shapes: Shapes) -> int:
    if node.op_type == "Attention" and node.domain == "com.microsoft":
        raise KeyError(node.op_type)
    if node.op_type in RULES:
        return RULES[node.op_type](node, shapes)
    bodies = [sum(_node(inner, shapes) for inner in graph.node) for graph in walk.subgraphs(node)]
    if any(bodies) and node.op_type != "If":
        raise KeyError(node.op_type)
    return max(bodies, default=0)
