"""Which initializers are weights, and what their types say of a model."""

import math
from collections.abc import Iterator
from typing import cast

import onnx
from onnx import TensorProto

from compression.graph import packing, walk
from compression.graph.tensors import FLOATS, HALF, SUB_BYTE
from compression.inspection import Trait

QUANTIZED_TYPES = frozenset(SUB_BYTE) | {
    TensorProto.INT8,
    TensorProto.UINT8,
    TensorProto.INT16,
    TensorProto.UINT16,
    TensorProto.FLOAT8E4M3FN,
    TensorProto.FLOAT8E5M2,
}
SCALES = {
    "QuantizeLinear": (1, 2),
    "DequantizeLinear": (1, 2),
    "QLinearConv": (1, 2, 4, 5, 6, 7),
    "QLinearMatMul": (1, 2, 4, 5, 6, 7),
    "QGemm": (1, 2, 4, 5, 7, 8),
    "MatMulInteger": (2, 3),
    "ConvInteger": (2, 3),
    "MatMulNBits": (2, 3),
    "GatherBlockQuantized": (2, 3),
}
"""Input slots that hold scales and zero points, which are no weights."""
QUANTIZED_OPERATORS = frozenset(SCALES) | {
    "DynamicQuantizeLinear",
    "DynamicQuantizeMatMul",
    "MatMulIntegerToFloat",
}


def weights(graph: onnx.GraphProto) -> Iterator[TensorProto]:
    """Initializers of floating or quantized type, subgraphs included; biases of quantized layers
    (int32) too. Packed ones are as they will be unpacked.
    """
    scales, biases = _quantization_slots(graph)
    packed = dict(packing.unpacked(graph))
    yield from filter(None, packed.values())
    scales.update(packed)
    for scope in walk.graphs(graph):
        for tensor in scope.initializer:
            kind = tensor.data_type
            is_bias = kind == TensorProto.INT32 and tensor.name in biases
            if tensor.name not in scales and (kind in FLOATS or kind in QUANTIZED_TYPES or is_bias):
                yield tensor


def _quantization_slots(graph: onnx.GraphProto) -> tuple[set[str], set[str]]:
    scales, biases = set(), set()
    for node in walk.nodes(graph):
        for slot in SCALES.get(node.op_type, ()):
            scales.update(node.input[slot : slot + 1])
        if node.op_type == "DequantizeLinear":
            biases.add(node.input[0])
        elif node.op_type == "QLinearConv":
            biases.update(node.input[8:9])
    return scales, biases


def params(graph: onnx.GraphProto) -> int:
    """Elements of all weights; of a MatMulNBits those of its matrix, not its bytes, and so of a
    GatherBlockQuantized.
    """
    whole = {node.input[1]: _size(node) for node in walk.nodes(graph) if node.op_type == "MatMulNBits"}
    blocked = {node.input[0]: node for node in walk.nodes(graph) if node.op_type == "GatherBlockQuantized"}
    for tensor in graph.initializer:
        if tensor.name in blocked and tensor.data_type == TensorProto.UINT8:
            bits = cast("int", walk.attribute(blocked[tensor.name], "bits", 4))
            whole[tensor.name] = math.prod(tensor.dims) * 8 // bits
    return sum(whole.get(tensor.name, math.prod(tensor.dims)) for tensor in weights(graph))


def _size(product: onnx.NodeProto) -> int:
    return math.prod(int(entry.i) for entry in product.attribute if entry.name in {"K", "N"})


def traits(graph: onnx.GraphProto) -> frozenset[Trait]:
    found = set()
    integers = {tensor.name for tensor in weights(graph) if tensor.data_type in QUANTIZED_TYPES}
    if any(_is_quantized(node, integers) for node in walk.nodes(graph)):
        found.add(Trait.QUANTIZED)
    if any(tensor.data_type in HALF for scope in walk.graphs(graph) for tensor in scope.initializer):
        found.add(Trait.HALF_PRECISION)
    return frozenset(found)


def _is_quantized(node: onnx.NodeProto, integers: set[str]) -> bool:
    """A Cast restores weights that are stored as integers and computed with in floats."""
    stored = node.op_type == "Cast" and node.input[0] in integers
    return stored or node.op_type in QUANTIZED_OPERATORS or node.op_type.startswith("QLinear")
