"""Layers that can be written as a chain of smaller ones: where they read, and their weight as [outputs,
inputs, *kernel].
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np
import onnx
from onnx import TensorProto, numpy_helper

from compression.graph import walk
from compression.graph.index import Array, Index

Sizes = tuple[int, ...]


@dataclass(frozen=True)
class Windows:
    """What one output position of a layer sees: a kernel on spatial axes. A Linear's is a single point."""

    kernel: Sizes = (1,)
    strides: Sizes = (1,)
    dilations: Sizes = (1,)
    before: Sizes = (0,)
    """Padding in front of each axis."""
    after: Sizes = (0,)

    @property
    def points(self) -> int:
        return int(np.prod(self.kernel))


@dataclass(frozen=True, eq=False)
class Layer:
    """A Conv without groups, a Gemm or a MatMul, whose weight nobody else reads."""

    node: onnx.NodeProto
    weight: str
    source: str
    windows: Windows
    seen: Sizes
    """Spatial axes of what it reads, of one sample; a Linear's is the number of its rows."""
    made: Sizes
    """Of what it makes."""
    outputs: int
    inputs: int
    bias: str | None
    """A vector that is added to its outputs and to nothing else; "": it has none and can have one; None: a
    shift has no place.
    """

    @property
    def convolves(self) -> bool:
        return self.node.op_type == "Conv"

    @property
    def names(self) -> set[str]:
        """What it can be called."""
        return {self.weight, self.node.name, *self.node.output} - {""}


def find(model: onnx.ModelProto, shapes: Mapping[str, Sizes]) -> tuple[Layer, ...]:
    """In the order of the graph. `shapes` are those of one sample."""
    index = Index(model.graph)
    return tuple(layer for node in model.graph.node for layer in _of(node, index, shapes))


def _of(node: onnx.NodeProto, index: Index, shapes: Mapping[str, Sizes]) -> Iterator[Layer]:
    rule = {"Conv": _convolution, "Gemm": _linear, "MatMul": _linear}.get(node.op_type)
    if rule is None or node.domain or not {node.input[0], node.output[0]} <= shapes.keys():
        return
    weight = index.initializers.get(node.input[1])
    if weight is None or weight.data_type != TensorProto.FLOAT or index.only_consumer(weight.name) is None:
        return
    if node.input[0] in index.initializers:
        return
    layer = rule(node, index, shapes)
    if layer is not None:
        yield layer


def _convolution(node: onnx.NodeProto, index: Index, shapes: Mapping[str, Sizes]) -> Layer | None:
    outputs, inputs, *kernel = shapes[node.input[1]]
    seen, made = shapes[node.input[0]][2:], shapes[node.output[0]][2:]
    if walk.attribute(node, "group", 1) != 1 or not kernel:
        return None
    windows = _windows(node, tuple(kernel), seen, made)
    bias = _own_bias(node, index)
    return Layer(node, node.input[1], node.input[0], windows, seen, made, outputs, inputs, bias)


def _windows(node: onnx.NodeProto, kernel: Sizes, seen: Sizes, made: Sizes) -> Windows:
    ones = (1,) * len(kernel)
    strides, dilations = (
        tuple(cast("Sequence[int]", walk.attribute(node, name, ones))) for name in ("strides", "dilations")
    )
    pads = tuple(cast("Sequence[int]", walk.attribute(node, "pads", (0,) * 2 * len(kernel))))
    before, after = pads[: len(kernel)], pads[len(kernel) :]
    policy = cast("bytes", walk.attribute(node, "auto_pad", b"NOTSET"))
    if policy.startswith(b"SAME"):
        needed = [
            max(0, (n - 1) * s + (k - 1) * d + 1 - size)
            for n, s, k, d, size in zip(made, strides, kernel, dilations, seen, strict=True)
        ]
        halves = tuple(total // 2 for total in needed)
        others = tuple(total - half for total, half in zip(needed, halves, strict=True))
        before, after = (halves, others) if policy == b"SAME_UPPER" else (others, halves)
    return Windows(kernel, strides, dilations, before, after)


def _own_bias(node: onnx.NodeProto, index: Index) -> str | None:
    """Of a Conv or Gemm."""
    name = node.input[2] if len(node.input) > 2 else ""
    own = name in index.initializers and index.only_consumer(name) is not None
    return name if own or not name else None


def _linear(node: onnx.NodeProto, index: Index, shapes: Mapping[str, Sizes]) -> Layer | None:
    weight, source = shapes[node.input[1]], shapes[node.input[0]]
    if len(weight) != 2 or len(source) < 2 or walk.attribute(node, "transA", 0):
        return None
    inputs, outputs = weight[::-1] if walk.attribute(node, "transB", 0) else weight
    rows = (int(np.prod(source)) // inputs,)
    bias = _plain_bias(node, index, outputs) if node.op_type == "Gemm" else _added(node, index, outputs)
    return Layer(node, node.input[1], node.input[0], Windows(), rows, rows, outputs, inputs, bias)


def _plain_bias(node: onnx.NodeProto, index: Index, outputs: int) -> str | None:
    name = _own_bias(node, index)
    vector = not name or list(index.initializers[name].dims) == [outputs]
    return name if vector and walk.attribute(node, "beta", 1.0) == 1 else None


def _added(node: onnx.NodeProto, index: Index, outputs: int) -> str | None:
    """The vector of the Add that alone reads a MatMul."""
    add = index.only_consumer(node.output[0])
    if add is None or add.op_type != "Add":
        return None
    name = next((one for one in add.input if one != node.output[0]), "")
    vector = index.initializers.get(name)
    own = vector is not None and list(vector.dims) == [outputs] and index.only_consumer(name) is add
    return name if own else None


def kernel(layer: Layer, index: Index) -> Array:
    """Its weight as [outputs, inputs, *kernel], float64, with what a Gemm multiplies it by."""
    stored = numpy_helper.to_array(index.initializers[layer.weight]).astype(np.float64)
    if layer.convolves:
        return stored
    turned = bool(walk.attribute(layer.node, "transB", 0))
    factor = cast("float", walk.attribute(layer.node, "alpha", 1.0))
    return (stored if turned else stored.T)[:, :, None] * factor
