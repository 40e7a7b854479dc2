"""Layers: the stored weights that are multiplied with what flows through a network, and the axes they sum
over.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import onnx
from onnx import TensorProto

from compression.graph import walk

Array = np.ndarray[Any, np.dtype[Any]]
_FLOATS = {TensorProto.FLOAT, TensorProto.DOUBLE}
_PRODUCTS = {"MatMul", "Gemm"}


class Axes(NamedTuple):
    """Of a weight: that of its outputs, and that of the inputs it sums over."""

    outputs: int
    inputs: int


@dataclass(frozen=True, eq=False)
class Layer:
    """One weight. Several nodes read it if it is shared."""

    weight: str
    axes: Axes
    nodes: tuple[onnx.NodeProto, ...]

    def view(self, array: Array) -> Array:
        """[..., outputs, inputs]: of a convolution [*kernel, O, I]."""
        return np.moveaxis(array, self.axes, (-2, -1))

    @property
    def names(self) -> set[str]:
        """What it can be called: its weight, its nodes and their outputs."""
        return {self.weight}.union(*({node.name, *node.output} for node in self.nodes)) - {""}


class Layers:
    """Those of a graph in its order, subgraphs included.

    Kernels and matrices of Conv, ConvTranspose, Gemm, MatMul, Einsum, LSTM, GRU and RNN in floats, stored as
    initializers, be it behind Identity or Transpose. A weight that anything else reads too, such as a shared
    embedding, is left out, and so is that of a depthwise convolution.
    """

    def __init__(self, graph: onnx.GraphProto) -> None:
        self._graph = graph
        found: dict[str, list[tuple[onnx.NodeProto, Axes]]] = {}
        others = {self._source(value.name) for value in graph.output}
        for node in walk.nodes(graph):
            used = dict(self._weights(node))
            for slot, name in enumerate(node.input):
                source = self._source(name)
                if source is not None and slot in used:
                    found.setdefault(source[0], []).append((node, used[slot]))
                elif node.op_type not in _LAYOUT:
                    others.add(source)
        dropped = {source[0] for source in others if source is not None}
        self.all = tuple(
            Layer(name, uses[0][1], tuple(node for node, _ in uses))
            for name, uses in found.items()
            if name not in dropped
        )

    @cached_property
    def stored(self) -> Mapping[str, TensorProto]:
        """Initializers of every depth whose name is theirs alone."""
        tensors = [tensor for graph in walk.graphs(self._graph) for tensor in graph.initializer]
        counts = Counter(tensor.name for tensor in tensors)
        return {tensor.name: tensor for tensor in tensors if counts[tensor.name] == 1}

    @cached_property
    def _producers(self) -> Mapping[str, onnx.NodeProto]:
        return {name: node for node in walk.nodes(self._graph) for name in node.output}

    def _source(self, name: str) -> tuple[str, tuple[int, ...]] | None:
        """The float initializer behind a name, and which of its axes each axis is."""
        if name in self.stored:
            tensor = self.stored[name]
            return (name, tuple(range(len(tensor.dims)))) if tensor.data_type in _FLOATS else None
        node = self._producers.get(name)
        if node is None or node.op_type not in _LAYOUT:
            return None
        found = self._source(node.input[0])
        if found is None or node.op_type == "Identity":
            return found
        source, axes = found
        order = walk.attribute(node, "perm") or range(len(axes))[::-1]
        return source, tuple(axes[index] for index in order)  # type: ignore[attr-defined]

    def _weights(self, node: onnx.NodeProto) -> Iterator[tuple[int, Axes]]:
        rule = _RULES.get(node.op_type)
        if rule is None or node.domain not in {"", "ai.onnx"}:
            return
        for slot, name in enumerate(node.input):
            source = self._source(name)
            if source is None or len(source[1]) < 2:
                continue
            if slot == 0 and node.op_type in _PRODUCTS and self._source(node.input[1]) is not None:
                continue
            axes = rule(node, slot, self.stored[source[0]])
            if axes is not None:
                yield slot, Axes(*(source[1][axis] for axis in axes))

    def ends(self) -> set[str]:
        """Weights of layers that no other layer precedes, and of those that none follows."""
        nodes = [node for node in self._graph.node if node.output]
        makers = {node.output[0] for layer in self.all for node in layer.nodes}
        layered = {node.output[0] for node in nodes if not makers.isdisjoint(_within(node))}
        after = _reached(nodes, layered, walk.reads, _makes)
        before = _reached(nodes[::-1], layered, _makes, walk.reads)
        ends = {
            node.output[0]
            for node in nodes
            if after.isdisjoint(walk.reads(node)) or before.isdisjoint(_makes(node))
        }
        return {
            layer.weight for layer in self.all if not ends.isdisjoint(node.output[0] for node in layer.nodes)
        }


def _makes(node: onnx.NodeProto) -> set[str]:
    return {*node.output} - {""}


def _within(node: onnx.NodeProto) -> set[str]:
    inner = (other for graph in walk.subgraphs(node) for other in walk.nodes(graph))
    return {other.output[0] for other in (node, *inner) if other.output}


def _reached(
    nodes: list[onnx.NodeProto],
    layered: set[str],
    takes: Callable[[onnx.NodeProto], set[str]],
    gives: Callable[[onnx.NodeProto], set[str]],
) -> set[str]:
    """Tensors that some layer lies before, in the order of the nodes."""
    reached: set[str] = set()
    for node in nodes:
        if (node.output and node.output[0] in layered) or takes(node) & reached:
            reached |= gives(node)
    return reached


def _conv(node: onnx.NodeProto, slot: int, weight: TensorProto) -> Axes | None:
    depthwise = weight.dims[1] == 1 and walk.attribute(node, "group", 1) != 1
    return Axes(0, 1) if slot == 1 and not depthwise else None


def _conv_transpose(node: onnx.NodeProto, slot: int, weight: TensorProto) -> Axes | None:
    axes = _conv(node, slot, weight)
    return axes and Axes(axes.inputs, axes.outputs)


def _matmul(_node: onnx.NodeProto, slot: int, weight: TensorProto) -> Axes | None:
    last = len(weight.dims) - 1
    return Axes(last, last - 1) if slot == 1 else Axes(last - 1, last)


def _gemm(node: onnx.NodeProto, slot: int, _weight: TensorProto) -> Axes | None:
    if slot > 1:
        return None
    turned = bool(walk.attribute(node, "transB" if slot else "transA", 0))
    return Axes(0, 1) if turned == bool(slot) else Axes(1, 0)


def _recurrent(_node: onnx.NodeProto, slot: int, _weight: TensorProto) -> Axes | None:
    return Axes(1, 2) if slot in {1, 2} else None


def _einsum(node: onnx.NodeProto, slot: int, _weight: TensorProto) -> Axes | None:
    equation = walk.attribute(node, "equation", b"")
    assert isinstance(equation, bytes)  # noqa: S101  by the standard
    terms, _, result = equation.decode().replace(" ", "").partition("->")
    letters = terms.split(",")[slot]
    summed = [axis for axis, letter in enumerate(letters) if letter not in result]
    kept = [axis for axis, letter in enumerate(letters) if letter in result]
    return Axes(kept[-1], summed[0]) if summed and kept and letters.isalpha() else None


_LAYOUT = {"Identity", "Transpose"}
_RULES: Mapping[str, Callable[[onnx.NodeProto, int, TensorProto], Axes | None]] = {
    "Conv": _conv,
    "ConvTranspose": _conv_transpose,
    "MatMul": _matmul,
    "Gemm": _gemm,
    "LSTM": _recurrent,
    "GRU": _recurrent,
    "RNN": _recurrent,
    "Einsum": _einsum,
}
