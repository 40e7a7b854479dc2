"""Matrices that a network multiplies with."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx

from compression.graph import walk
from compression.graph.index import Index

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

    table: str = ""
    """The initializer, if it is stored as [outputs, inputs]: rows of it may be looked up."""

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
            maker = index.producer.get(node.input[1])
            turned = maker is not None and not stored_by_output
            table = maker.input[0] if maker is not None else node.input[1]
            by_output = turned or (maker is None and stored_by_output)
            own = np.ascontiguousarray(weight if stored_by_output else weight.T)
            yield Matrix(node, own, table if by_output else "")


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
