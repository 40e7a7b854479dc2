"""Shapes of a graph for one size of the batch, those too that it computes with Shape, Slice and Concat."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import onnx
from onnx import numpy_helper
from onnx.reference import ReferenceEvaluator

from compression.dataset import Array
from compression.graph import shapes, tensors, walk
from compression.graph.shapes import Shapes

_OF_SHAPES = {
    *("Add", "Cast", "Concat", "Div", "Gather", "Identity", "Mul", "Slice", "Squeeze", "Sub", "Unsqueeze"),
}
"""What exporters compute new shapes with."""


BATCHES = (2, 3)
"""Two sizes tell what follows from the batch."""


class Trial(NamedTuple):
    shapes: Shapes
    values: Mapping[str, Array]
    """Of tensors that follow from shapes alone."""


def run(model: onnx.ModelProto, batch: int) -> Trial:
    """Other open axes stay open, and what depends on them unknown."""
    light, inputs = shapes.skeleton(model), _of_batch(model, batch)
    stored = {
        tensor.name: numpy_helper.to_array(tensor)
        for tensor in light.graph.initializer
        if math.prod(tensor.dims) <= shapes.VALUES_UP_TO
    }
    values: dict[str, Array] = {}
    while True:
        known = shapes.infer(light, inputs)
        found = _computed(light, known, stored | values)
        if not found:
            return Trial(known, values)
        values |= found
        _store(light.graph, found)


def common(trials: Sequence[Trial], name: str) -> tuple[int | None, ...] | None:
    """Sizes of a tensor's axes; None for one that differs between sizes of the batch, and for a tensor that
    stayed unknown in any.
    """
    if any(name not in tried.shapes for tried in trials):
        return None
    axes = zip(*(tried.shapes[name].dims for tried in trials), strict=True)
    return tuple(sizes[0] if len(set(sizes)) == 1 else None for sizes in axes)


def settle(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy where a Reshape with at most one open axis in its output reads a stored shape."""
    settled = onnx.ModelProto()
    settled.CopyFrom(model)
    trials = [run(model, size) for size in BATCHES]
    stored = {tensor.name for tensor in settled.graph.initializer}
    for node in settled.graph.node:
        if node.op_type != "Reshape" or node.input[1] in stored:
            continue
        dims = common(trials, node.output[0])
        if dims is not None and dims.count(None) <= 1 and 0 not in dims:
            node.input[1] = f"{node.output[0]}_settled_shape"
            shape = np.array([-1 if size is None else size for size in dims], np.int64)
            settled.graph.initializer.append(numpy_helper.from_array(shape, node.input[1]))
    return settled


def _of_batch(model: onnx.ModelProto, size: int) -> dict[str, tuple[int | None, ...]]:
    inputs = tensors.inputs(model.graph)
    batch = {spec.shape[0] for spec in inputs if spec.shape and isinstance(spec.shape[0], str)}
    return {
        spec.name: tuple(
            axis if isinstance(axis, int) else size if at == 0 or axis in batch else None
            for at, axis in enumerate(spec.shape)
        )
        for spec in inputs
    }


def _computed(model: onnx.ModelProto, known: Shapes, values: Mapping[str, Array]) -> dict[str, Array]:
    """Values of nodes that read nothing but shapes and small constants, in the order of the graph."""
    found: dict[str, Array] = {}
    for node in model.graph.node:
        if node.op_type == "Shape" and node.input[0] in known:
            dims = known[node.input[0]].dims
            found[node.output[0]] = np.array(dims[_part(node)], np.int64)
        elif node.op_type in _OF_SHAPES:
            feeds = {name: found.get(name, values.get(name)) for name in walk.reads(node)}
            if all(array is not None for array in feeds.values()):
                found[node.output[0]] = evaluate(model, node, feeds)
    return found


def _part(node: onnx.NodeProto) -> slice:
    """Of the shape, what a Shape gives since operator set 15."""
    start: Any = walk.attribute(node, "start", 0)
    end: Any = walk.attribute(node, "end")
    return slice(start, end)


def evaluate(model: onnx.ModelProto, node: onnx.NodeProto, feeds: Mapping[str, Any]) -> Array:
    """By ONNX's own definition of the operator."""
    values = [onnx.ValueInfoProto(name=name) for name in (*feeds, node.output[0])]
    graph = onnx.GraphProto(name="one", node=[node], input=values[:-1], output=values[-1:])
    one = onnx.ModelProto(ir_version=model.ir_version, opset_import=model.opset_import, graph=graph)
    results: Any = ReferenceEvaluator(one).run(None, dict(feeds))
    return np.asarray(results[0])


def _store(graph: onnx.GraphProto, values: Mapping[str, Array]) -> None:
    """As initializers, in the place of the nodes that computed them."""
    nodes = [node for node in graph.node if node.output[0] not in values]
    kept = [onnx.NodeProto.FromString(node.SerializeToString()) for node in nodes]
    del graph.node[:]
    graph.node.extend(kept)
    graph.initializer.extend(numpy_helper.from_array(array, name) for name, array in values.items())
