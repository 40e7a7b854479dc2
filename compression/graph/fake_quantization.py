"""Rounding to integers and back in a graph whose weights are floats: what quantization-aware training runs.

It is ONNX: QuantizeLinear, a Clip where there are fewer levels than the type has, DequantizeLinear. Only the
int32 of a bias is more than the standard's QuantizeLinear makes.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import helper, numpy_helper

from compression.graph import storage, walk
from compression.graph.index import Array, Index
from compression.graph.qdq import EIGHT, Scheme
from compression.graph.weight_rounding import Rounding
from compression.kernels.rounding import largest


@dataclass(frozen=True)
class Quantizer:
    """A QuantizeLinear with a scale of its own: what it rounds, and the names of its initializers."""

    tensor: str
    scale: str
    zero_point: str
    axis: int
    is_weight: bool


def quantizers(graph: onnx.GraphProto) -> Iterator[Quantizer]:
    """In the order of the graph. Several share a scale where an operator leaves the range as it was."""
    stored = {tensor.name for tensor in graph.initializer}
    for node in graph.node:
        if node.op_type == "QuantizeLinear" and node.input[1] in stored:
            source, scale, zero_point = node.input
            axis = next((entry.i for entry in node.attribute if entry.name == "axis"), 1)
            yield Quantizer(source, scale, zero_point, axis, source in stored)


def pair_stored(graph: onnx.GraphProto, roundings: Mapping[str, Rounding]) -> None:
    """Rounds, in place, the weights of the layers that compute in floats from integer weights."""
    for name, readers in list(storage.storable(graph, roundings)):
        how = roundings[name]
        scales = how.scales if how.axis is not None else how.scales.reshape(())
        _store(graph, f"{name}_scale", scales)
        _store(graph, f"{name}_zero_point", np.zeros(scales.shape, np.int8))
        restored = _pair(graph, name, f"{name}_scale", how.axis or 0)
        for reader in readers:
            reader.input[1] = restored


def pair_biases(graph: onnx.GraphProto) -> None:
    """Rounds, in place, the biases of integer layers to what their kernels add up: int32 of the input's scale
    times the weight's.
    """
    index = Index(graph)
    for node in [node for node in graph.node if node.op_type in {"Conv", "Gemm"} and len(node.input) > 2]:
        scales = [
            made.input[1]
            for name in node.input[:2]
            if (made := index.producer.get(name)) is not None and made.op_type == "DequantizeLinear"
        ]
        bias = index.constant(node.input[2])
        if len(scales) < 2 or bias is None or walk.attribute(node, "beta", 1.0) != 1.0:
            continue
        scale = f"{node.input[2]}_scale"
        graph.node.append(helper.make_node("Mul", scales, [scale]))
        _store(graph, f"{node.input[2]}_zero_point", np.zeros((), np.int32))
        node.input[2] = _pair(graph, node.input[2], scale, 0)


def _store(graph: onnx.GraphProto, name: str, value: Array) -> None:
    graph.initializer.append(numpy_helper.from_array(np.asarray(value), name))


def _pair(graph: onnx.GraphProto, name: str, scale: str, axis: int) -> str:
    """Nodes that round an initializer, by scales along the axis or a single one; the name of the result."""
    integers, restored = f"{name}_QuantizeLinear_Output", f"{name}_DequantizeLinear_Output"
    operands = [scale, f"{name}_zero_point"]
    nodes = [
        helper.make_node("QuantizeLinear", [name, *operands], [integers], axis=axis),
        helper.make_node("DequantizeLinear", [integers, *operands], [restored], axis=axis),
    ]
    graph.node.extend(nodes)
    return restored


def limit(graph: onnx.GraphProto, scheme: Scheme) -> None:
    """Integers to as many levels as there are bits, in place; those of weights are symmetric."""
    weights = {tensor.name for tensor in graph.initializer}
    bound = largest(scheme.weight_bits)
    levels = np.array(2**scheme.activation_bits - 1, np.uint8)
    for node in [node for node in graph.node if node.op_type == "QuantizeLinear"]:
        if node.input[0] in weights:
            _clip(graph, node, np.array(-bound, np.int8), np.array(bound, np.int8))
        elif scheme.activation_bits < EIGHT:
            _clip(graph, node, np.array(0, np.uint8), levels)


def _clip(graph: onnx.GraphProto, quantize: onnx.NodeProto, low: Array, high: Array) -> None:
    limited = quantize.output[0]
    quantize.output[0] = f"{limited}_unlimited"
    bounds = [f"{limited}_low", f"{limited}_high"]
    for name, value in zip(bounds, (low, high), strict=True):
        _store(graph, name, value)
    node = helper.make_node("Clip", [quantize.output[0], *bounds], [limited], name=limited)
    graph.node.insert(list(graph.node).index(quantize) + 1, node)
