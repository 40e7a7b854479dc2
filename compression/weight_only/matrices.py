"""Matrices that a network multiplies with, and the MatMulNBits that take their place."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper, numpy_helper

from compression.graph import walk
from compression.graph.index import Index
from compression.kernels.blocks import Blocks, packed

DOMAIN = "com.microsoft"
FEWEST = 1024
"""Elements of a matrix that is quantized: the scales of smaller ones, and the node, weigh as much."""
Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Matrix:
    """The constant operand of a MatMul or Gemm."""

    node: onnx.NodeProto
    weight: Floats
    """[outputs, inputs]."""

    @property
    def source(self) -> str:
        """What it is multiplied with."""
        return str(self.node.input[0])

    @property
    def names(self) -> set[str]:
        return {self.node.name, self.node.input[1], *self.node.output}


def matrices(graph: onnx.GraphProto) -> Iterator[Matrix]:
    """Those of float32 in two dimensions, be it behind a Transpose of both, in the order of the graph."""
    index = Index(graph)
    for node in graph.node:
        if node.domain not in {"", "ai.onnx"} or not _product(node) or node.input[0] in index.initializers:
            continue
        weight = _constant(node.input[1], index)
        if weight is not None and weight.ndim == 2 and weight.dtype == np.float32 and weight.size >= FEWEST:
            stored_by_output = node.op_type == "Gemm" and walk.attribute(node, "transB", 0)
            yield Matrix(node, np.ascontiguousarray(weight if stored_by_output else weight.T))


def _product(node: onnx.NodeProto) -> bool:
    if node.op_type == "MatMul":
        return True
    factors = [walk.attribute(node, name, 1.0) for name in ("alpha", "beta")]
    return node.op_type == "Gemm" and factors == [1.0, 1.0] and not walk.attribute(node, "transA", 0)


def _constant(name: str, index: Index) -> npt.NDArray[Any] | None:
    maker = index.producer.get(name)
    if maker is None:
        return index.constant(name)
    if maker.op_type != "Transpose" or walk.attribute(maker, "perm", [1, 0]) != [1, 0]:
        return None
    values = index.constant(maker.input[0])
    return values.T if values is not None and values.ndim == 2 else None


def padded(weight: Floats, block: int) -> Floats:
    """With zeros up to whole blocks of inputs."""
    return np.pad(weight, [(0, 0), (0, -weight.shape[1] % block)])


def replace(graph: onnx.GraphProto, matrix: Matrix, found: Blocks, bits: int, accuracy_level: int) -> None:
    """In place. A Gemm's bias is added by an Add."""
    node, (outputs, inputs) = matrix.node, matrix.weight.shape
    made = node.output[0]
    values = {
        f"{made}_weight_{bits}bit": packed(found.integers, bits),
        f"{made}_weight_scales": found.scales.reshape(-1),
        f"{made}_weight_zero_points": packed(found.zero_points, bits).reshape(-1),
    }
    graph.initializer.extend(
        numpy_helper.from_array(np.ascontiguousarray(value), name) for name, value in values.items()
    )
    bias = node.input[2] if len(node.input) > 2 else ""
    product = helper.make_node(
        "MatMulNBits",
        [node.input[0], *values],
        [f"{made}_product" if bias else made],
        node.name,
        domain=DOMAIN,
        K=inputs,
        N=outputs,
        bits=bits,
        block_size=found.integers.shape[-1],
        accuracy_level=accuracy_level,
    )
    place = list(graph.node).index(node)
    if bias:
        graph.node.insert(place + 1, helper.make_node("Add", [product.output[0], bias], [made]))
    graph.node[place].CopyFrom(product)


def clean(model: onnx.ModelProto) -> None:
    """Drops Transposes and initializers that nothing reads any more, and declares the domain."""
    graph = model.graph
    for node in list(graph.node)[::-1]:
        if node.op_type == "Transpose" and node.output[0] not in _read(graph):
            graph.node.remove(node)
    read = _read(graph)
    kept = [tensor for tensor in graph.initializer if tensor.name in read]
    del graph.initializer[:]
    graph.initializer.extend(kept)
    if all(entry.domain != DOMAIN for entry in model.opset_import):
        model.opset_import.append(helper.make_opsetid(DOMAIN, 1))


def _read(graph: onnx.GraphProto) -> set[str]:
    return {value.name for value in graph.output}.union(*(walk.reads(node) for node in graph.node))
